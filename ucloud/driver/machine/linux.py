"""What the machine itself is: cores, memory, which boot of it this is. On Linux."""

import os
from pathlib import Path


def cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def boot_id() -> str:
    """Changes with every boot of the machine (random(4): /proc/sys/kernel/random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
