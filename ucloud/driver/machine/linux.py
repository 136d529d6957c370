"""What the machine itself is: cores, memory, which boot of it this is. On Linux."""

import os
import secrets
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path


def cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def interface_with(address: str) -> str | None:
    """Its name, in this process' network namespace (proc(5): /proc/net/if_inet6)."""
    wanted = IPv6Address(address).packed.hex()
    lines = (line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines())
    return next((words[5] for words in lines if words[0] == wanted), None)


def boot_id(run_dir: Path) -> str:
    """Changes with every boot of the machine (random(4): /proc/sys/kernel/random/boot_id), and with what a boot takes away: of
    several hosts on one machine each has its own. Kept in `run_dir`, the same for all processes of a host."""
    kernels = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    file = run_dir / f"boot-{kernels}"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        made = run_dir / f"boot-{os.getpid()}"
        made.write_text(secrets.token_hex(4))
        with suppress(FileExistsError):  # another process was faster
            os.link(made, file)
        made.unlink()
    return f"{kernels}-{file.read_text()}"
