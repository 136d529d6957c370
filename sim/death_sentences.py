"""Sentences of stories about hosts that die, or seem to: what befalls a machine as a whole, and what operators say of it."""

from sim.cast import Machine
from sim.sentences import Director, listed, sentence
from sim.wire import Happen
from sim.world import Killed
from ucloud.model import keys
from ucloud.model.bookkeeping import Lock
from ucloud.model.record import decode

ELECTION_S = 0.6  # the longest that etcd takes for one
BOOT_S = 10.0


def machines(director: Director, names: str) -> list[Machine]:
    return [director.hosts[name] for name in listed(names)]


@sentence(r"(h\d(?:(?:, | and )h\d)*) loses? power")
def lose_power(director: Director, hosts: str) -> None:
    for machine in machines(director, hosts):
        machine.lose_power()


@sentence(r"(h\d(?:(?:, | and )h\d)*) comes? back")
def boot(director: Director, hosts: str) -> None:
    for machine in machines(director, hosts):
        machine.boot()


@sentence(r"(h\d) loses power, and with it the leader of etcd")
def lose_etcd_leader(director: Director, host: str) -> None:
    director.hosts[host].lose_power()
    director.etcd.lose_quorum(ELECTION_S)


@sentence(r"the whole site loses power")
def lose_site(director: Director) -> None:
    lose_power(director, ", ".join(director.hosts))
    for daemon in (director.api, *director.controls.values()):
        daemon.stop()
    director.etcd.has_quorum = False


@sentence(r"the whole site comes back")
def boot_site(director: Director) -> None:
    """First etcd, which gives each lease its whole time again, and the control plane; then one host after the other."""
    director.etcd.elect()
    for daemon in (director.api, *director.controls.values()):
        daemon.start()
    for number, machine in enumerate(director.hosts.values(), 1):
        director.stage.after(BOOT_S * number, machine.boot)


@sentence(r"(h\d) is cut off from (etcd|its storage|etcd and its storage) for (\d+) s")
def cut(director: Director, host: str, what: str, s: str) -> None:
    machine, stage = director.hosts[host], director.stage
    if "etcd" in what:
        for daemon in machine.daemons:
            daemon.wire.cut_until_s = stage.monotonic_s() + float(s)
    if "storage" in what:
        director.storage.cut.add(host)
        stage.after(float(s), lambda: director.storage.cut.discard(host))


@sentence(r"(h\d) stands still as a whole for (\d+) s")
def freeze(director: Director, host: str, s: str) -> None:
    for daemon in director.hosts[host].daemons:
        daemon.frozen_until_s = director.stage.monotonic_s() + float(s)


@sentence(r"(the lease daemon|the deadman) of (h\d) (stands still|is killed)")
def hurt_guard(director: Director, which: str, host: str, how: str) -> None:
    """For good: nobody starts it again."""
    guard = director.hosts[host].daemons[0 if "lease" in which else 1]
    if how == "is killed":
        guard.stop()
    else:
        guard.frozen_until_s = float("inf")


@sentence(r"the leader of the host manager dies in its next commit")
def kill_manager(director: Director) -> None:
    """The commit is carried out, and nobody hears of it."""
    item = director.stage.store.get(keys.lock("hostmanager"))
    assert item, "nobody leads"
    control = director.controls[decode(Lock, item.value)[0].owner.partition(".")[0]]

    def die(happen: Happen) -> int:
        happen()
        control.crash()
        raise Killed

    control.wire.ails.append(die)


@sentence(r"hosts share the pool without a fence")
def unfence(director: Director) -> None:
    director.api.ask("PATCH", "pools/default", json={"fence": "none"})


@sentence(r"each host has its own files in the pool")
def part(director: Director) -> None:
    director.api.ask("PATCH", "pools/default", json={"shared": False, "fence": "none"})


@sentence(r"a user says that (\w+) is never to be restarted elsewhere")
def keep(director: Director, vm: str) -> None:
    director.api.ask("PATCH", f"vms/{director.stage.id_of(vm)}", json={"ha": "never"})


@sentence(r"the operator disarms the cluster, as (.+)")
def disarm(director: Director, reason: str) -> None:
    director.api.ask("PATCH", "cluster", json={"armed": False, "reason": reason})


@sentence(r"the operator arms the cluster")
def arm(director: Director) -> None:
    director.api.ask("PATCH", "cluster", json={"armed": True})


@sentence(r"the operator confirms that (h\d) is off")
def confirm_off(director: Director, host: str) -> None:
    director.api.ask("POST", f"hosts/{host}/actions/fence", json={"confirm_off": True})
