"""The explanation of a VM as JSON; what it says in words is tests/golden/explain."""

from tests.unit.api.cloud import Cloud
from ucloud.base.clock import parse_timestamp, timestamp
from ucloud.base.ids import ulid
from ucloud.model.event import Event


def test_each_step_from_what_is_wanted_to_what_runs(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    cloud.add_image()
    web, _ = cloud.add_vm("web", cpus=2)
    cloud.run(web, host)
    told = cloud.ok("GET", "/v1/vms/web/explain")
    assert told["id"] == web
    assert told["summary"] == "web is running on h1."
    assert (told["wanted"]["cpus"], told["wanted"]["power"], told["wanted"]["image"]) == (2, "on", "tiny")
    assert (told["placement"]["host"], told["placement"]["epoch"]) == ("h1", 1)
    assert (told["manifest"]["want"], told["manifest"]["is_current"]) == ("running", True)
    assert (told["status"]["phase"], told["status"]["is_current"]) == ("running", True)
    assert told["waiting_for"] is None


def test_one_that_nobody_has_looked_at_yet(cloud: Cloud) -> None:
    cloud.add_image()
    cloud.add_vm("web")
    told = cloud.ok("GET", "/v1/vms/web/explain")
    assert (told["placement"], told["manifest"], told["status"], told["events"]) == (None, None, None, [])
    assert told["waiting_for"]["who"] == "scheduler"


def test_events_of_others_and_of_its_host_before_it_came_are_left_out(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    cloud.add_image()
    web, _ = cloud.add_vm("web")
    cloud.place(web, host)

    def tell(s: float, verb: str, about: str, writer: str = "scheduler") -> None:
        time = timestamp(made_s + s)
        cloud.put(Event(id=ulid(made_s + s), writer=writer, time=time, verb=verb, about=about, reason="because"))

    made_s = parse_timestamp(cloud.ok("GET", "/v1/vms/web")["vm"]["created"])
    tell(-1, "silent", f"host/{host}")
    tell(2, "placed", f"vm/{web}")
    tell(3, "placed", "vm/vm-other")
    tell(4, "running", f"vm/{web}", host)
    tell(5, "silent", f"host/{host}")
    tell(6, "reports", f"host/{host}", host)
    tell(7, "heard", f"host/{host}", host)  # what it says of itself is no proof
    assert [event["verb"] for event in cloud.ok("GET", "/v1/vms/web/explain")["events"]] == ["placed", "running", "silent"]


def test_what_a_host_tells_that_makes_no_sense_is_left_out(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    cloud.add_image()
    web, _ = cloud.add_vm("web")
    cloud.run(web, host)
    s = parse_timestamp(cloud.ok("GET", "/v1/vms/web")["vm"]["created"]) + 1
    for time in ("yesterday", timestamp(s)):
        cloud.put(Event(id=ulid(s), writer=host, time=time, verb=time, about=f"vm/{web}", reason="because"))
    assert [event["verb"] for event in cloud.ok("GET", "/v1/vms/web/explain")["events"]] == [timestamp(s)]


def test_there_is_nothing_to_explain(cloud: Cloud) -> None:
    cloud.refused(404, "GET", "/v1/vms/nobody/explain")


def test_since_when_a_host_is_silent_is_told_by_events(cloud: Cloud) -> None:
    host = cloud.add_host("h1")
    cloud.add_image()
    web, _ = cloud.add_vm("web")
    cloud.run(web, host)
    cloud.store.commit(deletes=[f"alive/{host}"])
    cloud.catch_up()

    def tell(s: float, verb: str) -> None:
        time = f"2026-11-22T15:00:0{s:.0f}.000Z"
        cloud.put(Event(id=ulid(s), writer="scheduler", time=time, verb=verb, about=f"host/{host}", reason="because"))

    def since() -> object:
        return cloud.ok("GET", "/v1/vms/web")["vm"]["waiting_for"]["since"]

    assert since() is None
    tell(1, "silent")
    assert since() == "2026-11-22T15:00:01.000Z"
    tell(2, "heard")
    assert since() is None, "it fell silent again while nobody watched"
