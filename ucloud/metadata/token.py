"""Tokens of EC2's metadata service (IMDSv2): what a guest that asks for one has to show with its other requests.

They protect a guest from those who can make it ask for a URL, but not send headers. Nothing is stored: a token says until when
it is valid, signed with a secret that ends with the daemon; after that clients are refused it, and ask for another.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

TTL_S = range(1, 21601)  # what may be asked for


class Tokens:
    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._secret, self._now_s = secrets.token_bytes(32), now_s

    def issue(self, vm: str, ttl_s: int) -> str:
        return self._signed(vm, f"{int(self._now_s()) + ttl_s:x}")

    def is_valid(self, vm: str, token: str) -> bool:
        """Whether this VM was given it, and its time is not over."""
        until = token.partition("-")[0]
        return hmac.compare_digest(token.encode(), self._signed(vm, until).encode()) and self._now_s() < int(until, 16)

    def _signed(self, vm: str, until: str) -> str:
        return f"{until}-{hmac.new(self._secret, f'{vm} {until}'.encode(), hashlib.sha256).hexdigest()}"
