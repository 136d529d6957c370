"""Requests to one of several API servers. An error answer becomes an error of `ucloud.base.errors`; what can be repeated
is repeated, elsewhere or later, until `patience_s` is over."""

import contextlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from ucloud import __version__
from ucloud.base import errors
from ucloud.base.errors import Error, Invalid, Temporary
from ucloud.client.reason import reason_of

FIRST_PATIENCE_S = 1.0  # nobody ever took a connection of this client: probably there is no cloud, so say so soon
RETRY_S = 0.2
TIMEOUT_S = 75.0  # of silence: longer than the API lets anybody wait
SILENCE_S = 2.0  # a person gets uneasy
SIGN = "X-Request-Id"  # on every answer of a ucloud API


class Unreachable(Temporary):
    """No address answered; `details` says why, by address."""


class TimedOut(Error):
    """The wait is over; the work goes on."""

    code = "timed_out"


def _kinds(kind: type[Error]) -> Iterator[type[Error]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


CODES = {kind.code: kind for kind in _kinds(Error) if kind.__module__ == errors.__name__}


class Transport:
    """Tries `addresses` in turn, beginning with the one that answered last. May be used by several threads at once."""

    def __init__(
        self,
        addresses: Sequence[str],
        patience_s: float = 30.0,
        connect: Callable[[str], httpx.Client] | None = None,
        on_silence: Callable[[str], None] | None = None,
        on_version: Callable[[str], None] | None = None,
    ) -> None:
        assert addresses, "no address"
        self._clients = {address: (connect or _open)(address) for address in addresses}
        self._order = list(self._clients)
        self._patience_s, self._connected = patience_s, False
        self._on_silence, self._on_version = on_silence, on_version

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patience_s: float | None = None,
        wait_s: float = 0,
    ) -> httpx.Response:
        """Every POST carries an Idempotency-Key, its own if none is given, so that all requests can be repeated. wait_s: how
        long the server was asked to wait with its answer."""
        headers = {**({"Idempotency-Key": secrets.token_hex(16)} if method == "POST" else {}), **(headers or {})}
        began_s = time.monotonic()
        with self._uneasy_after(SILENCE_S + wait_s) as told:
            while True:
                try:
                    return self._once(method, path, json=json, params=params, headers=headers)
                except Temporary as error:
                    told.append(_in_short(error))
                    patience = self._patience_s if patience_s is None else patience_s
                    limit_s = patience if self._connected else FIRST_PATIENCE_S
                    pause_s = min(error.retry_s, 5.0) * random.uniform(1.0, 1.3)  # many clients: not all at once
                    if time.monotonic() + pause_s > began_s + limit_s:
                        raise
                    time.sleep(pause_s)

    @contextlib.contextmanager
    def _uneasy_after(self, delay_s: float) -> Iterator[list[str]]:
        """What is put into the list are reasons; the last one is told."""
        told = [f"no answer for {delay_s:g} s"]
        tell = self._on_silence
        if tell is None:
            yield told
            return
        timer = threading.Timer(delay_s, lambda: tell(told[-1]))
        timer.daemon = True
        timer.start()
        try:
            yield told
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def stream(
        self, path: str, params: dict[str, Any], headers: Mapping[str, str], silence_s: float
    ) -> Iterator[httpx.Response]:
        """An answer that is read as it comes, of the address that answers first. Raises Temporary when it breaks off, or when
        nothing comes for `silence_s`; the caller asks again for what is missing."""
        tried: dict[str, object] = {}
        for address in list(self._order):
            timeout = httpx.Timeout(silence_s, connect=5.0)
            try:
                with self._clients[address].stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
                    if SIGN not in response.headers:
                        tried[address] = "what answers there is no ucloud API"
                        continue
                    self._answered(address, response)
                    if response.status_code >= 400:
                        response.read()
                        raise error_of(response)
                    yield response
                    return
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                tried[address] = reason_of(error, address)
            except httpx.TransportError as error:
                raise Temporary(f"the connection broke: {reason_of(error, address)}", RETRY_S) from error
        raise Unreachable("the API does not answer", RETRY_S, tried)

    def upload(self, path: str, content: Iterator[bytes], size: int) -> None:
        """Not repeated here: the content is used up. Raises Temporary; the caller looks what has become of it."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._once("PUT", path, content=content, headers=headers)

    def _once(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        tried: dict[str, object] = {}
        for address in list(self._order):
            try:
                response = self._clients[address].request(method, path, **arguments)
            except UnicodeEncodeError:
                raise Invalid("there is text in it that is not valid Unicode") from None
            except httpx.TransportError as error:
                tried[address] = reason_of(error, address)
                if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                    continue
                self._connected = True
                if "content" in arguments:
                    break  # the body is used up in part
                continue
            if SIGN not in response.headers:
                tried[address] = f"what answers there is no ucloud API: {response.status_code} {response.reason_phrase}".strip()
                continue
            self._answered(address, response)
            if response.status_code >= 400:
                raise error_of(response)
            return response
        raise Unreachable("the API does not answer", RETRY_S, tried)

    def _answered(self, address: str, response: httpx.Response) -> None:
        self._order = [address, *(other for other in self._order if other != address)]
        self._connected = True
        if self._on_version and (version := response.headers.get("X-Ucloud-Version")):
            tell, self._on_version = self._on_version, None
            tell(version)

    @property
    def address(self) -> str:
        """Of the server that answered last."""
        return self._order[0]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def _in_short(error: Temporary) -> str:
    if not isinstance(error, Unreachable):
        return error.message
    return ", ".join(f"{address}: {reason}" for address, reason in error.details.items())


def _open(address: str) -> httpx.Client:
    headers = {"User-Agent": f"ucloud/{__version__}"}
    timeout = httpx.Timeout(TIMEOUT_S, connect=5.0)
    if address.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"), verify=False)  # no TLS here
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=timeout, headers=headers, trust_env=False)
    # Loading certificates takes longer than a request, so it is left out where none are looked at.
    is_tls = address.startswith("https:")
    return httpx.Client(base_url=address, timeout=timeout, headers=headers, trust_env=False, verify=is_tls)


def error_of(response: httpx.Response) -> Error:
    """The error that the envelope tells of; of a server that sent none, what its status says."""
    message, code, details = f"the API answered {response.status_code} {response.reason_phrase}", "", {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        body = response.json()
        envelope = body["error"]
        message, code, details = str(envelope["message"]), str(envelope["code"]), dict(envelope.get("details") or {})
        if response.status_code == 500:
            message += f" ({body['request_id']})"
    if response.status_code == Temporary.http_status:
        retry_after = response.headers.get("Retry-After", "1")
        return Temporary(message, float(retry_after) if retry_after.isdecimal() else 1.0, details)
    kind = CODES.get(code) or next((k for k in CODES.values() if k.http_status == response.status_code), Error)
    return kind(message, details)
