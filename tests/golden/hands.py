"""Plays scheduler, host and image loop for the command line's tests: whatever people ask for happens at once."""

import threading
from dataclasses import dataclass, field

from tests.unit.api.cloud import Cloud
from ucloud.model.image import Image, ImageState
from ucloud.model.record import Record, decode
from ucloud.model.vm import Status, Vm

WAIT_S = 5.0


@dataclass
class Hands:
    """`host`: where every VM goes. `errors`: why an image's examination fails, by its name. `idle`: names of VMs left alone."""

    cloud: Cloud
    host: str
    errors: dict[str, str] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._woken, self._stop = threading.Event(), threading.Event()
        self._watch = self.cloud.store.watch({"vm/": 0, "image/": 0}, self._woken.set)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._woken.set()
        self._thread.join()
        self._watch.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            self._watch.poll()
            for item in self.cloud.store.list("vm/").items:
                self._act_on_vm(decode(Vm, item.value)[0], item.mod_revision)
            for item in self.cloud.store.list("image/").items:
                self._act_on_image(decode(Image, item.value)[0])
            self._woken.wait(WAIT_S)

    def _read(self, kind: type[Record], key: str) -> Record | None:
        found: Record | None = self.cloud.read(kind, key)
        return found

    def _act_on_vm(self, vm: Vm, revision: int) -> None:
        if vm.name in self.idle:
            return
        if vm.deleted_at:
            self.cloud.forget(vm.id)
            return
        status = self._read(Status, Status.at(self.host, "vm", vm.id))
        if not isinstance(status, Status) or status.revisions["vm"] < revision:
            self.cloud.place(vm.id, self.host)
            self.cloud.say(vm.id, self.host, "running" if vm.power == "on" else "stopped")

    def _act_on_image(self, image: Image) -> None:
        if image.deleted_at:
            self.cloud.forget_image(image.id)
        elif image.uploaded_at and not self._read(ImageState, ImageState.at(image.id)):
            self.cloud.examine(image.id, 64, self.errors.get(image.name, ""))
