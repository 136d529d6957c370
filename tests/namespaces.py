"""Network namespaces for tests: without a name, gone with all that is in them when they are closed or the process ends.

A thread is in one at a time, with the programs that it starts; `with namespace:` enters it and leaves it again.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

CLONE_NEWNET = 0x40000000
OWN = Path("/proc/thread-self/ns/net")


class Namespace:
    def __init__(self) -> None:
        self._left: list[int] = []
        here = os.open(OWN, os.O_RDONLY)
        try:
            system("unshare", CLONE_NEWNET)
            self.descriptor = os.open(OWN, os.O_RDONLY)
            ip("link set lo up")
        finally:
            system("setns", here, CLONE_NEWNET)
            os.close(here)

    @property
    def path(self) -> str:
        """What `ip link set … netns` takes."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> "Namespace":
        self._left.append(os.open(OWN, os.O_RDONLY))
        system("setns", self.descriptor, CLONE_NEWNET)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        before = self._left.pop()
        system("setns", before, CLONE_NEWNET)
        os.close(before)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Of one that has a name (ip-netns(8)). By the main thread alone: /proc/net is that of its namespace, whoever looks."""
    left, entered = os.open(OWN, os.O_RDONLY), os.open(f"/run/netns/{name}", os.O_RDONLY)
    system("setns", entered, CLONE_NEWNET)
    try:
        yield
    finally:
        system("setns", left, CLONE_NEWNET)
        os.close(left)
        os.close(entered)


class Underlay:
    """Hosts' namespaces, cabled by their interface up0 to one bridge. The addresses are of fd00:aa::/64; the first is ::1."""

    def __init__(self, hosts: int) -> None:
        self.switch = Namespace()
        self.hosts = [Namespace() for _ in range(hosts)]
        with self.switch:
            ip("link add br0 type bridge mcast_snooping 0 forward_delay 0", "link set br0 up")
            for number, host in enumerate(self.hosts, 1):
                ip(f"link add port{number} master br0 type veth peer name up0 netns {host.path}", f"link set port{number} up")
        for number, host in enumerate(self.hosts, 1):
            with host:
                ip("link set up0 up", f"address add {self.address(number)}/64 dev up0 nodad")

    @staticmethod
    def address(number: int) -> str:
        """Of host `number`, from 1 on."""
        return f"fd00:aa::{number:x}"

    def close(self) -> None:
        for namespace in (*self.hosts, self.switch):
            namespace.close()


@contextmanager
def underlay(hosts: int) -> Iterator[Underlay]:
    made = Underlay(hosts)
    try:
        yield made
    finally:
        made.close()


def system(call: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments):
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def ip(*commands: str) -> str:
    """Commands of ip(8), one after the other, in the namespace that this thread is in. Answers what they print."""
    text = "".join(f"{command}\n" for command in commands)
    return subprocess.run(["ip", "-batch", "-"], input=text, capture_output=True, text=True, check=True, timeout=60).stdout
