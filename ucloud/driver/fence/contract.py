"""What cuts a host that was declared dead off a shared pool. Real: the operator's own command (later Ceph's blocklist); `fake`
beside it passes the same contract tests."""

from typing import Protocol

TIMEOUT_S = 30.0  # nothing of it goes on for longer, even if who called it is gone


class Fence(Protocol):
    def cut_off(self, pool: str, name: str, address: str, id: str) -> str:
        """When this returns nothing that the host `name` (of this id, at this address of the underlay, "" where that is not
        known) has sent to the pool, or may yet send, is carried out. Harmless when repeated. Answers the proof, in words;
        raises Temporary."""
