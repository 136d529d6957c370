"""What a host's workers do to the world: each act of `ucloud.host.decide`, in a thread of its own. Called by its loop."""

from collections.abc import Callable, Mapping

from ucloud.base.errors import NotYet
from ucloud.driver.hypervisor.contract import Hypervisor
from ucloud.driver.pool.contract import Pool
from ucloud.host import wanted
from ucloud.host.decide import Act
from ucloud.host.network import HostNetwork
from ucloud.host.userdata import UserData
from ucloud.model.vm import Manifest, PoolRef


class Acts:
    """pools: the driver of a pool that a manifest names. cidata: the files for a guest with this user data. may_start: whether
    this host has its lease. fenced: number of the fence that the loop has seen last and that is there, or 0."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        pools: Callable[[PoolRef], Pool],
        network: HostNetwork,
        user_data: UserData,
        cidata: Callable[[Manifest, bytes], Mapping[str, bytes]],
        may_start: Callable[[], bool],
    ) -> None:
        self._hypervisor, self._pools, self._network = hypervisor, pools, network
        self._user_data, self._cidata, self._may_start = user_data, cidata, may_start
        self.fenced = 0

    def do(self, act: Act) -> None:
        """Raises Temporary, Invalid, Conflict or NoCapacity, for which the VM has to wait."""
        if act.verb == "kill":
            self._hypervisor.kill(act.vm)
        elif act.verb == "power-down":
            self._hypervisor.power_down(act.vm)
        elif act.verb == "start" and act.manifest:
            self._start(act.manifest)
        elif act.verb == "wire" and act.manifest:
            self._wire(act.manifest)
        elif act.verb == "unwire":
            self._network.remove(act.vm)
        elif act.verb == "resume":
            self._hypervisor.resume(act.vm)
        elif act.verb == "guard":
            self._hypervisor.guard(act.vm)
        elif act.verb == "erase":
            self._erase(act.vm, act.manifest)
        elif act.verb == "clean":
            self._clean()

    def _start(self, manifest: Manifest) -> None:
        self._check_lease()
        attachments = {}
        for disk in manifest.disks:
            pool = self._pools(disk.pool)
            pool.add_disk(manifest.vm, disk.name, disk.image, disk.size_mib)
            attachments[disk.name] = pool.attachment(manifest.vm, disk.name)
        self._network.add(manifest)
        files = self._cidata(manifest, self._user_data(manifest))
        self._check_lease()  # much may have happened while the disks were made
        self._hypervisor.start(wanted.guest(manifest, attachments, self._network.nics(manifest), files))

    def _check_lease(self) -> None:
        if self.fenced:
            raise NotYet(f"this host was declared dead (fence {self.fenced})")
        if not self._may_start():
            raise NotYet("this host has lost its lease: others may take it for dead")

    def _wire(self, manifest: Manifest) -> None:
        """What is taken away is cut off first: a guest may take its time to let go of an interface, or never do. One cut
        though it is wanted is replaced: somebody has deleted its port by hand."""
        self._network.add(manifest)
        guest, nics = self._hypervisor.actual([manifest.vm]).get(manifest.vm), self._network.nics(manifest)
        if guest is None:
            return
        for nic in nics:
            if nic.mac not in guest.macs - guest.cut:
                self._hypervisor.attach(manifest.vm, nic)
        for mac in sorted(guest.macs - {nic.mac for nic in nics}):
            self._hypervisor.detach(manifest.vm, mac)

    def _erase(self, vm: str, manifest: Manifest | None) -> None:
        """Disks only where a manifest says so."""
        if manifest and manifest.disks_do == "delete":
            for disk in manifest.disks:
                self._pools(disk.pool).remove_disk(vm, disk.name)
        self._network.remove(vm)
        self._hypervisor.forget(vm)

    def _clean(self) -> None:
        """Also what is not known as a guest any more, in the control groups of all VMs of which there is a trace."""
        for vm in sorted(self._hypervisor.traces()):
            self._hypervisor.kill(vm)
