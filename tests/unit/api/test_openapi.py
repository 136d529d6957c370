"""The API's description: whole, valid, and the same as what is checked; and the page that shows it."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.unit.api.cloud import Cloud
from ucloud.api.describe import describe
from ucloud.base.errors import Error


@pytest.fixture
def openapi(cloud: Cloud) -> dict[str, Any]:
    return cloud.ok("GET", "/openapi.json")


def test_every_route_describes_itself(cloud: Cloud) -> None:
    views = {rule.endpoint: cloud.app.view_functions[rule.endpoint] for rule in cloud.app.url_map.iter_rules()}
    assert len(views) > 20
    assert [name for name, view in views.items() if not isinstance(getattr(view, "description", None), describe)] == []


def test_it_is_valid_and_has_every_route(cloud: Cloud, openapi: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(openapi).validate()
    told = {(method, path) for path, item in openapi["paths"].items() for method in item}
    methods = {
        (method.lower(), re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule.rule))
        for rule in cloud.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert told == methods
    ids = [operation["operationId"] for item in openapi["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_rules_defaults_and_descriptions_of_fields_are_told(openapi: dict[str, Any]) -> None:
    create = openapi["components"]["schemas"]["VmCreate"]
    assert (create["required"], create["additionalProperties"]) == (["name", "image"], False)
    assert "1 to 63 of a-z" in create["properties"]["name"]["description"]
    assert create["properties"]["cpus"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1024,
        "default": 1,
        "description": "virtual cores; must be a whole number from 1 to 1024",
        "examples": [2],
    }
    parameters = {p.get("name"): p for p in openapi["paths"]["/v1/vms"]["get"]["parameters"]}
    assert (parameters["limit"]["schema"]["maximum"], parameters["limit"]["schema"]["default"]) == (1000, 100)
    assert "default" not in parameters["label"]["schema"]


def test_headers_and_errors_are_told(openapi: dict[str, Any]) -> None:
    def names(operation: dict[str, Any]) -> set[str]:
        return {p["$ref"].rpartition("/")[2] for p in operation["parameters"] if "$ref" in p}

    vm, vms = openapi["paths"]["/v1/vms/{reference}"], openapi["paths"]["/v1/vms"]
    assert "Idempotency-Key" in names(vms["post"])
    assert "If-Match" in names(vm["patch"])
    assert set(vm["get"]["responses"]["200"]["headers"]) == {"ETag", "X-Request-Id", "X-Ucloud-Version"}
    assert set(vm["patch"]["responses"]) == {"200", "403", "404", "409", "412", "413", "415", "422", "503"}
    assert "507" in vms["post"]["responses"]
    errors = openapi["components"]["responses"]
    assert "Retry-After" in errors["Error503"]["headers"]
    codes = {code for e in errors.values() for code in all_codes(e)}
    assert codes > {kind.code for kind in Error.__subclasses__()}


def all_codes(error: dict[str, Any]) -> list[str]:
    (content,) = error["content"].values()
    codes: list[str] = content["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]
    return codes


def test_the_page_is_whole_and_needs_nothing_else(cloud: Cloud, openapi: dict[str, Any]) -> None:
    response = cloud.http.get("/docs")
    page, policy = response.text, response.headers["Content-Security-Policy"]
    assert response.mimetype == "text/html"
    for path, item in openapi["paths"].items():
        assert path in page
        for operation in item.values():
            assert f'id="{operation["operationId"]}"' in page
    assert "<script" not in page
    assert " src=" not in page
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'")
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))


def test_examples_of_the_page_are_true(cloud: Cloud) -> None:
    cloud.add_image("tiny")
    body = re.search(r"/v1/vms&#39; .*?-d &#39;(.*?)&#39;", cloud.http.get("/docs").text, re.DOTALL)
    assert body
    cloud.ok("POST", "/v1/vms", status=202, json=json.loads(body[1].replace("&#34;", '"')))
