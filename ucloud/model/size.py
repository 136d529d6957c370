"""How large a VM is, or what a host has or has left."""

from typing import NamedTuple


class Size(NamedTuple):
    cpus: int
    memory_mib: int

    def __str__(self) -> str:
        return f"{self.cpus} {'core' if self.cpus == 1 else 'cores'} and {self.memory_mib} MiB"
