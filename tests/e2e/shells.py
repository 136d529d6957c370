"""A shell on a guest's serial line, through the SDK, as a script would use it."""

import re
import secrets
import time
from contextlib import suppress

from ucloud.client import Client

DEADLINE_S = 60.0


class Shell:
    """Of a guest of the image tiny that has booted."""

    def __init__(self, api: Client, vm: str) -> None:
        self._console = api.open_console(vm, take=True)
        self._said = ""
        number = secrets.randbelow(1 << 30)
        self._console.send(b"\r")  # it waits for Enter before there is a shell
        # No prompts and no editing of lines from now on. What is typed before that is ready might get lost.
        loop = 'while read -r line; do eval "$line"; done'
        self._console.send(f"stty -echo; echo shell-$(({number} + 1)); {loop}\r".encode())
        self._until(rf"shell-{number + 1}\r\n")

    def close(self) -> None:
        self._console.close()

    def run(self, command: str) -> tuple[int, str]:
        """Its exit status, and what it said."""
        start, end = (f"{word}-{secrets.token_hex(4)}" for word in ("start", "end"))
        self._console.send(f"echo {start}; {command}; echo {end}-$?\n".encode())
        found = self._until(rf"{start}\r\n(.*){end}-(\d+)\r\n")
        return int(found[2]), found[1]

    def pings(self, address: str) -> bool:
        return self.run(f"ping -6 -c 1 -W 1 {address}")[0] == 0

    def _until(self, pattern: str) -> re.Match[str]:
        until_s = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self._said, re.DOTALL)):
            left_s = until_s - time.monotonic()
            assert left_s > 0, f"no {pattern!r}, but: {self._said}"
            with suppress(TimeoutError):
                self._said += self._console.receive(left_s).data.decode(errors="replace")
        self._said = ""
        return found
