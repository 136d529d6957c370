"""Events of real daemons: told soon, followed through the death of an API process; what `cluster show` makes of faults."""

import threading
from collections.abc import Iterator

import pytest

from bench.cloud import wait_for
from bench.processes import IMAGE, PlainCloud, running
from ucloud.base.errors import Temporary
from ucloud.client import Client, Json

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainCloud]:
    cloud = PlainCloud(tmp_path_factory.mktemp("events"), hosts=2, apis=2, controls=2, fsync=False, log_level="info")
    with running(cloud):
        yield cloud


class Follower(threading.Thread):
    """Follows the events; `seen` are those that came."""

    def __init__(self, urls: list[str], since: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[Json] = []
        self._client, self._since = Client(urls), since
        self.start()

    def run(self) -> None:
        for event in self._client.follow_events(since=self._since):
            self.seen.append(event)

    def verbs(self, name: str) -> set[str]:
        """Without order: what one writer tells may come up to a second after what another tells."""
        return {event["verb"] for event in self.seen if event["name"] == name}


def run_vm(client: Client, name: str, **wishes: str) -> None:
    _, action = client.create_vm(name, IMAGE, memory_mib=64, **wishes)
    assert client.wait(action, timeout_s=120)["state"] == "success"


def test_a_life_is_told_and_none_of_it_is_missed_when_an_api_process_dies(cloud: PlainCloud) -> None:
    with cloud.client() as client:
        began = client.cluster()["at"]
        follower = Follower(cloud.urls, since=began)
        run_vm(client, "web")
        wait_for(lambda: follower.verbs("web") == {"placed", "starting", "running"}, "the first events")
        cloud.kill("api-1")
        run_vm(client, "db")
        client.wait(client.delete_vm("web"), timeout_s=120)
        told = {"placed", "starting", "running", "told", "killed", "erased", "forgotten"}
        wait_for(lambda: follower.verbs("web") == told, "all events about web")
        wait_for(lambda: follower.verbs("db") == {"placed", "starting", "running"}, "all events about db")
        assert len({event["id"] for event in follower.seen}) == len(follower.seen), "none came twice"
        assert client.explain_vm("db")["summary"].startswith("db is running on h")
        cloud.start("api-1")


def test_a_host_that_falls_silent_is_told_and_cluster_show_says_it(cloud: PlainCloud) -> None:
    with cloud.client() as client:
        wait_for(lambda: findings(client) == [], "a cloud that is well", pause_s=0.5)
        run_vm(client, "alone", host="h2")
        cloud.kill("host-2")
        cloud.kill("lease-2")
        dead = "h2 was declared dead, with "  # one VM or two, as db came to one of both hosts
        wait_for(lambda: any(what.startswith(dead) for what in findings(client)), "h2 to be declared dead", pause_s=0.5)
        wait_for(lambda: client.explain_vm("alone")["waiting_for"]["since"] is not None, "the time since when", pause_s=0.2)
        told = client.explain_vm("alone")
        assert told["phase"] == "unknown"
        wait_for(lambda: {"silent", "declared dead"} <= verbs(client, "alone"), "the news of it", pause_s=0.2)
        cloud.start("lease-2")
        cloud.start("host-2")
        wait_for(lambda: client.explain_vm("alone")["phase"] == "running", "its return", pause_s=0.2)
        wait_for(lambda: "heard" in verbs(client, "alone"), "the news of its return", pause_s=0.2)


def verbs(client: Client, vm: str) -> set[str]:
    return {event["verb"] for event in client.explain_vm(vm)["events"]}


def test_another_leader_and_a_member_of_etcd_that_is_gone_are_said(cloud: PlainCloud) -> None:
    with cloud.client() as client:
        wait_for(lambda: findings(client) == [], "a cloud that is well", pause_s=0.5)
        leaders = client.cluster()["leaders"]
        cloud.kill("control-1")
        cloud.kill("control-2")
        wait_for(lambda: any(what.startswith("nobody leads: scheduler") for what in findings(client)), "no leader", pause_s=0.5)
        cloud.start("control-1")
        wait_for(lambda: findings(client) == [], "a new leader", pause_s=0.5)
        assert client.cluster()["leaders"]["scheduler"] != leaders["scheduler"]
        wait_for(lambda: any(event["verb"] == "leads" for event in client.events(limit=20)), "the news of it", pause_s=0.2)
        cloud.kill("etcd-3")
        wait_for(lambda: [what[:31] for what in findings(client)] == ["the etcd member m2 does not ans"], "it", pause_s=0.5)
        cloud.start("etcd-3")
        wait_for(lambda: findings(client) == [], "a cloud that is well", pause_s=0.5)
        cloud.start("control-2")


def findings(client: Client) -> list[str]:
    try:
        return [finding["what"] for finding in client.cluster()["findings"]]
    except Temporary as error:
        return [error.message]
