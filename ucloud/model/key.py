"""SSH public keys, the project that has one for all of its VMs, and user data."""

from typing import ClassVar

from ucloud.model.record import Record


class Key(Record, frozen=True, kw_only=True):
    """Who has the private part may log in to VMs that name it. Written, and deleted, by the API; but for the name it never
    changes. type, data: the first two words of an OpenSSH public key (RFC 4253 section 6.6); comment: the rest of the line.
    fingerprint: as `ssh-keygen -l` shows it, SHA256:…"""

    prefix: ClassVar[str] = "key/"
    id: str
    name: str
    project: str = "default"
    type: str
    data: str
    comment: str = ""
    bits: int
    fingerprint: str
    labels: dict[str, str] = {}
    created: str

    @property
    def key(self) -> str:
        return self.at(self.id)

    @property
    def line(self) -> str:
        """For authorized_keys."""
        return " ".join(filter(None, (self.type, self.data, self.comment)))


class Project(Record, frozen=True, kw_only=True):
    """Whose VMs, networks and keys these are. Written by the API once there is something to say of it. default_key: the id
    of the key of VMs that are made without one, or ""."""

    prefix: ClassVar[str] = "project/"
    name: str
    default_key: str = ""

    @property
    def key(self) -> str:
        return self.at(self.name)


class Blob(Record, frozen=True, kw_only=True):
    """User data of at most 64 KiB (in JSON as base64). Written by the API; the scheduler deletes it when no VM uses it."""

    prefix: ClassVar[str] = "blob/"
    sha256: str
    data: bytes

    @property
    def key(self) -> str:
        return self.at(self.sha256)


class HostBlob(Record, frozen=True, kw_only=True):
    """A blob that a manifest of this host names. Written by the scheduler."""

    prefix: ClassVar[str] = "manifest/"
    host: str
    sha256: str
    data: bytes

    @property
    def key(self) -> str:
        return self.at(self.host, "blob", self.sha256)
