"""A browser on a machine that reaches the API may show pages of anybody."""

import pytest

from tests.unit.api.cloud import Cloud


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8642", "[::1]:8642", "[fd00::1]", "127.0.0.1:8642"])
def test_the_api_is_asked_for_by_address(cloud: Cloud, host: str) -> None:
    assert cloud.http.get("/v1/vms", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "localhost.evil.example", "::1", "[::1].evil.example", "a"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(cloud: Cloud, host: str) -> None:
    response = cloud.http.get("/v1/vms", headers={"Host": host})
    assert (response.status_code, response.json["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "http://[::1", "file://"])
def test_pages_of_others_do_nothing(cloud: Cloud, origin: str) -> None:
    cloud.add_image()
    cloud.add_vm()
    response = cloud.http.post("/v1/vms/web/actions/stop", headers={"Host": "localhost", "Origin": origin})
    assert response.status_code == 403
    assert cloud.http.get("/v1/vms/web").json["vm"]["power"] == "on"
