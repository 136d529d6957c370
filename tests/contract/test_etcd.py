"""What only a cluster can show: members die, hang and lose each other."""

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_cluster import EtcdCluster
from world import World, wait_until_up

from ucloud.base.clock import SystemClock
from ucloud.base.errors import Temporary
from ucloud.model.decision import absent
from ucloud.store.contract import Batch
from ucloud.store.etcd import EtcdStore
from ucloud.store.etcd_calls import Tls


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path, members=3)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def world(cluster: EtcdCluster) -> Iterator[World]:
    """Its store is fresh when all members answer: so it talks to the first one."""
    for endpoint in cluster.endpoints:
        member = EtcdStore([endpoint], SystemClock())
        wait_until_up(member)
        member.close()
    store = EtcdStore(cluster.endpoints, SystemClock(), timeout_s=3)
    try:
        yield World(store, SystemClock())
    finally:
        store.close()


def test_it_goes_on_when_the_member_that_we_talk_to_dies(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    start = store.commit({"vm/a": b"1"})
    cluster.kill(0)
    item = store.get("vm/a")
    assert item
    assert item.value == b"1"
    lease = store.grant(5)
    assert store.keep_alive(lease) >= 5
    with world.watch({"vm/": start}) as watch:
        world.wait_for(lambda: commits(store, "vm/b"))
        assert len(world.changes(watch, "vm/", 1)) == 1


def commits(store: EtcdStore, key: str) -> bool:
    try:
        store.commit({key: b""})
    except Temporary:
        return False
    return True


def test_a_member_that_hangs_is_left_behind(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    store.commit({"vm/a": b"1"})
    cluster.freeze(0)
    assert store.get("vm/a")
    world.wait_for(lambda: commits(store, "vm/b"))


def test_a_lost_answer_is_temporary_and_may_have_happened(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    store.commit({"vm/a": b"1"})
    cluster.freeze(0)
    with pytest.raises(Temporary):
        store.commit({"vm/b": b""}, requires=[absent("vm/b")])
    world.wait_for(lambda: commits(store, "vm/c"))


def test_without_any_member_every_call_is_temporary(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    lease = store.grant(60)
    for index in range(3):
        cluster.kill(index)
    with pytest.raises(Temporary):
        store.get("vm/a")
    with pytest.raises(Temporary):
        store.list("")
    with pytest.raises(Temporary):
        store.commit({"vm/a": b""})
    with pytest.raises(Temporary):
        store.grant(1)
    with pytest.raises(Temporary):
        store.keep_alive(lease)
    with pytest.raises(Temporary):
        store.revoke(lease)
    with world.watch({"vm/": 1}) as watch, pytest.raises(Temporary):
        world.wait_for(lambda: bool(watch.poll()))
    for index in range(3):
        cluster.start(index)
    wait_until_up(store)
    assert commits(store, "vm/a") or commits(store, "vm/a")


def test_a_watch_on_a_member_without_quorum_breaks(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    start = store.commit({"vm/a": b"1"})
    woken = threading.Event()
    with world.watch({"vm/": start - 1}, woken.set) as watch:
        world.changes(watch, "vm/", 1)
        cluster.kill(1)
        cluster.kill(2)
        woken.clear()
        heard: list[Batch] = []
        with pytest.raises(Temporary):
            world.wait_for(lambda: bool(heard.extend(watch.poll())))
        assert woken.wait(10)
    assert not [batch for batch in heard if batch.changes]


def test_a_watch_on_a_member_that_hangs_breaks(cluster: EtcdCluster, world: World) -> None:
    store = world.store
    start = store.commit({"vm/a": b"1"})
    with world.watch({"vm/": start - 1}) as watch:
        world.changes(watch, "vm/", 1)
        cluster.freeze(0)
        with pytest.raises(Temporary):
            world.wait_for(lambda: bool(watch.poll()) and False)


def test_close_ends_watches_and_calls(world: World) -> None:
    threads = threading.active_count()
    store = world.store
    store.watch({"vm/": 0}, lambda: None)
    store.watch({"host/": 0}, lambda: None)
    store.close()
    world.wait_for(lambda: threading.active_count() <= threads)
    with pytest.raises(Temporary):
        store.get("vm/a")


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificates with openssl")
def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    make_certificate(tmp_path, "ca", "-addext", "basicConstraints=critical,CA:TRUE")
    make_certificate(tmp_path, "member", "-addext", "subjectAltName=IP:::1", signer="ca")
    make_certificate(tmp_path, "client", signer="ca")
    options = {
        "cert-file": tmp_path / "member.crt",
        "key-file": tmp_path / "member.key",
        "trusted-ca-file": tmp_path / "ca.crt",
        "client-cert-auth": "true",
    }
    cluster = EtcdCluster(tmp_path, members=1, scheme="https", options=options)
    ca, certificate, key = ((tmp_path / name).read_bytes() for name in ("ca.crt", "client.crt", "client.key"))
    store = EtcdStore(cluster.endpoints, SystemClock(), tls=Tls(ca, certificate, key))
    anonymous = EtcdStore(cluster.endpoints, SystemClock(), timeout_s=0.5)
    try:
        wait_until_up(store)
        store.commit({"vm/a": b""})
        with pytest.raises(Temporary):
            anonymous.get("vm/a")
    finally:
        store.close()
        anonymous.close()
        cluster.stop()


def make_certificate(directory: Path, name: str, *extensions: str, signer: str = "") -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt", *extensions]
    if signer:
        command += ["-CA", f"{signer}.crt", "-CAkey", f"{signer}.key"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


def test_each_member_speaks_for_itself_also_without_a_quorum(cluster: EtcdCluster, world: World) -> None:
    assert [member.name for member in world.store.members()] == ["m0", "m1", "m2"]
    assert sum(member.leads for member in world.store.members()) == 1
    cluster.kill(0)
    cluster.freeze(1)
    world.wait_for(lambda: not world.store.members()[2].has_leader)
    dead, hanging, alone = world.store.members()
    assert (dead.answers, hanging.answers, alone.answers) == (False, False, True)
    assert dead.error
    assert hanging.error
    assert not alone.leads


def test_a_member_that_is_full_says_so(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path, members=1, options={"quota-backend-bytes": 1 << 20})
    store = EtcdStore(cluster.endpoints, SystemClock())
    try:
        wait_until_up(store)
        with pytest.raises(Temporary):  # etcd looks at its size ten times a second only
            fill(store, until_s=time.monotonic() + 60)
        (member,) = store.members()
        assert member.alarms == ("NOSPACE",)
        assert member.quota_bytes == 1 << 20
    finally:
        store.close()
        cluster.stop()


def fill(store: EtcdStore, until_s: float) -> None:
    for number in itertools.count():
        assert time.monotonic() < until_s, f"etcd took {number} values and is not full"
        store.commit({f"vm/{number % 100}": bytes(50_000)})
