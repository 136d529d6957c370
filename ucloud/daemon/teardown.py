"""`ucloud down`: ends a cloud on this machine, whatever state it is in; with `wipe` nothing of it is left.

It goes by what it finds, not by what should be there, so it also clears up after a crash. Guests are killed, not asked.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterable

import msgspec

from ucloud.base.errors import Temporary
from ucloud.daemon import drivers, platform, underlay
from ucloud.daemon.cloud import Cloud, contents, home
from ucloud.driver.process.contract import Process

SUPERVISOR_STOP_S = 60.0  # it gives each of four kinds of daemons 12 s
DAEMON_STOP_S = 12.0
KILL_S = 10.0
LOOK_S = 0.02

Say = Callable[[str], None]


def tear_down(cloud: Cloud, say: Say, *, wipe: bool) -> None:
    stop_daemons(cloud, say)
    for directory in cloud.run_dir.glob("h[0-9]"):
        if killed := kill_guests(cloud, directory.name):
            say(f"killed {killed} guests of {directory.name}")
    for namespace in underlay.namespaces(cloud, platform.links()):
        end(platform.processes().inside(namespace), signal.SIGKILL, KILL_S)
    underlay.remove(cloud, platform.links())
    if cloud.run_dir.exists():
        shutil.rmtree(cloud.run_dir)
    if wipe:
        remove_state(cloud)


def stop_daemons(cloud: Cloud, say: Say) -> None:
    """The supervisor with all daemons, and daemons without a supervisor. Guests go on, also those that were frozen."""
    thaw(cloud)  # what is frozen would not end
    if supervisors := supervisors_of(cloud):
        say(f"stopping the daemons of {cloud.name}")
        end(supervisors, signal.SIGTERM, SUPERVISOR_STOP_S)
    end(find([daemon.command for daemon in cloud.daemons()]), signal.SIGTERM, DAEMON_STOP_S)


def thaw(cloud: Cloud) -> None:
    """Daemons and guests, in whatever namespace they are."""
    processes = platform.processes()
    found = [*find([daemon.command for daemon in cloud.daemons()]), *processes.working_below(cloud.run_dir)]
    for namespace in underlay.namespaces(cloud, platform.links()):
        found += processes.inside(namespace)
    for process in found:
        processes.send(process, signal.SIGCONT)


def supervisors_of(cloud: Cloud) -> list[Process]:
    return find([cloud.supervisor_command()])


def find(commands: Iterable[tuple[str, ...]]) -> list[Process]:
    """Processes that run one of these commands, or are about to; by which path the program was found does not matter."""
    wanted = {command[1:] for command in commands}
    lengths = {len(command) for command in wanted}
    running = platform.processes().running()
    return [process for process in running if any(process.command[-length:] in wanted for length in lengths)]


def end(processes: Iterable[Process], first: signal.Signals, patience_s: float) -> None:
    """Signal each, wait until all are gone, and kill those that don't go. They may be nobody's children by now."""
    alive, driver = list(processes), platform.processes()
    for number, wait_s in ((first, patience_s), (signal.SIGKILL, KILL_S)):
        for process in alive:
            driver.send(process, number)
        until_s = time.monotonic() + wait_s
        while (alive := [process for process in alive if driver.is_alive(process)]) and time.monotonic() < until_s:
            time.sleep(LOOK_S)
    if alive:
        raise Temporary(f"processes that do not die: {', '.join(str(process.pid) for process in alive)}")


def kill_guests(cloud: Cloud, host: str) -> int:
    """With all that the host's hypervisor knows of them: mounts, control groups, logs. Answers how many there were."""
    if not cloud.host_run_dir(host).exists():
        return 0
    settings = cloud.config(host)
    without_probe = msgspec.structs.replace(settings.host, accel="tcg")
    hypervisor = drivers.hypervisor(msgspec.structs.replace(settings, host=without_probe))
    traces = hypervisor.traces()
    for vm in traces:
        hypervisor.kill(vm)
        hypervisor.forget(vm)
    hypervisor.close()
    return len(traces)


def remove_state(cloud: Cloud) -> None:
    """The directory itself, too, unless somebody put other things into it."""
    for file in contents(cloud.state_dir):
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()
    if cloud.state_dir.exists() and not any(cloud.state_dir.iterdir()):
        cloud.state_dir.rmdir()
    if home(cloud.name).is_symlink():
        home(cloud.name).unlink()
