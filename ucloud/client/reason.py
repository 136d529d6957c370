"""Why an address of the API cannot be reached, in words: the transport puts them into `Unreachable`."""

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

WORDS = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ENOENT: "there is no such socket",
    errno.ENOTSOCK: "this file is no socket",
    errno.EACCES: "this user may not use it; try sudo",
    errno.EPERM: "this user may not use it; try sudo",
    errno.EHOSTUNREACH: "there is no way to this machine",
    errno.ENETUNREACH: "there is no way to its network",
    errno.ECONNRESET: "it broke the connection off",
    errno.EPIPE: "it broke the connection off",
}


def reason_of(error: httpx.TransportError, address: str) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS; is it {address.replace('https:', 'http:', 1)}?"
        if isinstance(cause, socket.gaierror):
            return "there is no machine of this name"
        if isinstance(cause, OSError) and cause.errno in WORDS:
            return WORDS[cause.errno]
    if isinstance(error, httpx.TimeoutException):
        return "it does not answer in time"
    if isinstance(error, httpx.RemoteProtocolError):
        return "it broke the connection off, or does not speak HTTP"
    return _without_number(str(error)) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_number(text: str) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", text)
