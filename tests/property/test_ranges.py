"""IPv4 ranges that people ask for, whichever and in whatever order: none overlaps another, and none is refused without need."""

from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.api.cloud import Cloud

PLACES = [int(IPv4Network(text).network_address) for text in ("10.0.0.0/8", "10.1.0.0/16", "172.16.0.0/16", "192.168.0.0/16")]


@st.composite
def ranges(draw: st.DrawFn) -> IPv4Network:
    """Near each other, so that they meet."""
    place, length = draw(st.sampled_from(PLACES)), draw(st.integers(16, 29))
    return IPv4Network((place + draw(st.integers(0, 1 << 10)), length), strict=False)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(ranges(), max_size=8))
def test_no_range_overlaps_another(wanted: list[IPv4Network], cloud: Cloud) -> None:
    had: list[IPv4Network] = []
    for number, range in enumerate(wanted):
        answer = cloud.http.post("/v1/networks", json={"name": f"net{number}", "ipv4": str(range)})
        assert answer.status_code == (422 if any(range.overlaps(other) for other in had) else 201), answer.text
        had += [range] if answer.status_code == 201 else []
    for item in cloud.store.list("network/").items:
        cloud.ok("DELETE", f"/v1/networks/{item.key.removeprefix('network/')}", status=202)
    assert cloud.store.list("unique/").items == ()
    cloud.catch_up()
