"""What the methods of the SDK share, whichever noun they are about: paths, pages, and the parts of an answer."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote

import httpx

from ucloud.base.errors import Error, NotFound, PreconditionFailed
from ucloud.base.ids import is_id
from ucloud.client.transport import Transport

Json: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[str], None]

PAGE = 500
TRIES = 8  # of a change, when others change the same thing


class Calls:
    """`addresses`: API servers, each unix:/PATH, http://… or https://…; tried in turn.

    patience_s: how long a request is repeated that no server can carry out now. on_silence: called with the reason when a
    request has waited for 2 s. on_version: called once, with the version of the server. Both may be called by any thread.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        patience_s: float = 30.0,
        on_silence: Tell | None = None,
        on_version: Tell | None = None,
    ) -> None:
        self._transport = Transport(addresses, patience_s, on_silence=on_silence, on_version=on_version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def _all(self, nouns: str, filters: Mapping[str, str | None]) -> Iterator[Json]:
        """Page by page, as they are asked for."""
        params: dict[str, Any] = {"limit": PAGE} | given(filters)
        while True:
            answer = self._transport.request("GET", f"/v1/{nouns}", params=params)
            yield from part(answer, nouns)
            params["cursor"] = part(answer, "next_cursor")
            if not params["cursor"]:
                return

    def _thing(self, noun: str, reference: str) -> Json:
        found: Json = part(self._get(noun, reference), noun)
        return found

    def _get(self, noun: str, reference: str, below: str = "", patience_s: float | None = None) -> httpx.Response:
        """The thing itself, or what its path has `below` it. Raises NotFound, whose details say of which noun there is none."""
        try:
            return self._transport.request("GET", path_of(noun, reference) + below, patience_s=patience_s)
        except NotFound as error:
            raise NotFound(error.message, {noun: reference} | error.details) from error

    def _delete(self, noun: str, reference: str) -> Json:
        action: Json = part(self._transport.request("DELETE", self._path_by_id(noun, reference)), "action")
        return action

    def _path_by_id(self, noun: str, reference: str) -> str:
        """A request that is repeated must not meet another thing that got the name meanwhile."""
        return path_of(noun, reference if is_id(reference) else self._thing(noun, reference)["id"])

    def _change(self, noun: str, reference: str, changes: Callable[[Json], Json]) -> Json:
        """PATCH by what `changes` makes of the thing as it is, as often as others change it meanwhile."""
        for _ in range(TRIES - 1):
            with contextlib.suppress(PreconditionFailed):
                return self._change_once(noun, reference, changes)
        return self._change_once(noun, reference, changes)

    def _change_once(self, noun: str, reference: str, changes: Callable[[Json], Json]) -> Json:
        answer = self._get(noun, reference)
        thing = part(answer, noun)
        path = path_of(noun, thing.get("id", reference))  # an id, so that a change never meets another thing of that name
        headers = given({"If-Match": answer.headers.get("ETag")})
        changed: Json = part(self._transport.request("PATCH", path, json=changes(thing), headers=headers), noun)
        return changed

    def _post(self, path: str, body: Json) -> httpx.Response:
        return self._transport.request("POST", path, json=body)


def path_of(noun: str, reference: str) -> str:
    """Raises NotFound for what cannot be in a path."""
    if reference in ("", ".", "..") or "/" in reference:  # these mean something else in a URL
        raise NotFound(f"there is no {noun} {reference!r}", {noun: reference})
    return f"/v1/{noun}s/{quote(reference, safe='', errors='replace')}"


def given(values: Mapping[str, Any]) -> Json:
    """Without what was left out."""
    return {name: value for name, value in values.items() if value is not None}


def part(answer: httpx.Response, name: str) -> Any:
    """One field of an answer. Raises Error if that is not what a ucloud API answers."""
    try:
        return answer.json()[name]
    except (ValueError, KeyError, TypeError):
        address = answer.request.url
        raise Error(f"what {address} answers is not understood: {answer.text[:60]!r} has no {name!r}") from None
