"""`world` runs a test on memory and on etcd; the tests of one contract don't know which it is."""

from collections.abc import Iterator

import pytest
from etcd_cluster import EtcdCluster
from world import ManualClock, World, wait_until_up

from ucloud.base.clock import SystemClock
from ucloud.store.etcd import EtcdStore
from ucloud.store.memory import MemoryStore


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdStore]:
    """One member, shared by all tests of the session."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), members=1)
    store = EtcdStore(cluster.endpoints, SystemClock())
    try:
        wait_until_up(store)
        yield store
    finally:
        store.close()
        cluster.stop()


@pytest.fixture(params=["memory", "etcd"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        clock = ManualClock()
        yield World(MemoryStore(clock), clock)
    else:
        world = World(request.getfixturevalue("etcd"), SystemClock())
        world.clear()
        yield world
