"""Whatever the cluster, whatever is wanted: the scheduler comes to an end, overfills no host, depends on facts alone."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.world import NOW, NOW_S, World, blob, fence, host, key, manifest, network, placement, pool, port, status, vm
from ucloud.loop import Decider
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.host import Alive, Fence, Inventory
from ucloud.model.key import Blob, HostBlob
from ucloud.model.network import Port
from ucloud.model.record import Record
from ucloud.model.vm import Manifest, Placement, Status, Vm
from ucloud.scheduler.decide import decide
from ucloud.scheduler.hosts import Policy

HOSTS = [f"host-{number}" for number in range(4)]
VMS = [f"vm-{letter}" for letter in "abcdefgh"]
SIZES_MIB = st.sampled_from([0, 1, 256, 512, 1000, 2048, 10**12])
CORES = st.sampled_from([1, 2, 4, 16, 64, 10**12])

NETWORKS = [f"network-{number}" for number in range(1, 4)]
KEYS = [f"key-{number}" for number in range(3)]
BLOBS = [blob(), blob(b"#cloud-config\n")]


@st.composite
def vms(draw: st.DrawFn) -> Vm:
    """Some of their networks, keys and user data may be missing."""
    plain = draw(plain_vms)
    on = draw(st.lists(st.sampled_from(NETWORKS), unique=True, max_size=3))
    keyed = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=2))
    data = draw(st.sampled_from(["", "", *(blob.sha256 for blob in BLOBS)]))
    return replace(plain, ports=tuple(port(plain.id, network) for network in on), keys=tuple(keyed), user_data=data)


plain_vms = st.builds(
    vm,
    st.sampled_from(VMS),
    pool=st.sampled_from(["local", "local", "local", "shared", "shared", "missing"]),
    ha=st.sampled_from(["restart", "restart", "never"]),
    priority=st.sampled_from(["low", "normal", "high"]),
    cpus=CORES,
    memory_mib=SIZES_MIB,
    power=st.sampled_from(["on", "off"]),
    boots=st.integers(1, 3),
    hard=st.booleans(),
    deleted_at=st.sampled_from(["", "", "", NOW]),
)
hosts = st.builds(
    host,
    st.sampled_from(HOSTS),
    st.sampled_from([0, 512, 2048, 4096]),
    st.sampled_from([0, 1, 4, 16]),
    enabled=st.booleans(),
    memory_mib=st.sampled_from([0, 0, 1024, 1 << 20]),
    cpus=st.sampled_from([0, 0, 2, 1000]),
)
placements = st.builds(
    placement, st.sampled_from(VMS), st.sampled_from(["", *HOSTS]), epoch=st.integers(0, 3), reason=st.just("old")
)
manifests = st.builds(
    manifest,
    st.sampled_from(VMS),
    st.sampled_from(HOSTS),
    epoch=st.integers(1, 3),
    want=st.sampled_from(["running", "stopped", "absent"]),
    cpus=CORES,
    memory_mib=SIZES_MIB,
)
statuses = st.builds(
    status,
    st.sampled_from(VMS),
    st.sampled_from(HOSTS),
    pools=st.sampled_from([("local",), ("shared",), ("local", "missing")]),
    leased=st.booleans(),
)
fences = st.builds(
    fence,
    st.sampled_from(HOSTS),
    phase=st.sampled_from(["fencing", "fenced", "fenced"]),
    proofs=st.sampled_from([{}, {"shared": "safe"}]),
)
networks = st.builds(network, st.sampled_from(NETWORKS))
handouts = st.lists(st.sampled_from([*map(key, KEYS), *map(key, KEYS), *BLOBS]), max_size=6)
copies = st.builds(
    lambda host, blob: HostBlob(host=host, sha256=blob.sha256, data=blob.data), st.sampled_from(HOSTS), st.sampled_from(BLOBS)
)


@st.composite
def entries(draw: st.DrawFn) -> Port:
    """Of the address book."""
    id, on = draw(st.sampled_from(VMS)), draw(st.sampled_from(NETWORKS))
    its = port(id, on)
    return Port(network=on, vm=id, name="a", mac=its.mac, ipv6=its.ipv6, host=draw(st.sampled_from(HOSTS)))


@st.composite
def partial_hosts(draw: st.DrawFn) -> list[Record]:
    """A host of which any record may be missing."""
    return [record for record in draw(hosts) if draw(st.integers(0, 5))]


@st.composite
def fresh_clusters(draw: st.DrawFn) -> list[Record]:
    """Hosts and wishes; the scheduler has not looked yet."""
    living = [record for some in draw(st.lists(partial_hosts(), max_size=5)) for record in some]
    wanted = draw(st.lists(vms(), max_size=8))
    used = [Unique(path=path, owner=vm.id) for vm in wanted for path in sorted(uses(vm))]
    return [
        pool(),
        pool("shared", shared=True, fence="same-kernel"),
        *living,
        *draw(st.lists(networks, max_size=3)),
        *draw(handouts),
        *used,
        *wanted,
    ]


@st.composite
def wild_clusters(draw: st.DrawFn) -> list[Record]:
    """Any records at all, also such as could never come about."""
    strange = st.one_of(placements, manifests, statuses, fences, entries(), copies)
    return draw(st.permutations([*draw(fresh_clusters()), *draw(st.lists(strange, max_size=8))]))


def settle(world: World) -> int:
    """The scheduler's own loop, until it has nothing to commit; how many commits it made. All of them succeed."""
    decider = Decider("scheduler", world.store, world.view, decide, world.clock)
    before = revision = world.store.list("").revision
    for _ in range(4):
        assert decider.step() > 1.0, "a decision did not hold though nobody else wrote"
        if world.store.list("").revision == revision:
            return revision - before
        revision = world.store.list("").revision
    raise AssertionError("no end")


def loads(world: World) -> dict[str, tuple[int, int]]:
    """Host → cores and memory that its manifests name."""
    cores, memory_mib = Counter[str](), Counter[str]()
    for fact in world.facts().all(Manifest).values():
        cores[fact.record.host] += fact.record.cpus
        memory_mib[fact.record.host] += fact.record.memory_mib
    return {id: (cores[id], memory_mib[id]) for id in memory_mib}


@given(wild_clusters())
@settings(max_examples=300, deadline=None)
def test_it_never_raises_and_says_the_same_whatever_order_the_records_came_in(records: list[Record]) -> None:
    last = {record.key: record for record in records}
    first, second = World(), World()
    write_at_once(first, last)
    write_at_once(second, dict(sorted(last.items(), reverse=True)))
    decisions = decide(first.facts(), NOW_S)
    assert decide(first.facts(), NOW_S) == decisions
    assert decide(second.facts(), NOW_S) == decisions


def write_at_once(world: World, records: dict[str, Record]) -> None:
    """All in one transaction: the same revision whatever the order."""
    world.store.commit({key: world.view.encode(record) for key, record in records.items()})


@given(fresh_clusters())
@settings(max_examples=150, deadline=None)
def test_it_comes_to_an_end_with_every_vm_placed_waiting_or_gone(records: list[Record]) -> None:
    world = World(*records)
    settle_with_hosts_that_obey(world)
    facts = world.facts()
    for fact in facts.all(Vm).values():
        placed = facts.get(Placement, Placement.at(fact.record.id))
        assert not fact.record.deleted_at
        assert placed
        assert placed.record.host or placed.record.reason
    assert set(facts.all(Placement)) == {Placement.at(fact.record.id) for fact in facts.all(Vm).values()}
    assert len(facts.all(Manifest)) == sum(bool(fact.record.host) for fact in facts.all(Placement).values())


def settle_with_hosts_that_obey(world: World) -> None:
    """Hosts do at once what they are told to, and say so."""
    while settle(world):
        for fact in world.facts().all(Manifest).values():
            told = fact.record
            key = Status.at(told.host, "vm", told.vm)
            if world.facts().get(Fence, Fence.at(told.host)):
                continue
            if told.want == "absent":
                world.delete(key)
            else:
                world.put(begun(told))


def begun(told: Manifest) -> Status:
    pools = tuple(disk.pool.name for disk in told.disks)
    its = status(told.vm, told.host, epoch=told.epoch, boots=told.boots, ha=told.ha, pools=pools, leased=told.needs_lease)
    return replace(its, phase=told.want, revisions=told.revisions)


@given(fresh_clusters(), fresh_clusters())
@settings(max_examples=150, deadline=None)
def test_no_host_is_ever_given_more_than_it_has(records: list[Record], changes: list[Record]) -> None:
    """Also when VMs come, go and are resized later. (A host that shrinks keeps what it has, so hosts stay as they are.)"""
    world = World(*records)
    settle(world)
    world.put(*(record for record in changes if isinstance(record, Vm | Unique)))
    settle(world)
    for id, (cores, memory_mib) in loads(world).items():
        has = world.facts().get(Inventory, Inventory.at(id, "inventory"))
        assert has
        assert memory_mib <= has.record.memory_mib
        assert cores <= has.record.cpus * int(Policy().cpu_overcommit)


@given(fresh_clusters())
@settings(max_examples=150, deadline=None)
def test_nobody_waits_while_a_host_has_room(records: list[Record]) -> None:
    world = World(*records)
    settle(world)
    waiting = [fact.record.vm for fact in world.facts().all(Placement).values() if not fact.record.host]
    before = {item.key: item.value for item in world.store.list("").items}
    for id in waiting:  # asked once more, each alone: still nothing
        alone = World()
        alone.store.commit({key: value for key, value in before.items() if not key.startswith(("vm/", "placement/"))})
        wanted = world.facts().get(Vm, Vm.at(id))
        assert wanted
        alone.put(wanted.record)
        assert [decision.verb for decision in decide(alone.facts(), NOW_S) if decision.verb != "clear"] == ["wait"]


@given(fresh_clusters(), st.lists(vms(), max_size=8))
@settings(max_examples=60, deadline=None)
def test_what_is_claimed_booked_and_copied_is_of_the_vms_that_there_are(records: list[Record], changes: list[Vm]) -> None:
    """VMs come, are changed, and go, on hosts that obey: in the end nothing else is there."""
    world = World(*(record for record in records if not isinstance(record, Vm | Unique)))
    for wanted in [*(record for record in records if isinstance(record, Vm)), *changes]:
        write_as_the_api(world, wanted)
        settle_with_hosts_that_obey(world)
    settle(world)
    told = [fact.record for fact in world.facts().all(Manifest).values()]
    assert set(world.facts().all(Port)) == {Port.at(of.network.id, manifest.vm) for manifest in told for of in manifest.ports}
    assert set(world.facts().all(HostBlob)) == {HostBlob.at(of.host, "blob", of.user_data) for of in told if of.user_data}
    wanted_vms = [fact.record for fact in world.facts().all(Vm).values()]
    assert set(world.facts().all(Blob)) == {Blob.at(vm.user_data) for vm in wanted_vms if vm.user_data}
    claimed = {path for vm in wanted_vms for path in claims(vm)}
    booked = {path for fact in world.facts().all(Port).values() for path in keys.port_claims(fact.record.vm, fact.record)}
    prefixes = ("use/network/", "unique/address/", "use/key/", "use/blob/")
    there = {item.key for prefix in prefixes for item in world.store.list(prefix).items}
    assert there == claimed | booked


@given(fresh_clusters(), fresh_clusters(), st.sets(st.sampled_from(HOSTS)), st.booleans())
@settings(max_examples=200, deadline=None)
def test_vms_leave_dead_hosts_when_that_is_safe_and_all_is_well_when_those_are_back(
    records: list[Record], changes: list[Record], died: set[str], is_safe: bool
) -> None:
    """Some VMs were placed, but not begun, when several hosts died at once."""
    world = World(*records)
    settle_with_hosts_that_obey(world)
    world.put(*(record for record in changes if isinstance(record, Vm | Unique)))
    settle(world)
    before, alive = placements_of(world), {id: world.facts().get(Alive, Alive.at(id)) for id in died}
    said = {(fact.record.host, fact.record.vm): fact.record for fact in world.facts().all(Status).values()}
    world.delete(*(Alive.at(id) for id in died))
    world.put(*(fence(id, proofs={"shared": "safe"} if is_safe else {}) for id in sorted(died)))
    settle(world)
    for id, placed in placements_of(world).items():
        was = before.get(id)
        wanted, its = world.facts().get(Vm, Vm.at(id)), said.get((was.host, id)) if was else None
        if was is None or wanted is None or was.host not in died:
            continue
        may_not = (
            [its.pools != ("shared",), not is_safe, wanted.record.ha == "never" and not wanted.record.deleted_at] if its else []
        )
        assert (placed.host == was.host) == any(may_not)
        assert placed.epoch > was.epoch or not placed.host
        assert bool(placed.waits_for) == any(may_not)
    check_manifests(world, died)
    world.delete(*(Fence.at(id) for id in died))
    world.put(*(fact.record for fact in alive.values() if fact))
    settle_with_hosts_that_obey(world)
    assert not any(fact.record.deleted_at for fact in world.facts().all(Vm).values())
    check_manifests(world, set())


def placements_of(world: World) -> dict[str, Placement]:
    return {fact.record.vm: fact.record for fact in world.facts().all(Placement).values()}


def check_manifests(world: World, fenced: set[str]) -> None:
    """One for each owner, none for anybody else, those of fenced hosts new; no host is overfull."""
    facts, placed = world.facts(), placements_of(world)
    owners = {Manifest.at(record.host, id): record.epoch for id, record in placed.items() if record.host}
    told = facts.all(Manifest)
    assert {key: fact.record.epoch for key, fact in told.items()} == owners
    for fact in told.values():
        its_fence = facts.get(Fence, Fence.at(fact.record.host))
        assert (its_fence is not None) == (fact.record.host in fenced)
        assert its_fence is None or fact.revision > its_fence.revision
    for id, (cores, memory_mib) in loads(world).items():
        has = facts.get(Inventory, Inventory.at(id, "inventory"))
        assert has
        assert memory_mib <= has.record.memory_mib
        assert cores <= has.record.cpus * int(Policy().cpu_overcommit)


def write_as_the_api(world: World, wanted: Vm) -> None:
    """With its claims, and without those of ports that it loses and no host was told of."""
    before = world.facts().get(Vm, wanted.key)
    lost = [port for port in before.record.ports if port not in wanted.ports] if before else []
    untold = [port for port in lost if world.facts().get(Port, Port.at(port.network, wanted.id)) is None]
    world.delete(*(path for port in untold for path in keys.port_claims(wanted.id, port)))
    world.delete(*(uses(before.record) - uses(wanted) if before else ()))
    blobs = [blob for blob in BLOBS if blob.sha256 == wanted.user_data]
    records = [wanted, *blobs, *(Unique(path=path, owner=wanted.id) for path in claims(wanted))]
    write_at_once(world, {record.key: record for record in records})


def claims(wanted: Vm) -> set[str]:
    return {path for port in wanted.ports for path in keys.port_claims(wanted.id, port)} | uses(wanted)


def uses(wanted: Vm) -> set[str]:
    named = [("key", id) for id in wanted.keys] + [("blob", wanted.user_data)] * bool(wanted.user_data)
    return {keys.use(kind, id, wanted.id) for kind, id in named}
