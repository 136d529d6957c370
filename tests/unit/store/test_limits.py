"""Our count of bytes is never below etcd's, so that etcd has nothing left to refuse."""

import pytest

from ucloud.model.decision import NotNewer, Requirement, Unchanged
from ucloud.store.etcd import transaction
from ucloud.store.limits import ENVELOPE_BYTES, size_bytes

LEASE = 2**62
REVISION = 2**62
PUTS = {f"vm/{number}": b"x" * number * 1000 for number in range(100)}
REQUIRES = [*(Unchanged(f"vm/{n}", REVISION) for n in range(50)), *(NotNewer(f"status/{n}/", REVISION) for n in range(50))]


@pytest.mark.parametrize(
    ("puts", "deletes", "requires"),
    [({}, [], []), (PUTS, [], []), ({}, [*PUTS], []), ({}, [], REQUIRES), (PUTS, ["a/b", "c/d"], REQUIRES)],
)
def test_never_less_than_etcd_counts(puts: dict[str, bytes], deletes: list[str], requires: list[Requirement]) -> None:
    wire = transaction(puts, deletes, requires, LEASE).ByteSize()
    assert (
        wire
        <= size_bytes(puts, deletes, requires)
        <= wire + ENVELOPE_BYTES * (len(puts) + len(deletes) + 2 * len(requires) + 2)
    )
