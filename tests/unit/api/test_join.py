"""/v1/join-tokens, /v1/join, and removing hosts."""

import hashlib
from typing import Any

from tests.unit.api.cloud import NOW, UNDERLAY, Cloud
from ucloud.model.host import Alive, Fence, Host, JoinToken
from ucloud.store.contract import Item

ADDRESS = UNDERLAY.replace("::/64", "::4")


def token(cloud: Cloud, name: str = "h4") -> str:
    return str(cloud.ok("POST", "/v1/join-tokens", json={"name": name}, status=201)["token"])


def join(cloud: Cloud, token: str, key: str = "k1") -> dict[str, Any]:
    headers = {"Idempotency-Key": key}
    return cloud.ok("POST", "/v1/join", json={"token": token, "address": ADDRESS}, headers=headers, status=201)


def refused(cloud: Cloud, status: int, token: str, address: str = ADDRESS) -> str:
    error = cloud.refused(status, "POST", "/v1/join", json={"token": token, "address": address})
    return str(error["message"])


def tokens(cloud: Cloud) -> list[Item]:
    return list(cloud.store.list(JoinToken.prefix).items)


def dead(cloud: Cloud, host: str) -> None:
    """Silent, and declared dead."""
    cloud.store.commit({}, [Alive.at(host)])
    cloud.put(Fence(host=host, number=1, boot="", phase="fenced", since=NOW, reason="its lease ran out"))
    cloud.catch_up()


def test_a_token_makes_one_host(cloud: Cloud) -> None:
    given = token(cloud)
    (kept,) = tokens(cloud)
    assert given.encode() not in kept.value
    assert hashlib.sha256(given.encode()).hexdigest() in kept.key
    joined = join(cloud, given)
    assert joined["name"] == "h4"
    assert cloud.read(Host, Host.at(joined["id"])).name == "h4"
    assert joined["settings"]["ttl_s"] == 2.0
    assert joined["settings"]["network"]["underlay"] == [UNDERLAY]
    assert not tokens(cloud)
    assert "used already" in refused(cloud, 403, given)
    assert join(cloud, given) == joined, "whose answer was lost asks again with the same Idempotency-Key"
    cloud.catch_up()
    assert [host["name"] for host in cloud.ok("GET", "/v1/hosts")["hosts"]] == ["h4"]


def test_who_asks_again_when_the_host_was_removed_needs_another_token(cloud: Cloud) -> None:
    given = token(cloud)
    id = join(cloud, given)["id"]
    cloud.ok("DELETE", f"/v1/hosts/{id}", status=202)
    body, headers = {"token": given, "address": ADDRESS}, {"Idempotency-Key": "k1"}
    for _ in range(2):
        error = cloud.refused(403, "POST", "/v1/join", json=body, headers=headers)
        assert "was removed; ask for another token: ucloud host add NAME" in error["message"]
        cloud.store.commit({}, [Host.at(id)])


def test_tokens_that_are_refused(cloud: Cloud) -> None:
    assert "not one of this cloud" in refused(cloud, 403, "foreign")
    cloud.put(JoinToken(sha256=hashlib.sha256(b"old").hexdigest(), name="h4", created=NOW, expires="2020-01-01T00:00:00.000Z"))
    assert "was good until 2020-01-01T00:00:00.000Z" in refused(cloud, 403, "old")
    given = token(cloud)
    assert UNDERLAY in refused(cloud, 422, given, "fd00:beef::4")
    assert "IPv6 address" in refused(cloud, 422, given, "10.0.0.4")
    assert join(cloud, given)["name"] == "h4", "what was refused has not used the token"


def test_no_two_hosts_of_one_name(cloud: Cloud) -> None:
    first, second = token(cloud), token(cloud)
    join(cloud, first)
    assert "h4 already" in refused(cloud, 409, second)
    cloud.refused(409, "POST", "/v1/join-tokens", json={"name": "h4"})
    cloud.refused(422, "POST", "/v1/join-tokens", json={"name": "H 4"})


def test_a_host_that_is_down_and_empty_is_removed(cloud: Cloud) -> None:
    id = cloud.add_host("h1")
    assert "h1 is alive: ucloud host disable h1" in cloud.refused(409, "DELETE", "/v1/hosts/h1")["message"]
    dead(cloud, id)
    assert cloud.ok("DELETE", "/v1/hosts/h1", status=202)["host"]["id"] == id
    removed = cloud.read(Host, Host.at(id))
    assert removed.removed_at
    assert not removed.lost
    cloud.ok("DELETE", "/v1/hosts/h1", status=202)
    assert cloud.read(Host, Host.at(id)) == removed, "asked for again it stays as it is"
    cloud.refused(404, "DELETE", "/v1/hosts/h9")


def test_a_host_with_vms_is_not_removed_unless_it_is_lost(cloud: Cloud) -> None:
    id = cloud.add_host("h1")
    cloud.add_image()
    for number in range(12):
        vm, _ = cloud.add_vm(f"web{number}", memory_mib=16)
        cloud.run(vm, id)
    cloud.store.commit({}, [Alive.at(id)])
    cloud.catch_up()
    error = cloud.refused(409, "DELETE", "/v1/hosts/h1")
    assert len(error["details"]["vms"]) == 10
    assert "and 2 more" in error["message"]
    assert "--lost" in error["message"]
    assert "was not declared dead yet" in cloud.refused(409, "DELETE", "/v1/hosts/h1?lost=true")["message"]
    dead(cloud, id)
    assert cloud.ok("DELETE", "/v1/hosts/h1?lost=true", status=202)["host"]["vms"] == 12
    assert cloud.read(Host, Host.at(id)).lost
