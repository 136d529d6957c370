"""Small records that keep the others consistent."""

from typing import ClassVar

from ucloud.model.record import Record


class Unique(Record, frozen=True, kw_only=True):
    """The value of a `unique/…` and a `use/…` key: who owns it."""

    prefix: ClassVar[str] = "unique/"
    path: str
    owner: str

    @property
    def key(self) -> str:
        return self.path


class Idempotency(Record, frozen=True, kw_only=True):
    """A request that carried an Idempotency-Key was carried out; written in that request's own transaction.

    body: SHA-256 of method, path and body. A repeated request gets the same answer, one with another body a conflict. It
    names no resource, so that nothing is left of one that was deleted (see `ucloud.api.records`). Swept after 24 h.
    """

    prefix: ClassVar[str] = "idempotency/"
    project: str
    name: str
    body: str
    created: str

    @property
    def key(self) -> str:
        return self.at(self.project, self.name)


class Ticket(Record, frozen=True, kw_only=True):
    """Whoever shows the text whose SHA-256 is `digest` may open a console of this VM, once. Bound to a lease of a minute, and
    deleted when it is used, whichever API process is asked. after: as `ucloud.host.viewer.Viewer.run`."""

    prefix: ClassVar[str] = "ticket/"
    vm: str
    digest: str
    read_only: bool = False
    take: bool = False
    after: int | None = None

    @property
    def key(self) -> str:
        return self.at(self.vm, self.digest)


# Each has a lock, and one leader as long as a control process lives.
CONTROL_LOOPS = ("scheduler", "hostmanager", "image", "idempotency")


class Lock(Record, frozen=True, kw_only=True):
    """Leadership of a control loop, bound to a lease. Put once and never rewritten, so that its revision is that of its
    creation: requiring it unchanged proves that this leader, in this term, still leads."""

    prefix: ClassVar[str] = "lock/"
    loop: str
    owner: str

    @property
    def key(self) -> str:
        return self.at(self.loop)
