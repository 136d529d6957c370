"""What there is of a cloud, in etcd and on its hosts, all at once. For `checker` and `network_checks`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.integration.clouds import Cloud
from ucloud.daemon.network import sets
from ucloud.driver.hypervisor.fake import GuestDirectory, Trace
from ucloud.model.kinds import kind_of
from ucloud.model.record import Record, decode
from ucloud.model.vm import Vm
from ucloud.model.wiring import Thing
from ucloud.store.contract import Store

R = TypeVar("R", bound=Record)


class Found(NamedTuple):
    """A set of a host's network (`ucloud.driver.things`), and what it has."""

    kind: type[Thing]
    name: str
    things: Mapping[str, Thing | None]


class Everything:
    """One look at etcd and at all hosts."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self.records: dict[str, Record] = {}
        self.strange: list[str] = []
        for item in store.list("").items:
            kind = kind_of(item.key)
            if kind is None:
                self.strange.append(item.key)
            else:
                self.records[item.key] = decode(kind, item.value)[0]
        self.vms = {vm.id: vm for vm in self.all(Vm)}
        self.hosts = {id: traces(cloud.guests_dir(name)) for name, id in cloud.host_ids.items()}
        self.wired = {id: wired(cloud, name) for name, id in cloud.host_ids.items()}
        self.disks = {directory.name for directory in (cloud.pool_dir / "disks").iterdir()}

    def all(self, kind: type[R]) -> list[R]:
        return [record for record in self.records.values() if isinstance(record, kind)]


def traces(directory: Path) -> Mapping[str, Trace]:
    return dict(GuestDirectory(directory))


def wired(cloud: Cloud, host: str) -> list[Found]:
    with cloud.hands(host) as hands:
        return [Found(kind, driver.name, driver.actual()) for kind, driver in sets(hands)]
