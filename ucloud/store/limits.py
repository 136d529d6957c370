"""The limits of one transaction, checked before it is sent: memory and etcd refuse the same ones, for the same reasons."""

from collections.abc import Mapping, Sequence

from ucloud.base.errors import Invalid
from ucloud.model.decision import Requirement, Unchanged
from ucloud.model.keys import ROOT
from ucloud.store.contract import MAX_BYTES, MAX_OPERATIONS

ENVELOPE_BYTES = 32  # what protobuf adds to keys and values, at most: per operation, and once for the whole


def check(puts: Mapping[str, bytes], deletes: Sequence[str], requires: Sequence[Requirement]) -> None:
    """Raises Invalid for what etcd would refuse, counting no byte less than etcd does."""
    if max(len(puts) + len(deletes), len(requires)) > MAX_OPERATIONS:
        raise Invalid(f"a transaction has at most {MAX_OPERATIONS} writes and {MAX_OPERATIONS} requirements")
    written = set(puts).union(deletes)
    if len(written) < len(puts) + len(deletes):
        raise Invalid("a transaction writes each key once")
    if size_bytes(puts, deletes, requires) > MAX_BYTES:
        raise Invalid(f"a transaction has at most {MAX_BYTES} bytes")


def size_bytes(puts: Mapping[str, bytes], deletes: Sequence[str], requires: Sequence[Requirement]) -> int:
    texts = [*puts, *deletes]
    for requirement in requires:
        # A comparison over a prefix carries both ends of its range.
        texts += (requirement.key,) if isinstance(requirement, Unchanged) else (requirement.prefix, requirement.prefix)
    keys = sum(len(ROOT) + len(text.encode(errors="surrogateescape")) for text in texts)
    return keys + sum(map(len, puts.values())) + ENVELOPE_BYTES * (len(texts) + 2)
