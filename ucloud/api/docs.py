"""GET /docs: the API's description as a page. Made whole on the server: no scripts, nothing from elsewhere."""

import base64
import hashlib
import json
from typing import Any

from flask import Blueprint, Response, current_app, render_template_string

from ucloud.api.describe import describe
from ucloud.api.openapi import Json, document

routes = Blueprint("docs", __name__)

STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc } h3 { margin-bottom: 0 }
code, pre { font-family: monospace; font-size: 14px; background: #f3f3f3 } pre { padding: .5em; overflow-x: auto }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .2em .8em .2em 0 }
.method { display: inline-block; min-width: 4.5em; font-weight: bold }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } code, pre { background: #2b2b2b } a { color: #8bf }
}
"""
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ucloud API {{ version }}</title><style>{{ style | safe }}</style></head><body>
<h1>ucloud API {{ version }}</h1>
<p>{{ about }} <a href="/openapi.json">openapi.json</a> says the same to programs.</p>
<ul>{% for noun in nouns %}<li><a href="#{{ noun }}">{{ noun }}</a>{% endfor %}</ul>
{% for noun, operations in nouns.items() %}<h2 id="{{ noun }}">{{ noun }}</h2>
{% for o in operations %}<h3 id="{{ o.id }}">{{ o.summary }}</h3>
<p><code><span class="method">{{ o.method }}</span> {{ o.path }}</code></p>
{% if o.text %}<p>{{ o.text }}</p>{% endif %}
{% for title, rows in o.tables %}{% if rows %}<table><tr><th>{{ title }}<th>type<th>rule
{% for row in rows %}<tr><td><code>{{ row.name }}</code>{{ " (required)" if row.required }}<td>{{ row.type }}<td>{{ row.text }}
{% endfor %}</table>{% endif %}{% endfor %}
<pre>{{ o.example }}</pre>
<p>{% for answer in o.answers %}<b>{{ answer.status }}</b> {{ answer.text }}{% if answer.schema %}:
<a href="#{{ answer.schema }}">{{ answer.schema }}</a>{% endif %}{{ "; " if not loop.last }}{% endfor %}</p>
{% endfor %}{% endfor %}
<h2 id="answers">Answers</h2>
{% for name, rows in schemas.items() %}<h3 id="{{ name }}">{{ name }}</h3>
<table><tr><th>field<th>type<th>meaning
{% for row in rows %}<tr><td><code>{{ row.name }}</code><td>{{ row.type }}<td>{{ row.text }}
{% endfor %}</table>{% endfor %}
</body></html>
"""


@routes.get("/docs")
@describe("This page", answer="text/html")
def get_docs() -> Response:
    response = Response(render_template_string(PAGE, style=STYLE, **content(document(current_app))), mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


def content(openapi: Json) -> Json:
    nouns: dict[str, list[Json]] = {}
    schemas = openapi["components"]["schemas"]
    asked: set[str] = set()
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            asked |= {_name(body["schema"])} if body else set()
            shown = _operation(openapi, path, method.upper(), operation, schemas[_name(body["schema"])] if body else {})
            nouns.setdefault(operation["tags"][0], []).append(shown)
    return {
        "version": openapi["info"]["version"],
        "about": openapi["info"]["description"],
        "nouns": nouns,
        "schemas": {name: _rows(schema) for name, schema in schemas.items() if name not in asked},
    }


def _operation(openapi: Json, path: str, method: str, operation: Json, body: Json) -> Json:
    parameters = [_resolved(openapi, parameter) for parameter in operation["parameters"]]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "text": operation["description"],
        "tables": [
            ("field", _rows(body)),
            ("parameter", [_row(p["name"], p["schema"] | p, False) for p in parameters if p["in"] == "query"]),
            ("header", [_row(p["name"], p["schema"] | p, False) for p in parameters if p["in"] == "header"]),
        ],
        "example": _example(path, method, operation, body),
        "answers": [
            {"status": status, "text": answer["description"], "schema": _answer_schema(answer)}
            for status, answer in ((s, _resolved(openapi, a)) for s, a in operation["responses"].items())
        ],
    }


def _example(path: str, method: str, operation: Json, body: Json) -> str:
    line = f"curl -X {method} " if method != "GET" else "curl "
    line += f"'http://localhost:8642{path}'"
    if "application/octet-stream" in operation.get("requestBody", {}).get("content", {}):
        return f"{line} -T FILE"
    if not body:
        return line
    fields = {name: schema["examples"][0] for name, schema in body["properties"].items() if "examples" in schema}
    needed = {name: value for name, value in fields.items() if name in body.get("required", list(fields)[:1])}
    return f"{line} -H 'Content-Type: application/json' \\\n     -d '{json.dumps(needed)}'"


def _rows(schema: Json) -> list[Json]:
    required = schema.get("required", [])
    return [_row(name, field, name in required) for name, field in schema.get("properties", {}).items()]


def _row(name: str, schema: Json, required: bool) -> Json:
    default = f"; by default {json.dumps(schema['default'])}" if schema.get("default") not in (None, "") else ""
    return {"name": name, "type": _type(schema), "text": schema.get("description", "") + default, "required": required}


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return _name(schema)
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _answer_schema(answer: Json) -> str:
    schema = answer["content"].get("application/json", {}).get("schema", {})
    return _name(schema) if "$ref" in schema else ""


def _name(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _resolved(openapi: Json, value: Any) -> Json:
    if "$ref" not in value:
        return dict(value)
    found: Any = openapi
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
