"""Records as they are stored: small, at one key each, and readable by older and newer versions."""

import inspect

import msgspec
import pytest
from msgspec.structs import replace

from tests.unit.world import EARLIER, blob, host, key, manifest, network, placement, pool, port, status, vm
from ucloud.base.ids import new_id
from ucloud.model import bookkeeping, image, kinds
from ucloud.model import host as host_module
from ucloud.model import key as key_module
from ucloud.model import network as network_module
from ucloud.model import vm as vm_module
from ucloud.model.bookkeeping import Idempotency, Lock, Ticket, Unique
from ucloud.model.host import Endpoint, Failover, Fence, Hold, JoinToken, Reconciled
from ucloud.model.image import Image, ImageState
from ucloud.model.key import HostBlob, Project
from ucloud.model.network import ManifestPort, NetworkRef, Port, VmPort
from ucloud.model.record import Record, decode, encode
from ucloud.model.secret import Secret
from ucloud.model.vm import Vm

RECORDS: list[tuple[str, Record]] = [
    ("vm/vm-a", vm()),
    ("placement/vm-a", placement()),
    ("manifest/host-1/vm-a", manifest()),
    ("status/host-1/vm/vm-a", status()),
    ("host/host-1", host("host-1")[0]),
    ("alive/host-1", host("host-1")[1]),
    ("status/host-1/inventory", host("host-1")[2]),
    ("status/host-1/endpoint", Endpoint(host="host-1", url="http://[::1]:80", token=Secret("s"))),
    ("status/host-1/reconciled", Reconciled(host="host-1", number=2, boot="b")),
    ("fence/host-1", Fence(host="host-1", number=2, boot="b", phase="fencing", since=EARLIER, reason="silent")),
    ("cluster/failover", Failover(armed=False, since=EARLIER, reason="moving racks")),
    ("cluster/hold", Hold(reason="too many at once", since=EARLIER, hosts=("host-1",))),
    (f"token/join/{'0' * 64}", JoinToken(sha256="0" * 64, name="h4", created=EARLIER, expires=EARLIER)),
    ("pool/local", pool()),
    ("image/image-1", Image(id="image-1", name="tiny", pool="local", bytes=1, sha256="0", created=EARLIER)),
    ("imagestate/image-1", ImageState(image="image-1", phase="ready", since=EARLIER)),
    ("unique/vm/default/web", Unique(path="unique/vm/default/web", owner="vm-a")),
    ("network/network-1", network()),
    ("port/network-1/vm-a", Port(network="network-1", vm="vm-a", name="a", mac=port().mac, ipv6=port().ipv6, host="host-1")),
    ("key/key-1", key()),
    ("project/default", Project(name="default", default_key="key-1")),
    (f"blob/{blob().sha256}", blob()),
    (f"manifest/host-1/blob/{blob().sha256}", HostBlob(host="host-1", sha256=blob().sha256, data=b"\0\xff")),
    ("lock/scheduler", Lock(loop="scheduler", owner="me")),
    ("ticket/vm-a/0", Ticket(vm="vm-a", digest="0")),
    (
        "idempotency/default/k",
        Idempotency(project="default", name="k", body="0", created=EARLIER),
    ),
]


@pytest.mark.parametrize(("key", "record"), RECORDS, ids=[key for key, _ in RECORDS])
def test_a_record_has_one_key_and_comes_back_from_json(key: str, record: Record) -> None:
    assert record.key == key
    assert kinds.kind_of(key) is type(record)
    assert decode(type(record), encode(record)) == (record, {})


def test_every_kind_of_record_is_in_this_list() -> None:
    defined = {
        kind
        for module in (vm_module, host_module, network_module, image, key_module, bookkeeping)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Record) and kind is not Record
    }
    assert {type(record) for _, record in RECORDS} == defined


@pytest.mark.parametrize("key", ["", "cat/1", "status/host-1", "status/host-1/cat", "status/host-1/cat/1"])
def test_what_this_version_does_not_know_is_left_alone(key: str) -> None:
    assert kinds.kind_of(key) is None


def test_defaults_are_not_stored() -> None:
    assert b"labels" not in encode(vm())


def test_fields_of_a_newer_version_are_handed_out_and_taken_back() -> None:
    record, unknown = decode(Vm, encode(vm(), {"colour": "blue", "tags": ["a"]}))
    assert (record, unknown) == (vm(), {"colour": "blue", "tags": ["a"]})
    assert decode(Vm, encode(vm(name="b"), unknown)) == (vm(name="b"), unknown)


def test_a_renamed_field_is_no_unknown_one() -> None:
    told = manifest(revisions={"vm": 184})
    assert b'"from":{"vm":184}' in encode(told)
    assert decode(type(told), encode(told)) == (told, {})


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"id":1}', b"\xff", b'{"id":"\xff"}'])
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode(Vm, value)


def test_records_stay_small() -> None:
    """What DESIGN counts on, so that 100,000 VMs fit into one etcd; names, labels and reasons at their usual length."""
    id, host_id, image_id, network_id = (new_id(kind, 1.8e9) for kind in ("vm", "host", "image", "network"))
    address, ipv6 = "fd12:3456:789a:bcde:ff:feff:feff:ffff", "fd12:3456:789a:bcde::/64"
    given = {"mac": port().mac, "ipv6": address, "ipv4": "192.168.100.100", "allow": ("ra", "dhcp")}
    ref = NetworkRef(id=network_id, name="n" * 63, vni=1 << 23, ipv6=ipv6, ipv4="192.168.100.0/24", mtu=1430, slaac=True)
    labels = {f"label-{number}": "a value of some length" for number in range(3)}
    wanted = vm(id, name="a" * 63, image=image_id, labels=labels, hard=True, power="off", boots=1000, deleted_at=EARLIER)
    key_id, line = new_id("key", 1.8e9), f"ssh-ed25519 {'A' * 68} somebody@a-machine-of-theirs"
    handed_out = {"user_data": blob().sha256, "metadata": {"role": "database"}}
    wanted = replace(wanted, ports=(VmPort(network=network_id, **given),), keys=(key_id,), **handed_out, user_data_bytes=65536)
    revisions = {"vm": 1 << 40, "pool": 1 << 40, network_id: 1 << 40}
    told = manifest(id, host_id, boots=1000, want="stopped", hard=True, disks_do="delete", revisions=revisions)
    told = replace(told, ports=(ManifestPort(network=ref, **given),), keys=(line, line), **handed_out)
    entry = Port(network=network_id, vm=id, name="a" * 63, mac=port().mac, ipv6=address, ipv4="192.168.100.100", host=host_id)
    error = "start: " + "why it does not work, in a sentence"
    seen = status(id, host_id, boots=1000, phase="starting", crashes=100, error=error, revisions=revisions)
    assert len(encode(wanted)) <= 800
    assert len(encode(told)) <= 1500
    assert len(encode(entry)) <= 350
    assert len(encode(seen)) <= 350
