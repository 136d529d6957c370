"""Every route says with `@describe` what it takes and what it answers; that is checked, obeyed, and told to the world.

Used by the modules of routes, below Flask's own decorator. From what is said here comes `GET /openapi.json`
(`ucloud.api.openapi`); nothing else describes the API, so that description and behaviour cannot differ.

    @routes.post("/v1/vms")
    @describe("Create a VM", body=VmCreate, answer=VmAccepted, status=202, errors=(Conflict, NoCapacity))
    def create_vm(body: VmCreate) -> VmAccepted: ...
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Response, request
from msgspec import Meta, Struct

from ucloud.api.body import read_body, read_query
from ucloud.api.fields import Id
from ucloud.base.errors import Error
from ucloud.model.record import Fact, Record

View = Callable[..., Any]


class Gone(Struct, frozen=True):
    """What stands for a thing that has been deleted meanwhile."""

    id: Id


class ErrorShown(Struct, frozen=True):
    """What went wrong. code: stable, for programs. details: what is wrong, by field."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorAnswer(Struct, frozen=True):
    error: ErrorShown
    request_id: str


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No field, no parameter."""


@dataclass(frozen=True)
class describe:  # noqa: N801 (it is used as a verb)
    """body, query: what the view gets, as `body` and `query`, unless it is Nothing. answer: a struct, sent as JSON; or a media
    type, where the view answers with a Response of its own. stream: a media type in which it may answer instead. raw: a media
    type, where the view reads the body itself. errors: those of `ucloud.base.errors` that only this route raises. tagged: its
    answer has an ETag. if_match: it is heeded.

    The view's docstring is the longer text of the description: it is for users.
    """

    summary: str
    answer: type[Struct] | str
    status: int = 200
    body: type[Struct] = Nothing
    query: type[Struct] = Nothing
    stream: str = ""
    raw: str = ""
    errors: tuple[type[Error], ...] = ()
    tagged: bool = False
    if_match: bool = False

    def __call__(self, view: View) -> View:
        @functools.wraps(view)
        def described(**arguments: Any) -> Response:
            query = read_query(self.query)
            if self.query is not Nothing:
                arguments["query"] = query
            if request.method in ("POST", "PATCH"):
                body = read_body(self.body)
                if self.body is not Nothing:
                    arguments["body"] = body
            result = view(**arguments)
            return result if isinstance(result, Response) else reply(result, self.status)

        described.description = self  # type: ignore[attr-defined]
        return described


def either(*kinds: str) -> Meta:
    """For a field that holds one of several structs, which msgspec cannot say."""
    return Meta(extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]})


def reply(answer: Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer) + b"\n", status, mimetype="application/json")


def tagged(answer: Struct, fact: Fact[Record]) -> Response:
    """With the ETag of what is wanted of a thing; how it is at the moment may change without it."""
    response = reply(answer)
    response.headers["ETag"] = f'"{fact.revision}"'
    return response
