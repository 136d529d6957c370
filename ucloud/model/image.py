"""Images, and the pools that hold them and the disks cloned from them."""

from typing import ClassVar, Literal

from ucloud.model.record import Record

PoolFence = Literal["none", "same-kernel", "command"]


class Pool(Record, frozen=True, kw_only=True):
    """Where images and disks live. Written by the API. kind `directory`: qcow2 files below `path`; `fake`:
    the same with empty files as disks, for benchmarks and tests with the fake hypervisor. shared: all hosts have the very same
    files, else each has its own. fence: what makes sure that a host that was declared dead writes to a shared pool no more.
    `same-kernel`: its hosts are namespaces of one machine, where a killed process writes no more and qemu's locks are real;
    `command`: the server's own command ([control] fence_command) cuts the host off; `none`: nothing does, only the operator's
    word."""

    prefix: ClassVar[str] = "pool/"
    name: str
    kind: Literal["directory", "fake"] = "directory"
    path: str
    shared: bool = False
    fence: PoolFence = "none"
    created: str

    @property
    def key(self) -> str:
        return self.at(self.name)


class Image(Record, frozen=True, kw_only=True):
    """What people want. Written by the API. bytes, sha256: of the upload, as announced. uploaded_at: when the API had
    received and checked every byte; the image loop then examines it and says so in `ImageState`. source: id of the image
    that it is to be a clone of; there is no upload then. user: as whom people log in to VMs made of it."""

    prefix: ClassVar[str] = "image/"
    id: str
    name: str
    project: str = "default"
    pool: str
    bytes: int
    sha256: str
    source: str = ""
    user: str = "root"
    labels: dict[str, str] = {}
    delete_protection: bool = False
    created: str
    uploaded_at: str = ""
    deleted_at: str = ""

    @property
    def key(self) -> str:
        return self.at(self.id)


class ImageState(Record, frozen=True, kw_only=True):
    """What became of an upload or a clone. Written by the image loop. Only a `ready` image can be cloned; a `failed` one says
    why; one that is `examining` could not be made ready yet, for the reason in `error`, and is tried again."""

    prefix: ClassVar[str] = "imagestate/"
    image: str
    phase: Literal["examining", "ready", "failed"]
    format: str = ""
    virtual_size_mib: int = 0
    error: str = ""
    since: str

    @property
    def key(self) -> str:
        return self.at(self.image)
