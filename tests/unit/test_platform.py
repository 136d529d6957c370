"""Everything but drivers and daemons is the same on every system: it can be imported where no real driver exists."""

import pkgutil
import subprocess
import sys

import ucloud

PORTABLE = {"contract", "fake", "header", "rules"}  # of a driver's package: the rest is for one system

IMPORT_WITHOUT_DRIVERS = f"""
import importlib, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if name.startswith("ucloud.driver.") and len(parts) > 3 and parts[3] not in {PORTABLE}:
            raise ModuleNotFoundError(f"{{name}} is not on this system", name=name)

sys.meta_path.insert(0, Hidden())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(ucloud.__path__, "ucloud.")]
    return [name for name in found if name.split(".")[1] not in ("driver", "daemon") and not name.endswith("__main__")]


def test_everything_but_drivers_and_daemons_can_do_without_real_drivers() -> None:
    names = modules()
    assert {"ucloud.loop", "ucloud.scheduler.decide", "ucloud.host.loop", "ucloud.store.etcd"} <= set(names)
    done = subprocess.run([sys.executable, "-c", IMPORT_WITHOUT_DRIVERS, *names], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_hidden_driver_is_noticed() -> None:
    """The test above means something: a real driver is not found where drivers are hidden."""
    command = [sys.executable, "-c", IMPORT_WITHOUT_DRIVERS, "ucloud.driver.pool.directory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "ucloud.driver.pool.directory is not on this system" in done.stderr
