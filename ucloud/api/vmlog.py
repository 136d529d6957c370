"""A VM's serial log, fetched from the daemon of its host, which may have been taken over: what it says is not believed."""

import re

import httpx
from flask import Response

from ucloud.api.phase import Sight
from ucloud.api.records import get
from ucloud.api.services import services
from ucloud.base.errors import Temporary
from ucloud.model.host import Endpoint

MAX_BYTES = 2 * 1024 * 1024  # hosts show less
DEADLINE_S = 15.0
URL = re.compile(r"http://\[[0-9a-f:]+\]:[0-9]{1,5}")


def fetch(sight: Sight) -> Response:
    """Empty while the VM has not been started. Raises Temporary when the host does not answer."""
    if sight.placement is None or not sight.placed or sight.status is None:
        return _answer(b"", False)
    endpoint = get(Endpoint, Endpoint.at(sight.placement.host, "endpoint"))
    if endpoint is None:
        raise Temporary(f"the log is on {sight.host_name}, which has not said yet where it can be reached", retry_s=2)
    if not URL.fullmatch(endpoint.record.url):
        raise Temporary(f"the log is on {sight.host_name}, which does not say where it can be reached", retry_s=2)
    url = f"{endpoint.record.url}/v1/vm/{sight.vm.record.id}/log"
    try:
        with services().logs.take():
            return _download(url, endpoint.record.token.secret)
    except httpx.HTTPStatusError as error:
        why = f"refuses it ({error.response.status_code})"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"does not answer ({type(error).__name__})"
    raise Temporary(f"the log is on {sight.host_name}, which {why}", retry_s=2)


def _download(url: str, token: str) -> Response:
    clock = services().clock
    deadline_s = clock.monotonic_s() + DEADLINE_S
    with services().hosts.stream("GET", url, headers={"Authorization": f"Bearer {token}"}) as response:
        if response.status_code == 404:
            return _answer(b"", False)
        response.raise_for_status()
        if "Content-Encoding" in response.headers:  # a little that unpacks to a lot
            raise httpx.DecodingError("not asked for", request=response.request)
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if clock.monotonic_s() > deadline_s:
                raise httpx.ReadTimeout(f"more than {DEADLINE_S:.0f} s", request=response.request)
            if len(data) > MAX_BYTES:
                return _answer(bytes(data[-MAX_BYTES:]), True)
        return _answer(bytes(data), response.headers.get("X-Log-Truncated") == "true")


def _answer(data: bytes, truncated: bool) -> Response:
    headers = {"X-Log-Truncated": "true" if truncated else "false"}
    return Response(data, mimetype="text/plain", headers=headers)
