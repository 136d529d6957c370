"""Upload of a 1 GiB image, from the SDK to `ready`, against `cp` plus `sha256sum` of the same file; over HTTP on the loopback,
by the production API server, into a real directory pool on the same file system. And how much the API's memory grows meanwhile.

Both sides take turns, each with nothing left to be written of the other. The file is qcow2, as most images are, so that it need
not be converted.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.line import finish
from bench.processes import PlainCloud, Process, plain_cloud
from ucloud.client import Client

SIZE_MIB = 1024
ROUNDS = 3
AIM = 0.7
AT_ONCE, AT_ONCE_MIB, GROWTH_MIB = 4, 256, 32


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ucloud-bench-upload-", dir="/var/tmp") as text:
        directory = Path(text)
        file, small = qcow2(directory, "large", SIZE_MIB), qcow2(directory, "small", AT_ONCE_MIB)
        with plain_cloud(directory / "cloud", hosts=0, pool="directory") as cloud, cloud.client() as client:
            ours, theirs = [], []
            for number in range(ROUNDS):
                theirs.append(rate(lambda: copy(file, directory / "copy")))
                ours.append(rate(lambda: upload(client, f"large-{number}", file)))  # noqa: B023 (called at once)
                client.wait(client.delete_image(f"large-{number}"), timeout_s=60)
            growth = growth_mib(cloud, client, small)
    ok = sum(ours) / sum(theirs) >= AIM and growth < GROWTH_MIB
    detail = {"size_mib": SIZE_MIB, "api_growth_mib": growth, "uploads_at_once": AT_ONCE, "growth_aim_mib": GROWTH_MIB}
    finish("upload", ours, "MiB/s", ok, aim=AIM, theirs=theirs, detail=detail)


def qcow2(directory: Path, name: str, size_mib: int) -> Path:
    raw, file = directory / f"{name}.raw", directory / f"{name}.qcow2"
    with raw.open("wb") as out:
        for _ in range(size_mib):
            out.write(os.urandom(1024 * 1024))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, file], check=True)
    raw.unlink()
    return file


def rate(work: Callable[[], None]) -> float:
    """MiB in a second."""
    os.sync()
    began_s = time.monotonic()
    work()
    return SIZE_MIB / (time.monotonic() - began_s)


def copy(file: Path, other: Path) -> None:
    subprocess.run(["cp", file, other], check=True)
    subprocess.run(["sha256sum", file], check=True, stdout=subprocess.DEVNULL)
    other.unlink()


def upload(client: Client, name: str, file: Path) -> None:
    _, action = client.upload_image(name, file)
    ended = client.wait(action, timeout_s=120)
    assert ended["state"] == "success", ended


def growth_mib(cloud: PlainCloud, client: Client, file: Path) -> float:
    """Of the API's processes together, at their peak, while several images are uploaded at once."""
    (api,) = cloud.kind("api")
    for pid in api.group():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak so far
    before = memory_mib(api, "VmRSS")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        uploads = [threads.submit(upload, client, f"small-{number}", file) for number in range(AT_ONCE)]
        for each in uploads:
            each.result()
    return round(memory_mib(api, "VmHWM") - before, 1)


def memory_mib(process: Process, field: str) -> float:
    lines = [line for pid in process.group() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main()
