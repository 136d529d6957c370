"""What a host tells its guests of themselves: on the disk that a guest starts with, and to the metadata service, for as long as
the guest is there and as its manifest has it now."""

import msgspec

from tests.unit.host.test_network import DB, ON_DB, ON_WEB, WEB, told
from tests.unit.machine import VM, Machine
from tests.unit.world import blob
from ucloud.base.config import DEFAULTS
from ucloud.host.loop import PERIOD_S
from ucloud.model.key import HostBlob
from ucloud.model.vm import Manifest
from ucloud.model.wiring import Metadata

DOMAIN = DEFAULTS.network.domain
SCRIPT = b"#!/bin/sh\n\x00\xff"
SHA256 = blob(SCRIPT).sha256
HERE = HostBlob(host="host-1", sha256=SHA256, data=SCRIPT)
NAMED = told(ON_WEB, ON_DB, keys=("ssh-ed25519 AAAA me",), user_data=SHA256, metadata={"role": "db"})


def running(manifest: Manifest = NAMED) -> Machine:
    machine = Machine()
    machine.put(HERE, manifest)
    machine.settle()
    assert machine.status
    assert machine.status.phase == "running"
    return machine


def known(machine: Machine) -> dict[str, Metadata | None]:
    return dict(machine.hands.metadata.actual())


def test_each_port_is_known_by_the_addresses_that_only_it_can_use() -> None:
    """Its IPv6 address, the link-local one that its MAC makes, its IPv4 address if it has one."""
    things = known(running())
    one = Metadata(
        vm=VM,
        vni=WEB.vni,
        sources=(ON_WEB.ipv6, "fe80::ff:fe00:10b"),
        name="a",
        domain=f"web.{DOMAIN}",
        keys=NAMED.keys,
        user_data=SCRIPT,
        custom={"role": "db"},
        ports=(ON_WEB, ON_DB),
    )
    other = msgspec.structs.replace(
        one, vni=DB.vni, sources=(ON_DB.ipv6, "fe80::ff:fe00:20b", ON_DB.ipv4), domain=f"db.{DOMAIN}"
    )
    assert things == {f"100/{VM}": one, f"200/{VM}": other}


def test_the_disk_of_a_start_says_what_held_then() -> None:
    machine = running()
    disk = machine.hypervisor.specs[VM].cidata
    assert disk["user-data"] == SCRIPT
    meta = {"instance-id": VM, "local-hostname": "a", "public-keys": ["ssh-ed25519 AAAA me"], "custom": {"role": "db"}}
    assert msgspec.json.decode(disk["meta-data"]) == meta
    config = msgspec.json.decode(disk["network-config"])
    assert [ethernet["match"]["macaddress"] for ethernet in config["ethernets"].values()] == [ON_WEB.mac, ON_DB.mac]
    machine.put(msgspec.structs.replace(NAMED, boots=2, keys=(), user_data=""))
    machine.settle()
    disk = machine.hypervisor.specs[VM].cidata
    assert (disk["user-data"], msgspec.json.decode(disk["meta-data"])["public-keys"]) == (b"", [])


def test_a_guest_that_runs_is_told_what_is_new() -> None:
    machine = running()
    keys = (*NAMED.keys, "ssh-ed25519 BBBB you")
    machine.put(msgspec.structs.replace(NAMED, keys=keys, metadata={}, user_data=""))
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    machine.network.step()
    assert [(thing.keys, thing.custom, thing.user_data) for thing in known(machine).values() if thing] == [(keys, {}, b"")] * 2
    assert machine.boots() == ["fake guest a epoch 1 boots 1"]


def test_on_another_network_it_is_no_longer_known_by_its_former_addresses() -> None:
    machine = running(told(ON_WEB))
    assert list(known(machine)) == [f"100/{VM}"]
    machine.put(told(ON_DB))
    machine.settle()
    assert list(known(machine)) == [f"200/{VM}"]
    machine.put(told(want="absent"))
    machine.settle()
    assert known(machine) == {}


def test_a_daemon_that_died_in_the_middle_of_a_start_leaves_a_guest_that_is_told_all() -> None:
    machine = Machine()
    machine.hands.metadata.fail_next("add")
    machine.put(HERE, NAMED)
    machine.settle()
    assert machine.hypervisor.actual() == {}
    machine.daemon()
    machine.settle()
    assert len(known(machine)) == 2
    assert machine.hypervisor.specs[VM].cidata["user-data"] == SCRIPT


def test_without_its_user_data_no_guest_starts() -> None:
    """It would not ask for it a second time."""
    machine = Machine()
    machine.put(NAMED)
    machine.settle()
    assert (machine.hypervisor.actual(), known(machine)) == ({}, {})
    machine.put(HERE)
    machine.clock.pass_s(PERIOD_S)
    machine.settle()
    assert machine.hypervisor.specs[VM].cidata["user-data"] == SCRIPT
