"""Networks over REST: made with ranges of their own, listed, deleted when nobody is on them."""

import threading
from ipaddress import IPv6Network
from typing import Any

import msgspec
import pytest

from tests.unit.api.cloud import NETWORK, PUBLIC, UNDERLAY, Cloud
from ucloud.base.config import Network as Settings
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.network import Network


def create(cloud: Cloud, name: str = "backend", **wishes: Any) -> dict[str, Any]:
    made = cloud.ok("POST", "/v1/networks", status=201, json={"name": name, **wishes})["network"]
    cloud.catch_up()
    return dict(made)


def settle(cloud: Cloud, **settings: Any) -> None:
    changed: Settings = msgspec.structs.replace(NETWORK, **settings)
    object.__setattr__(cloud.services, "network", changed)


@pytest.fixture
def ready(cloud: Cloud) -> Cloud:
    cloud.add_host()
    cloud.add_image()
    return cloud


def test_a_private_network_gets_a_prefix_of_its_own(cloud: Cloud) -> None:
    made = create(cloud, labels={"tier": "back"})
    assert IPv6Network(made["ipv6"]).subnet_of(IPv6Network("fd00::/8"))
    assert IPv6Network(made["ipv6"]).prefixlen == 64
    assert (made["name"], made["public"], made["ipv4"], made["mtu"], made["slaac"]) == ("backend", False, "", 1430, False)
    assert (made["labels"], made["vms"]) == ({"tier": "back"}, 0)
    assert 0 < made["vni"] < 1 << 24
    assert cloud.ok("GET", "/v1/networks/backend")["network"] == {**made, "members": []}
    assert cloud.ok("GET", f"/v1/networks?name={made['id']}")["networks"] == [made]


def test_record_and_claims_stand_or_fall_together(cloud: Cloud) -> None:
    made = create(cloud, ipv4="10.1.0.0/24")
    claims = [
        "unique/network/default/backend",
        f"unique/vni/{made['vni']}",
        f"unique/subnet/{made['ipv6'].removesuffix('/64')}",
        "unique/ipv4/10.1.0.0/24",
    ]
    assert len({cloud.revision(key) for key in (Network.at(made["id"]), *claims)}) == 1
    assert {cloud.read(Unique, key).owner for key in claims} == {made["id"]}
    cloud.ok("DELETE", "/v1/networks/backend", status=202)
    assert cloud.store.list("unique/").items == cloud.store.list("network/").items == ()


def test_public_networks_get_the_prefixes_of_the_operator_in_turn(cloud: Cloud) -> None:
    settle(cloud, public=("2001:db8:0:2::/63",), slaac=True)
    assert [create(cloud, name, public=True)["ipv6"] for name in "ab"] == ["2001:db8:0:2::/64", "2001:db8:0:3::/64"]
    assert create(cloud, "c")["slaac"]
    assert not create(cloud, "d", slaac=False)["slaac"]
    error = cloud.refused(507, "POST", "/v1/networks", json={"name": "e", "public": True})
    assert "[network] public" in error["message"]
    assert cloud.store.list("unique/network/default/e").items == ()
    cloud.ok("DELETE", "/v1/networks/a", status=202)
    assert create(cloud, "e", public=True)["ipv6"] == "2001:db8:0:2::/64"


def test_a_public_network_never_lies_where_the_hosts_are(cloud: Cloud) -> None:
    settle(cloud, public=("2001:db8::/62",), underlay=("2001:db8::/64",), routers=("2001:db8:0:1::1",))
    assert create(cloud, public=True)["ipv6"] == "2001:db8:0:2::/64"


def test_prefixes_are_kept_as_ucloud_writes_them(cloud: Cloud) -> None:
    assert create(cloud, ipv6="FD12:3456:0:0001::0/64")["ipv6"] == "fd12:3456:0:1::/64"
    assert create(cloud, "pub", public=True, ipv6="2001:DB8:0:99::/64")["ipv6"] == "2001:db8:0:99::/64"


@pytest.mark.parametrize(
    ("field", "wishes"),
    [
        *(
            ("ipv6", {"ipv6": text})
            for text in ("", "x", "fd00::", "fd00::/63", "fd00::/65", "fd00::1/64", "fd00::%1/64", 7, None)
        ),
        *(
            ("ipv6", {"ipv6": text})
            for text in ("fe80::/64", "ff05::/64", "::/64", "2001:db9::/64", "fc00::/64", "10.0.0.0/24")
        ),
        ("ipv6", {"ipv6": "2001:db8:0:1::/64"}),
        ("ipv6", {"ipv6": UNDERLAY}),
        ("ipv6", {"ipv6": "fd00:beef::/64"}),
        ("ipv6", {"ipv6": "fd00:cafe::/64"}),
        ("ipv6", {"ipv6": "fd00:ec2::/64"}),
        ("ipv6", {"ipv6": "fd12::/64", "public": True}),
        ("ipv6", {"ipv6": "2001:db9::/64", "public": True}),
        *(
            ("ipv4", {"ipv4": text})
            for text in ("", "x", "10.0.0.1/24", "10.0.0.0/7", "10.0.0.0/30", "10.0.0.0", "10.0.0.0/33", 7)
        ),
        *(("ipv4", {"ipv4": text}) for text in ("8.8.8.0/24", "172.32.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "fd00::/64")),
        ("ipv4", {"ipv4": "10.0.0.0/255.255.255.0"}),
        ("ipv4", {"ipv4": "10.1.0.0/24", "public": True}),
        *(("name", {"name": name}) for name in ("", "Web", "a" * 64, "-a", 7)),
        *((field, {field: "x"}) for field in ("public", "slaac", "labels", "vni", "project", "mtu")),
    ],
)
def test_what_makes_no_sense_names_the_field(cloud: Cloud, field: str, wishes: dict[str, Any]) -> None:
    settle(cloud, resolvers=("fd00:beef::53",), routers=("fd00:cafe::1",))
    error = cloud.refused(422, "POST", "/v1/networks", json={"name": "backend", **wishes})
    assert list(error["details"]) == [field]
    assert cloud.store.list("unique/").items == ()


def test_ranges_do_not_overlap(cloud: Cloud) -> None:
    create(cloud, "a", ipv6="fd12::/64", ipv4="10.1.0.0/16")
    for field, text in (("ipv6", "fd12::/64"), ("ipv4", "10.1.0.0/16"), ("ipv4", "10.1.2.0/24"), ("ipv4", "10.0.0.0/8")):
        error = cloud.refused(422, "POST", "/v1/networks", json={"name": "b", field: text})
        assert list(error["details"]) == [field]
        assert "another network" in error["message"]
    create(cloud, "b", ipv6="fd12:0:0:1::/64", ipv4="10.2.0.0/16")


def test_of_overlapping_ranges_that_are_asked_for_at_once_one_is_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody makes 10.0.0.0/8 after the ranges were listed, and before the commit: their keys differ."""
    commit, others = cloud.store.commit, []

    def race(*arguments: Any, **more: Any) -> int:
        if not others:
            others.append(commit({"unique/ipv4/10.0.0.0/8": b'{"path":"unique/ipv4/10.0.0.0/8","owner":"network-x"}'}))
        return commit(*arguments, **more)

    monkeypatch.setattr(cloud.store, "commit", race)
    error = cloud.refused(422, "POST", "/v1/networks", json={"name": "a", "ipv4": "10.1.0.0/16"})
    assert "10.0.0.0/8" in error["message"]


def test_no_identifier_is_left(cloud: Cloud) -> None:
    settle(cloud, vnis="7-8")
    assert {create(cloud, name)["vni"] for name in "ab"} == {7, 8}
    assert "vnis" in cloud.refused(507, "POST", "/v1/networks", json={"name": "c"})["message"]


def test_a_name_is_given_once(cloud: Cloud) -> None:
    create(cloud)
    assert cloud.refused(409, "POST", "/v1/networks", json={"name": "backend"})["details"] == {"name": "taken"}


def test_many_at_once_all_differ(cloud: Cloud) -> None:
    threads = [threading.Thread(target=create, args=(cloud, f"net{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    networks = cloud.ok("GET", "/v1/networks")["networks"]
    assert len({network["vni"] for network in networks}) == len({network["ipv6"] for network in networks}) == 8


def test_a_repeated_request_makes_no_second_one(cloud: Cloud) -> None:
    headers = {"Idempotency-Key": "once"}
    first = cloud.ok("POST", "/v1/networks", status=201, json={"name": "a"}, headers=headers)
    assert cloud.ok("POST", "/v1/networks", status=201, json={"name": "a"}, headers=headers) == first
    assert len(cloud.store.list("network/").items) == 1
    cloud.ok("DELETE", "/v1/networks/a", status=202)
    assert cloud.ok("POST", "/v1/networks", status=201, json={"name": "a"}, headers=headers)["network"] == {
        "id": first["network"]["id"]
    }


def test_who_is_on_it_is_shown(ready: Cloud) -> None:
    made = create(ready, ipv4="10.1.0.0/24")
    id, _ = ready.add_vm("web", networks=["backend"])
    shown = ready.ok("GET", "/v1/networks/backend")["network"]
    port = ready.ok("GET", "/v1/vms/web")["vm"]["ports"][0]
    assert shown["vms"] == 1
    assert shown["members"] == [
        {"vm": "web", "vm_id": id, "mac": port["mac"], "ipv6": port["ipv6"], "ipv4": port["ipv4"], "allow": []}
    ]
    ready.catch_up()
    assert ready.ok("GET", "/v1/networks")["networks"] == [{**made, "vms": 1}]


def test_more_than_are_shown_are_counted(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud.api.network.SHOWN", 2)
    monkeypatch.setattr("ucloud.api.network.MAX_OPERATIONS", 1)
    create(ready)
    for name in ("a", "b", "c"):
        ready.add_vm(name, networks=["backend"])
    ready.catch_up()
    shown = ready.ok("GET", "/v1/networks/backend")["network"]
    assert (shown["vms"], len(shown["members"])) == (3, 2)


def test_one_that_is_used_is_not_deleted(ready: Cloud) -> None:
    network = create(ready)["id"]
    web, _ = ready.add_vm("web", networks=["backend"])
    leaving, _ = ready.add_vm("leaving", networks=["backend"])
    ready.ok("DELETE", "/v1/vms/leaving", status=202)
    error = ready.refused(409, "DELETE", "/v1/networks/backend")
    assert sorted(error["details"]["used_by"]) == ["leaving (being deleted)", "web"]
    assert "web" in error["message"]
    ready.store.commit({}, [keys.use("network", network, vm) for vm in (web, leaving)])
    answer = ready.ok("DELETE", "/v1/networks/backend", status=202)
    assert answer["network"] == {"id": network}
    assert (answer["action"]["verb"], answer["action"]["state"]) == ("delete", "success")
    assert ready.ok("GET", f"/v1/actions/{answer['action']['id']}")["action"]["state"] == "success"
    ready.refused(404, "GET", f"/v1/networks/{network}")
    ready.refused(404, "DELETE", f"/v1/networks/{network}")


def test_of_many_users_some_are_named(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud.api.uses.NAMED", 1)
    create(ready)
    ready.add_vm("web", networks=["backend"])
    assert ready.refused(409, "DELETE", "/v1/networks/backend")["details"] == {"used_by": ["web"]}
    ready.add_vm("web-2", networks=["backend"])
    named, others = ready.refused(409, "DELETE", "/v1/networks/backend")["details"]["used_by"]
    assert named in ("web", "web-2")
    assert others == "others"


def test_a_vm_that_comes_while_it_is_deleted_keeps_it(ready: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    create(ready)
    commit, made = ready.store.commit, []

    def race(*arguments: Any, **more: Any) -> int:
        if not made:
            made.append(True)
            ready.add_vm("web", networks=["backend"])
        return commit(*arguments, **more)

    monkeypatch.setattr(ready.store, "commit", race)
    assert ready.refused(409, "DELETE", "/v1/networks/backend")["details"] == {"used_by": ["web"]}


def test_only_the_one_that_was_seen_is_deleted(cloud: Cloud) -> None:
    create(cloud)
    tag = cloud.http.get("/v1/networks/backend").headers["ETag"]
    cloud.refused(412, "DELETE", "/v1/networks/backend", headers={"If-Match": '"1"'})
    cloud.ok("DELETE", "/v1/networks/backend", status=202, headers={"If-Match": tag})


def test_an_action_that_never_was(cloud: Cloud) -> None:
    made = create(cloud)
    cloud.refused(404, "GET", f"/v1/actions/{made['id']}.1.delete")
    cloud.refused(404, "GET", f"/v1/actions/{made['id']}.1.create")


def test_public_means_the_prefixes_of_the_operator(cloud: Cloud) -> None:
    assert IPv6Network(create(cloud, public=True)["ipv6"]).subnet_of(IPv6Network(PUBLIC))
