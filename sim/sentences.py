"""The sentences that a story is written in (sim.scenario), and what each does to the cloud."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import cast

import msgspec

from sim.cast import Api, Control, Daemon, Machine, Pool
from sim.stage import Stage
from sim.storage import Storage
from sim.wire import Etcd
from ucloud.base.clock import timestamp
from ucloud.model import keys
from ucloud.model.bookkeeping import Lock
from ucloud.model.image import Pool as PoolRecord
from ucloud.model.record import decode, encode
from ucloud.model.vm import Placement, Vm

DATA = b"\0" * 510 + b"\x55\xaa" + b"\0" * (1024 * 1024 - 512)  # a disk with a boot sector
HOUR_S = 3600.0

Act = Callable[..., None]
SENTENCES: list[tuple[re.Pattern[str], Act]] = []


def sentence(pattern: str) -> Callable[[Act], Act]:
    """The groups of the pattern are what the method is called with."""

    def register(act: Act) -> Act:
        SENTENCES.append((re.compile(pattern), act))
        return act

    return register


def listed(text: str) -> list[str]:
    """a, b and c"""
    return re.split(r", | and ", text)


class Director:
    def __init__(self) -> None:
        self.stage = Stage()
        self.etcd = Etcd(self.stage)
        self.pool = Pool(self.stage)
        self.storage = Storage(self.stage, {})
        self.api = Api(self.stage, self.etcd, self.pool)
        self.controls = {name: Control(self.stage, self.etcd, name, self.pool) for name in ("control-1", "control-2")}
        self.hosts: dict[str, Machine] = {}

    def play(self, text: str) -> None:
        for pattern, act in SENTENCES:
            if match := pattern.fullmatch(text):
                act(self, *match.groups())
                return
        raise ValueError(f"no story can say: {text}")

    def close(self) -> None:
        machines = (daemon for host in self.hosts.values() for daemon in host.daemons)
        for daemon in (self.api, *self.controls.values(), *machines):
            daemon.stop()

    def tell_ending(self) -> None:
        """All VMs, and all that there is of VMs on hosts and in the pool."""
        stage, translate = self.stage, self.stage.translate
        for item in stage.store.list(Vm.prefix).items:
            state, reason = map(translate, stage.state(item.key))
            because = f" ({reason})" if reason and reason not in state else ""
            stage.note(translate(item.key.removeprefix(Vm.prefix)), state + because)
        for host in self.hosts.values():
            guests = ", ".join(sorted(map(translate, host.guests.actual()))) or "none"
            ports = ", ".join(sorted(translate(key.partition("/")[2]) for key in host.hands.plugs.actual()))
            stage.note(
                host.name, f"guests: {guests}{f'; ports: {ports}' if ports else ''}" if host.has_power else "has no power"
            )
        stage.note("the pool", "disks: " + (", ".join(sorted(translate(vm) for vm, _ in self.pool.disks())) or "none"))

    # What there is.

    @sentence(r"there (?:is|are) (h\d .*)")
    def set_up(self, hosts: str) -> None:
        """Not told: hosts, pool and an image, and all daemons up."""
        created = timestamp(self.stage.now_s())
        pool = PoolRecord(name="default", path="/pool", shared=True, fence="same-kernel", created=created)
        self.storage.pools["default"] = pool
        self.stage.store.commit({pool.key: encode(pool)})
        self.api.start()
        for control in self.controls.values():
            control.start()
            self.stage.run_for(0.1)
        for text in listed(hosts):
            name, memory_mib, rack = re.fullmatch(r"(h\d) with (\d+) MiB(?: in rack (\w+))?", text).groups()  # type: ignore[union-attr]
            self.add_host(name, memory_mib)
            self.stage.run_for(0.01)  # so that ids sort as names do
            if rack:
                self.api.ask("PATCH", f"hosts/{name}", json={"labels": {"rack": rack}})
        self.upload("tiny")
        self.stage.run_for(5)
        self.stage.begin()

    @sentence(r"the operator adds (h\d) with (\d+) MiB")
    def add_host(self, name: str, memory_mib: str) -> None:
        host = self.api.ask("POST", "hosts", json={"name": name})["host"]
        self.hosts[name] = Machine(self.stage, self.etcd, name, host["id"], int(memory_mib), self.pool, self.storage)
        self.hosts[name].start_all()

    @sentence(r"the operator (enables|disables) (h\d)")
    def enable_host(self, verb: str, name: str) -> None:
        self.api.ask("PATCH", f"hosts/{name}", json={"enabled": verb == "enables"})

    # Users.

    @sentence(
        r"a user creates (.+?) with (\d+) MiB(?: and (\d+) cores)?(?: on (\S+))?(?: in the group (\S+))?"
        r"(?: under the Idempotency-Key (\w+))?"
    )
    def create(self, vms: str, memory_mib: str, cpus: str | None, host: str | None, group: str | None, key: str | None) -> None:
        for number, name in enumerate(listed(vms)):
            wishes: dict[str, object] = {"name": name, "image": "tiny", "memory_mib": int(memory_mib), "networks": []}
            wishes |= {"cpus": int(cpus)} if cpus else {}
            wishes |= {"host": host} if host else {}
            wishes |= {"spread": group} if group else {}
            headers = {"Idempotency-Key": key} if key else {}
            request = partial(self.api.ask, "POST", "vms", headers, json=wishes)
            self.stage.after(number / 1000, cast("Callable[[], None]", request))

    @sentence(r"a user (stops|starts|reboots|resets) (\w+)( by force)?")
    def command(self, verb: str, name: str, force: str | None) -> None:
        body = {"force": True} if force else {}
        self.api.ask("POST", f"vms/{self.stage.id_of(name)}/actions/{verb.removesuffix('s')}", json=body)

    @sentence(r"a user resizes (\w+) to (?:(\d+) cores?)?(?: and )?(?:(\d+) MiB)?(?:, with a disk of (\d+) MiB)?")
    def resize(self, name: str, *size: str | None) -> None:
        wanted = {field: int(n) for field, n in zip(("cpus", "memory_mib", "disk_mib"), size, strict=True) if n}
        self.api.ask("POST", f"vms/{self.stage.id_of(name)}/actions/resize", json=wanted)

    @sentence(r"a user deletes (?!the )(.+)")
    def delete(self, vms: str) -> None:
        for name in listed(vms):
            self.api.ask("DELETE", f"vms/{self.stage.id_of(name)}")

    @sentence(r"a user uploads the image (\w+)")
    def upload(self, name: str) -> None:
        announced = {"name": name, "bytes": len(DATA), "sha256": sha256(DATA).hexdigest()}
        image = self.api.ask("POST", "images", json=announced)["image"]
        self.api.ask("PUT", f"images/{image['id']}/data", data=DATA)

    @sentence(r"a user deletes the image (\w+)")
    def delete_image(self, name: str) -> None:
        self.api.ask("DELETE", f"images/{name}")

    # Guests.

    @sentence(r"the guest of (\w+) crashes")
    def crash_guest(self, name: str) -> None:
        vm, host = self._guest(name)
        host.guests.crash(vm)

    @sentence(r"the guest of (\w+) will crash at every start")
    def doom_guest(self, name: str) -> None:
        for host in self.hosts.values():
            host.guests.doomed.add(self.stage.id_of(name))

    @sentence(r"the guest of (\w+) does not crash any more")
    def spare_guest(self, name: str) -> None:
        for host in self.hosts.values():
            host.guests.doomed.discard(self.stage.id_of(name))

    @sentence(r"the guest of (\w+) powers itself off")
    def power_off(self, name: str) -> None:
        vm, host = self._guest(name)
        host.guests.power_off(vm)

    @sentence(r"the guest of (\w+) does not obey the power button")
    def deafen(self, name: str) -> None:
        vm, host = self._guest(name)
        host.guests.deaf.add(vm)

    def _guest(self, name: str) -> tuple[str, Machine]:
        vm = self.stage.id_of(name)
        return vm, next(host for host in self.hosts.values() if vm in host.guests.actual())

    # Machines and daemons.

    @sentence(r"making a disk takes (\d+) s")
    def slow_down(self, s: str) -> None:
        self.pool.clone_s = float(s)

    @sentence(r"the pool fails to make the next (\d+) disks")
    def break_pool(self, times: str) -> None:
        self.pool.fail_next("add_disk", int(times))

    @sentence(r"the clock of (h\d) is an hour ahead")
    def set_clock(self, host: str) -> None:
        self.hosts[host].clock.ahead_s = HOUR_S

    @sentence(r"(the daemon of h\d|the control leader) crashes and is started again")
    def crash(self, who: str) -> None:
        self._daemon(who).crash()

    @sentence(r"(the daemon of h\d|the control leader) is killed")
    def kill(self, who: str) -> None:
        self._daemon(who).stop()

    @sentence(r"(the daemon of h\d) is started")
    def start(self, who: str) -> None:
        self._daemon(who).start()

    @sentence(r"the daemon of (h\d) is restarted (\d+) times, once every (\d+) s")
    def restart_often(self, host: str, times: str, s: str) -> None:
        for number in range(int(times)):
            self.stage.after(number * float(s), self.hosts[host].crash)

    @sentence(r"(the daemon of h\d|the control leader|the API) is cut off from etcd for (\d+) s")
    def cut(self, who: str, s: str) -> None:
        self._daemon(who).wire.cut_until_s = self.stage.monotonic_s() + float(s)

    @sentence(r"(the daemon of h\d|the control leader) stands still for (\d+) s")
    def freeze(self, who: str, s: str) -> None:
        self._daemon(who).frozen_until_s = self.stage.monotonic_s() + float(s)

    @sentence(r"(the control leader) will stand still for (\d+) s in its next commit")
    def freeze_in_commit(self, who: str, s: str) -> None:
        daemon = self._daemon(who)

        def stand_still(happen: Callable[[], int]) -> int:
            self.stage.tell("stands still before its commit leaves")
            self.freeze(who, s)
            self.stage.pass_time(float(s))
            self.stage.tell("goes on")
            return happen()

        daemon.wire.ails.append(stand_still)

    @sentence(r"the answer to the next commit of (the daemon of h\d|the control leader|the API) is lost")
    def lose_answer(self, who: str) -> None:
        wire = self._daemon(who).wire
        wire.ails.append(wire.lose_answer)

    @sentence(r"the next commit of (the daemon of h\d|the control leader|the API) arrives (\d+) s late")
    def delay(self, who: str, s: str) -> None:
        wire = self._daemon(who).wire
        wire.ails.append(partial(wire.arrive_late, float(s)))

    @sentence(r"the control leader does not hear of its lock for (\d+) s")
    def deafen_leader(self, s: str) -> None:
        self._leader().wire.deaf_until_s[keys.lock("scheduler")] = self.stage.monotonic_s() + float(s)

    def _daemon(self, who: str) -> Daemon:
        if who == "the control leader":
            return self._leader()
        return self.api if who == "the API" else self.hosts[who.removeprefix("the daemon of ")]

    def _leader(self) -> Control:
        item = self.stage.store.get(keys.lock("scheduler"))
        assert item, "nobody leads"
        return self.controls[decode(Lock, item.value)[0].owner.partition(".")[0]]

    # etcd, and hands that reach into it.

    @sentence(r"etcd has no quorum for (\d+) s")
    def lose_quorum(self, s: str) -> None:
        self.etcd.lose_quorum(float(s))

    @sentence(r"etcd is full")
    def fill(self) -> None:
        self.etcd.is_full = True

    @sentence(r"etcd has room again")
    def empty(self) -> None:
        self.etcd.is_full = False

    @sentence(r"etcd compacts its history")
    def compact(self) -> None:
        self.stage.store.compact(self.stage.store.list("", limit=1).revision)

    @sentence(r"a hand deletes the (manifest|placement|lock of the scheduler|record)(?: of (\w+))?")
    def delete_key(self, what: str, vm: str | None) -> None:
        self.stage.store.commit(deletes=[self._key(what, vm)])

    @sentence(r"a hand writes (\w+)=(\S+) into the (manifest|placement|record) of (\w+)")
    def write_nonsense(self, field: str, value: str, what: str, vm: str) -> None:
        self._change(self._key(what, vm), {field: int(value) if value.lstrip("-").isdigit() else value})

    @sentence(r"a hand makes the (manifest|placement|record) of (\w+) unreadable")
    def scribble(self, what: str, vm: str) -> None:
        self.stage.store.commit({self._key(what, vm): b"{oops"})

    def _change(self, key: str, changes: Mapping[str, object]) -> None:
        item = self.stage.store.get(key)
        assert item
        self.stage.store.commit({key: msgspec.json.encode({**msgspec.json.decode(item.value), **changes})})

    def _key(self, what: str, vm: str | None) -> str:
        if vm is None:
            return keys.lock("scheduler")
        id = self.stage.id_of(vm)
        if what == "manifest":
            item = self.stage.store.get(Placement.at(id))
            assert item
            return f"manifest/{decode(Placement, item.value)[0].host}/{id}"
        return Placement.at(id) if what == "placement" else Vm.at(id)
