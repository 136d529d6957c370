"""Every route, with good and bad input made from the API's own description, and all checks of schemathesis on the answers: no
error of the server but 503 and 507, nothing that is not described, bad input refused and good input taken."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from tests.unit.api.cloud import UNDERLAY, Cloud
from tests.unit.api.pubkeys import KEYS
from ucloud.api.app import create_app
from ucloud.api.services import Services

CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503, 507]},
            "positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409", "412", "503", "507"]},
        },
    }
)
NAMES = {"vms": "web", "images": "tiny", "hosts": "h1", "pools": "default", "networks": "default", "keys": "me"}
KNOWN = {"image": "tiny", "host": "h1", "pool": "default", "source": "tiny", "disk_mib": 64}
KNOWN |= {"network": "backend", "networks": ["backend"], "public": False}
KNOWN |= {"keys": ["me"], "key": KEYS[1]}
KNOWN |= {"address": UNDERLAY.replace("::/64", "::4")}
NUMBERS = itertools.count(1)  # of networks: the range of one is good once only
IN_QUERY = {"cursor": "", "about": "vm/web", "since": "2026-11-22T14:51:31Z"}

app = create_app(Services(store=None, view=None, pools=None))  # type: ignore[arg-type]  # it gets those of the fixture
schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=CONFIG)
schema = schema.exclude(path="/v1/vms/{reference}/console")  # a WebSocket, which OpenAPI cannot describe


@pytest.fixture(autouse=True)
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    cloud.add_host()
    cloud.add_image()
    cloud.add_vm("web")
    cloud.ok("POST", "/v1/networks", status=201, json={"name": "backend"})
    cloud.ok("POST", "/v1/keys", status=201, json={"name": "me", "key": KEYS[0]})
    cloud.catch_up()
    app.extensions["ucloud"] = cloud.services
    yield cloud
    cloud.close()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, _: dict[str, Any]) -> None:
    """Good input must refer to things that are there, or it is no good; and a clone is like its source."""
    if case.meta is None or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    noun = case.path.split("/")[2:3]
    if noun and len(str(case.path_parameters.get("reference", "-"))) % 2 == 0:  # not always
        case.path_parameters["reference"] = NAMES[noun[0]]
    case.query.pop("follow", None)
    case.query.update({name: value for name, value in IN_QUERY.items() if name in case.query})
    if isinstance(case.body, dict):
        number = next(NUMBERS)
        known = KNOWN | {"ipv6": f"fd12:3456:789a:{number:x}::/64", "ipv4": f"10.{number % 256}.0.0/24"}
        case.body = case.body | {name: value for name, value in known.items() if name in case.body}
        if "source" in case.body:
            case.body = {name: value for name, value in case.body.items() if name not in ("bytes", "sha256", "pool")}
        elif case.path == "/v1/images":
            case.body = {"bytes": 1, "sha256": "0" * 64} | case.body
        elif "user_data_base64" in case.body:
            case.body = {name: value for name, value in case.body.items() if name != "user_data"}
            case.body |= {"user_data_base64": "I2Nsb3VkLWNvbmZpZwo="}
        elif "fence" in case.body:
            case.body |= {"shared": True}
        elif "confirm_off" in case.body:
            case.body |= {"confirm_off": True}
        elif case.path.endswith("/actions/resize"):
            case.body = {"cpus": 2} | case.body


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_api(case: schemathesis.Case) -> None:
    case.call_and_validate()
