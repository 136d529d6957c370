"""People who use a cloud while it breaks, and remember every answer that they got. For `rounds` and `checker`."""

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from bench.processes import IMAGE
from ucloud.api.network import DEFAULT
from ucloud.base.errors import Conflict, Error, NotFound, Temporary
from ucloud.client import Client, Json

MAX_VMS, MAX_NETWORKS = 8, 2
SIZES_MIB = (64, 128, 256)
PATIENCES_S = (0.3, 2.0, 15.0)  # who gives up early does not learn what became of a request
Answer = Literal["no", "yes", "unknown"]


@dataclass
class Remembered:
    """A VM as its owner knows it. id: "" where the answer to its create was lost. deleted: whether it was asked for and
    answered. power: what was asked for last, "" where that answer was lost; memory_mib likewise, 0. networks: by name, whether
    it shall be on them. actions: the ids of all that was answered."""

    name: str
    id: str = ""
    deleted: Answer = "no"
    power: str = "on"
    memory_mib: int = 0
    networks: dict[str, Answer] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)


@dataclass
class RememberedNetwork:
    """Likewise."""

    name: str
    id: str = ""
    deleted: Answer = "no"


class Person:
    """Creates, starts, stops, boots again, resizes and deletes VMs named after itself, and puts them on networks of its own and
    takes them off, in a thread of its own, until `end`."""

    def __init__(self, name: str, urls: Sequence[str], seed: str) -> None:
        self.name = name
        self.vms: list[Remembered] = []
        self.networks: list[RememberedNetwork] = []
        self._bug: BaseException | None = None
        self._chance = random.Random(seed)
        self._urls = self._chance.sample(urls, len(urls))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def _run(self) -> None:
        try:
            with Client(self._urls, self._chance.choice(PATIENCES_S)) as client:
                while not client.is_ready() and not self._ended.wait(0.2):
                    continue
                while not self._ended.wait(self._chance.uniform(0, 0.2)):
                    self._act(client)
        except BaseException as bug:
            self._bug = bug

    def end(self) -> None:
        """After what it is waiting for has been answered, or given up."""
        self._ended.set()
        self._thread.join()
        if self._bug:
            raise self._bug

    def _act(self, client: Client) -> None:
        mine = [vm for vm in self.vms if vm.id and vm.deleted == "no"]
        if self._chance.random() < 0.4:
            self._act_on_networks(client, mine)
        elif not mine or (len(mine) < MAX_VMS and self._chance.random() < 0.4):
            self._create(client)
        elif self._chance.random() < 0.3:
            self._delete(client, self._chance.choice(mine))
        elif (stopped := [vm for vm in mine if vm.power == "off"]) and self._chance.random() < 0.4:
            self._resize(client, self._chance.choice(stopped))
        else:
            self._command(client, self._chance.choice(mine))

    def _create(self, client: Client) -> None:
        """Names of VMs that were deleted are used again at once; while the old one is still there that is refused."""
        gone = [vm.name for vm in self.vms if vm.deleted == "yes"]
        again = gone and self._chance.random() < 0.3
        vm = Remembered(self._chance.choice(gone) if again else f"{self.name}-{len(self.vms)}")
        own = [network.name for network in self._own_networks() if self._chance.random() < 0.5]
        networks = self._chance.choice([None, None, own])
        try:
            made, action = client.create_vm(vm.name, IMAGE, memory_mib=self._chance.choice(SIZES_MIB), networks=networks)
            vm.id, vm.memory_mib = made["id"], made["memory_mib"]
            vm.networks = dict.fromkeys([DEFAULT] if networks is None else networks, "yes")
            vm.actions.append(action["id"])
        except Temporary:
            self.vms.append(vm)
        except Conflict:
            assert again, f"nobody else has a VM named {vm.name}"
        else:
            self.vms.append(vm)

    def _delete(self, client: Client, vm: Remembered) -> None:
        try:
            vm.actions.append(client.delete_vm(vm.id)["id"])
            vm.deleted = "yes"
        except NotFound:
            vm.deleted = "yes"  # done already by a try whose answer was lost
        except Temporary:
            vm.deleted = "unknown"

    def _resize(self, client: Client, vm: Remembered) -> None:
        memory_mib = self._chance.choice(SIZES_MIB)
        try:
            vm.actions.append(client.resize_vm(vm.id, memory_mib=memory_mib)["id"])
            vm.memory_mib = memory_mib
        except Temporary:
            vm.memory_mib = 0
        except Conflict:
            return  # it has not stopped yet

    def _command(self, client: Client, vm: Remembered) -> None:
        commands: dict[str, tuple[Callable[[str], Json], str]] = {
            "start": (client.start_vm, "on"),
            "stop": (client.stop_vm, "off"),
            "force": (lambda id: client.stop_vm(id, force=True), "off"),
            "reboot": (client.reboot_vm, vm.power),
            "reset": (client.reset_vm, vm.power),
        }
        command, power = commands[self._chance.choice(sorted(commands))]
        try:
            vm.actions.append(command(vm.id)["id"])
            vm.power = power
        except Temporary:
            vm.power = vm.power if power == vm.power else ""
        except Conflict:
            return  # nobody boots a VM again that is stopped

    def _own_networks(self) -> list[RememberedNetwork]:
        return [network for network in self.networks if network.id and network.deleted == "no"]

    def _act_on_networks(self, client: Client, mine: Sequence[Remembered]) -> None:
        own = self._own_networks()
        if not own or (len(own) < MAX_NETWORKS and self._chance.random() < 0.1):
            self._create_network(client)
        elif not mine or self._chance.random() < 0.1:
            self._delete_network(client, self._chance.choice(own))
        else:
            vm = self._chance.choice(mine)
            known = [DEFAULT] if DEFAULT in vm.networks else []
            self._attach_or_detach(client, vm, self._chance.choice([*known, *(network.name for network in own)]))

    def _create_network(self, client: Client) -> None:
        """Its first one has IPv4, of a range that nobody else has."""
        network = RememberedNetwork(f"{self.name}-net-{len(self.networks)}")
        high, low = divmod(int(self.name[1:]), 256)
        ipv4 = None if self.networks else f"10.{high}.{low}.0/24"
        self.networks.append(network)
        with suppress(Temporary):
            network.id = client.create_network(network.name, ipv4=ipv4)["id"]

    def _delete_network(self, client: Client, network: RememberedNetwork) -> None:
        try:
            client.delete_network(network.id)
            network.deleted = "yes"
        except NotFound:
            network.deleted = "yes"
        except Temporary:
            network.deleted = "unknown"
        except Conflict:
            return  # VMs are on it

    def _attach_or_detach(self, client: Client, vm: Remembered, network: str) -> None:
        ways: list[tuple[Callable[[str, str], Json], Answer]] = [(client.attach_vm, "yes"), (client.detach_vm, "no")]
        change, wanted = self._chance.choice(ways)
        try:
            vm.actions.append(change(vm.id, network)["id"])
            vm.networks[network] = wanted
        except Temporary:
            vm.networks[network] = "unknown"
        except Conflict:
            return  # it is there, is not, or still leaves it


def summary(people: Sequence[Person]) -> str:
    vms = [vm for person in people for vm in person.vms]
    created, deleted = sum(bool(vm.id) for vm in vms), sum(vm.deleted == "yes" for vm in vms)
    unknown = sum(not vm.id for vm in vms) + sum(vm.deleted == "unknown" for vm in vms) + sum(not vm.power for vm in vms)
    actions = sum(len(vm.actions) for vm in vms)
    networks = sum(bool(network.id) for person in people for network in person.networks)
    return f"{created} VMs created, {deleted} deleted, {networks} networks, {actions} actions answered, {unknown} answers lost"


def still_running(client: Client, people: Sequence[Person]) -> list[str]:
    """The actions that were answered once and have not ended. Forgets those that have."""
    for person in people:
        for vm in person.vms:
            vm.actions = [action for action in vm.actions if _runs(client, action)]
    return [f"{vm.name}: {action}" for person in people for vm in person.vms for action in vm.actions]


def _runs(client: Client, action: str) -> bool:
    try:
        return bool(client.action(action)["state"] == "running")
    except Error:
        return True
