"""What a host may see of one VM, vm-a, and what it decides then."""

from tests.unit.world import NOW_S
from ucloud.host.decide import Step, World, decide
from ucloud.model.decision import Decision
from ucloud.model.guest import Guest
from ucloud.model.host import Reconciled
from ucloud.model.record import Fact
from ucloud.model.vm import Manifest, Status

MANIFEST_REVISION, STATUS_REVISION = 7, 9


def guest(state: str = "running", epoch: int = 1, boots: int = 1, leased: bool = False) -> Guest:
    return Guest(vm="vm-a", epoch=epoch, boots=boots, state=state, leased=leased)  # type: ignore[arg-type]


def world(told: Manifest | None = None, said: Status | None = None, there: Guest | None = None, **more: object) -> World:
    return World(
        host="host-1",
        manifests={told.vm: Fact(told.key, told, MANIFEST_REVISION)} if told else {},
        statuses={said.vm: Fact(said.key, said, STATUS_REVISION)} if said else {},
        guests={there.vm: there} if there else {},
        **more,  # type: ignore[arg-type]
    )


def reconciled(number: int = 3, boot: str = "boot-2", revision: int = STATUS_REVISION + 1) -> Fact[Reconciled]:
    """What the host has said after the status, unless said otherwise."""
    record = Reconciled(host="host-1", number=number, boot=boot)
    return Fact(record.key, record, revision)


def step(*args: object, **more: object) -> Step | None:
    return decide(world(*args, **more), NOW_S).get("vm-a")  # type: ignore[arg-type]


def act(*args: object, **more: object) -> tuple[str, str] | None:
    """Verb and reason of the act that comes next; None when nothing does."""
    found = step(*args, **more)
    assert not isinstance(found, Decision), found
    return (found.verb, found.reason) if found else None


def said(*args: object, **more: object) -> Status:
    """The status that is committed next."""
    found = step(*args, **more)
    assert isinstance(found, Decision), found
    (record,) = found.puts
    assert isinstance(record, Status)
    return record
