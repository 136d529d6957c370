"""GET /openapi.json: all of the API as OpenAPI 3.1, made from what each route says of itself with `@describe`.

The rules of fields come from the very types that check them (`ucloud.api.fields`). `ucloud.api.docs` shows it to people.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from flask import Blueprint, Flask, Response, current_app
from msgspec import NODEFAULT, UNSET, Struct
from werkzeug.routing import Rule

from ucloud import __version__
from ucloud.api.body import Field, fields_of, least
from ucloud.api.describe import ErrorAnswer, Gone, Nothing, describe
from ucloud.base.errors import Conflict, Error, Forbidden, Invalid, NotFound, PreconditionFailed, Temporary

Json: TypeAlias = dict[str, Any]

routes = Blueprint("openapi", __name__)

REF = "#/components/schemas/{name}"
ALWAYS: tuple[type[Error], ...] = (Forbidden, Invalid, Temporary)
TOO_LARGE, OTHER_TYPE = 413, 415
BY_HTTP = {
    404: "not_found",
    405: "method_not_allowed",
    TOO_LARGE: "request_entity_too_large",
    OTHER_TYPE: "unsupported_media_type",
}
ABOUT = (
    "Errors are {error: {code, message, details}, request_id}; codes are stable, messages are for people. Every POST may carry"
    " an Idempotency-Key, so that repeating it is harmless. What is accepted with 202 goes on as an action:"
    " GET /v1/actions/{id}?wait=30 tells how it ends."
)
REQUEST_HEADERS = {
    "Idempotency-Key": (
        {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        "The same key with the same request is carried out once only, for 24 h; with another request it is a conflict.",
    ),
    "If-Match": ({"type": "string"}, "Do it only if the thing still has this ETag, else answer 412; * is always true."),
    "X-Request-Id": (
        {"type": "string"},
        "Names the request in the answer and in logs, if it is 1 to 64 of A-Z, a-z, 0-9, ., _ and -.",
    ),
}
ANSWER_HEADERS = {
    "X-Request-Id": "names this request",
    "X-Ucloud-Version": "of the API that answered",
    "ETag": "of what is wanted of the thing; for If-Match",
    "Retry-After": "seconds to wait before asking again",
}


@routes.get("/openapi.json")
@describe("This description", answer="application/json")
def get_openapi() -> Response:
    return Response(msgspec.json.encode(document(current_app)), mimetype="application/json")


def document(app: Flask) -> Json:
    """Made once for each app."""
    made: Json = app.extensions.setdefault("ucloud.openapi", {})
    if not made:
        made |= _document(app)
    return made


def described(app: Flask) -> Iterator[tuple[Rule, describe]]:
    """Every route, in the order of paths."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view: Any = app.view_functions[rule.endpoint]
        yield rule, view.description


def _document(app: Flask) -> Json:
    paths: dict[str, Json] = {}
    bodies: set[type[Struct]] = set()
    answers: set[type[Struct]] = {ErrorAnswer, Gone}
    for rule, said in described(app):
        view = app.view_functions[rule.endpoint]
        method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"}))
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, said, inspect.getdoc(view) or "")
        bodies |= {said.body} - {Nothing}
        answers |= {said.answer} if not isinstance(said.answer, str) else set()
    return {
        "openapi": "3.1.0",
        "info": {"title": "ucloud", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(bodies, answers),
            "responses": {f"Error{status}": _error(status, codes) for status, codes in _codes().items()},
            "headers": {name: _header(name, text) for name, text in ANSWER_HEADERS.items()},
            "parameters": {
                name: {"name": name, "in": "header", "schema": schema, "description": text}
                for name, (schema, text) in REQUEST_HEADERS.items()
            },
        },
    }


def _operation(rule: Rule, method: str, said: describe, text: str) -> Json:
    names = sorted(rule.arguments - set(rule.defaults or {}))
    headers = ["X-Request-Id", *["Idempotency-Key"] * (method == "POST"), *["If-Match"] * said.if_match]
    operation: Json = {
        "operationId": rule.endpoint.replace(".", "_") + ("_all" if rule.defaults else ""),
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": said.summary,
        "description": text,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            *(_query_parameter(name, field) for name, field in fields_of(said.query).items()),
            *({"$ref": f"#/components/parameters/{name}"} for name in headers),
        ],
        "responses": {str(said.status): _answer(said)}
        | {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in _statuses(method, said, bool(names))},
    }
    if said.raw:
        operation["requestBody"] = {"required": True, "content": {said.raw: {"schema": {}}}}
    elif said.body is not Nothing:
        is_required = least(said.body) > 0 or any(field.required for field in fields_of(said.body).values())
        schema = {"$ref": REF.format(name=said.body.__name__)}
        operation["requestBody"] = {"required": is_required, "content": {"application/json": {"schema": schema}}}
    return operation


def _query_parameter(name: str, field: Field) -> Json:
    schema = _ruled(msgspec.json.schema(field.type), field)
    if field.default not in (UNSET, NODEFAULT):
        schema["default"] = field.default
    return {"name": name, "in": "query", "required": field.required, "schema": schema}


def _ruled(schema: Json, field: Field) -> Json:
    """With the rule added to the description."""
    parts = (schema.get("description"), f"must be {field.rule}")
    return schema | {"description": "; ".join(part for part in parts if part)}


def _statuses(method: str, said: describe, has_names: bool) -> list[int]:
    errors = [*ALWAYS, *said.errors]
    errors += [NotFound] * has_names + [Conflict] * (method == "POST") + [PreconditionFailed] * said.if_match
    statuses = {error.http_status for error in errors}
    return sorted(statuses | ({TOO_LARGE, OTHER_TYPE} if method in ("POST", "PATCH") else set()))


def _answer(said: describe) -> Json:
    if isinstance(said.answer, str):
        content: Json = {said.answer: {"schema": {} if "json" in said.answer else {"type": "string"}}}
    else:
        content = {"application/json": {"schema": {"$ref": REF.format(name=said.answer.__name__)}}}
    if said.stream:
        content[said.stream] = {"schema": {"type": "string"}}
    headers = ["X-Request-Id", "X-Ucloud-Version", *["ETag"] * said.tagged]
    return {"description": said.summary, "headers": _header_refs(headers), "content": content}


def _error(status: int, codes: set[str]) -> Json:
    code = {"type": "object", "properties": {"code": {"enum": sorted(codes)}}}
    schema = {"allOf": [{"$ref": REF.format(name="ErrorAnswer")}, {"type": "object", "properties": {"error": code}}]}
    headers = ["X-Request-Id", "X-Ucloud-Version", *["Retry-After"] * (status == Temporary.http_status)]
    return {
        "description": " or ".join(sorted(codes)),
        "headers": _header_refs(headers),
        "content": {"application/json": {"schema": schema}},
    }


def _codes() -> dict[int, set[str]]:
    """All codes of errors, by HTTP status."""
    codes = {status: {code} for status, code in BY_HTTP.items()}
    kinds = list(Error.__subclasses__())
    while kinds:
        kind = kinds.pop()
        codes.setdefault(kind.http_status, set()).add(kind.code)
        kinds += kind.__subclasses__()
    return codes


def _header(name: str, text: str) -> Json:
    return {"description": text, "schema": {"type": "integer" if name == "Retry-After" else "string"}}


def _header_refs(names: list[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _schemas(bodies: set[type[Struct]], answers: set[type[Struct]]) -> Json:
    kinds = sorted(bodies | answers, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    for kind in bodies:
        schema = schemas[kind.__name__]
        schema["additionalProperties"] = False
        if least(kind):
            schema["minProperties"] = least(kind)
        for name, field in fields_of(kind).items():
            schema["properties"][name] = _ruled(schema["properties"][name], field)
    return dict(sorted(schemas.items()))
