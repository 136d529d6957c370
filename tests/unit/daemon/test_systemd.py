"""The units of a host's daemons, as far as they can be judged where no systemd runs."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ucloud.daemon import systemd
from ucloud.daemon.cloud import ucloud_command
from ucloud.daemon.node import KINDS

ODD = Path('/etc/a "b" 50% $c\\d.toml')
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")


def judged(directory: Path, units: dict[str, str]) -> str:
    """What systemd has to say against them; no line if nothing."""
    files = [directory / name for name in units]
    for file in files:
        file.write_text(units[file.name])
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    units = {systemd.name_of(kind): systemd.unit(kind, ODD) for kind in KINDS}
    assert judged(tmp_path, units) == ""
    broken = {"ucloud-broken.service": units["ucloud-host.service"].replace("Restart=always", "Restart=sometimes")}
    assert "sometimes" in judged(tmp_path, broken), "it would have said so"


@needs_systemd
def test_systemd_starts_them_at_each_boot(tmp_path: Path) -> None:
    places = tmp_path / "etc/systemd/system"
    places.mkdir(parents=True)
    for kind in KINDS:
        (places / systemd.name_of(kind)).write_text(systemd.unit(kind, ODD))
    names = [systemd.name_of(kind) for kind in KINDS]
    subprocess.run(["systemctl", f"--root={tmp_path}", "enable", *names], capture_output=True, check=True)
    assert sorted(link.name for link in (places / "multi-user.target.wants").iterdir()) == sorted(names)


def test_each_daemon_is_run_with_the_settings_of_its_host() -> None:
    words = [systemd.quoted(word) for word in ucloud_command("daemon", "lease", "--config", "/etc/ucloud/ucloud.toml")]
    assert f"\nExecStart={' '.join(words)}\n" in systemd.unit("lease", Path("/etc/ucloud/ucloud.toml"))


def test_what_systemd_would_read_otherwise_is_escaped() -> None:
    assert systemd.quoted(str(ODD)) == r'"/etc/a \"b\" 50%% $$c\\d.toml"'
