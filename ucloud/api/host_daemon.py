"""Asking the daemon of a VM's host for what is only there: logs and consoles. It may have been taken over, so nothing that it
says is believed."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import httpcore
import httpx

from ucloud.api.phase import Sight
from ucloud.api.records import get
from ucloud.api.services import services
from ucloud.base.errors import Temporary
from ucloud.model.host import Endpoint

URL = re.compile(r"http://\[[0-9a-f:]+\]:[0-9]{1,5}")
CONNECT_S = 5.0
RETRY_S = 2.0


class Address(NamedTuple):
    url: str
    token: str


@contextmanager
def asking(
    sight: Sight, what: str, url: str, patience_s: float = 5.0, headers: Mapping[str, str] = {}
) -> Iterator[httpx.Response]:
    """`url`: below that of the daemon. Raises Temporary when it cannot be reached, refuses, or falls silent for `patience_s`
    also within the block. Only of a VM that is placed."""
    address = _address(sight, what)
    given = {"Authorization": f"Bearer {address.token}", **headers}
    timeout = httpx.Timeout(patience_s, connect=CONNECT_S)
    try:
        with services().hosts.stream("GET", address.url + url, headers=given, timeout=timeout) as response:
            if response.status_code >= 400:
                response.raise_for_status()
            if "Content-Encoding" in response.headers:  # a little that unpacks to a lot
                raise httpx.DecodingError("not asked for", request=response.request)
            yield response
    except httpx.HTTPStatusError as error:
        raise Temporary(f"{what} is on {sight.host_name}, which refuses it ({error.response.status_code})", RETRY_S) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpcore.NetworkError, httpcore.TimeoutException) as error:
        why = f"does not answer ({type(error).__name__})"
        raise Temporary(f"{what} is on {sight.host_name}, which {why}", RETRY_S) from error


def _address(sight: Sight, what: str) -> Address:
    assert sight.placement, sight.vm.key
    endpoint = get(Endpoint, Endpoint.at(sight.placement.host, "endpoint"))
    if endpoint is None:
        raise Temporary(f"{what} is on {sight.host_name}, which has not said yet where it can be reached", RETRY_S)
    if not URL.fullmatch(endpoint.record.url):
        raise Temporary(f"{what} is on {sight.host_name}, which does not say where it can be reached", RETRY_S)
    return Address(endpoint.record.url, endpoint.record.token.secret)
