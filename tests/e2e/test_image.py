"""Images, by the command line: an upload whose client dies, a clone that outlives its source, a guest that boots from it; and
the death of the control daemon at any moment of an examination."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningCloud
from tests.contract.hypervisors import PROGRAMS
from tests.e2e.conftest import DEADLINE_S, wait_for
from tests.e2e.test_vm import daemon_pid, run
from ucloud.base.errors import NotFound
from ucloud.client import Client

LARGE_MIB = 256


@pytest.fixture
def clean_images(api: Client) -> Iterator[None]:
    before = {image["id"] for image in api.images()}
    yield
    for image in api.images():
        if image["id"] not in before:
            with suppress(NotFound):
                api.wait(api.delete_image(image["id"]), DEADLINE_S)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A raw disk that boots and greets, with enough behind it to be interrupted."""
    file = tmp_path / "disk.raw"
    with file.open("wb") as out:
        out.write(PROGRAMS["obedient"].ljust(1 << 20, b"\0"))
        for _ in range(LARGE_MIB - 1):
            out.write(os.urandom(1 << 20))
    return file


def show(cloud: RunningCloud, name: str) -> dict[str, Any]:
    image: dict[str, Any] = json.loads(run(cloud, "image", "show", name, "-o", "json"))
    return image


@pytest.mark.usefixtures("clean_images", "clean")
def test_an_upload_whose_client_died_is_gone_on_with_and_its_clone_boots(cloud: RunningCloud, api: Client, disk: Path) -> None:
    command = [sys.executable, "-m", "ucloud.daemon.main", "--api", cloud.url, "image", "upload", "disk", str(disk)]
    dying = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def received() -> int:
        return next((image["received_bytes"] for image in api.images("disk")), 0)

    wait_for(received, "the first bytes")
    dying.kill()
    dying.wait()
    assert show(cloud, "disk")["phase"] == "uploading"
    assert "disk is ready" in run(cloud, "image", "upload", "disk", str(disk))
    assert "was there already" in run(cloud, "image", "upload", "disk", str(disk))

    assert "copy is ready" in run(cloud, "image", "clone", "disk", "copy")
    assert show(cloud, "copy")["source"] == show(cloud, "disk")["id"]
    run(cloud, "image", "delete", "disk")
    run(cloud, "vm", "create", "cloned", "--image", "copy", "--memory", "32M")
    wait_for(lambda: api.vm_log("cloned")[0], "the guest's greeting")
    assert "cloned" in run(cloud, "image", "delete", "copy", returns=1)


@pytest.mark.usefixtures("clean_images", "clean")
def test_an_examination_survives_the_death_of_the_control_daemon(cloud: RunningCloud, api: Client, disk: Path) -> None:
    _, action = api.upload_image("disk", disk)
    os.kill(daemon_pid(cloud, "control"), signal.SIGKILL)
    assert api.wait(action, DEADLINE_S)["state"] == "success"
    assert api.image("disk")["format"] == "raw"
