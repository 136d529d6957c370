"""A directory pool whose disks are empty files: what it costs to make disks is left out, all else is real.

For the fake hypervisor, where many daemons share one pool: benchmarks of the control plane, tests that kill daemons.
"""

from ucloud.driver.pool import header
from ucloud.driver.pool.directory import DirectoryPool
from ucloud.driver.pool.rules import check_growth, check_ids


class HollowPool(DirectoryPool):
    def add_disk(self, vm: str, name: str, image: str, size_mib: int) -> None:
        check_ids(vm, name, image)
        disk = self._disk(vm, name)
        with self._world():
            if not disk.exists():
                head, _ = header.read_head(self._image(image))
                check_growth(size_mib, -(-header.virtual_bytes(head) // header.MIB))
                disk.parent.mkdir(exist_ok=True)
                disk.touch()
