"""The packet filter by nftables, the command `nft`: rules.nft, and its sets' elements for this host's ports and networks.

Made by the host daemon, in the network namespace of its host. Every call is one transaction of the kernel: refused, it has
changed nothing. Rules and elements stay when the daemon goes. Adding costs as much as what is added.
"""

import json
import socket
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Generic, TypeVar

from ucloud.base.errors import Temporary
from ucloud.base.text import one_line
from ucloud.driver.overlay import names
from ucloud.driver.packetfilter.elements import Claims, Element, Filters, Group, Kind, Zones, grouped, listed, understood
from ucloud.model.wiring import PortFilter, Segment, Taken, Thing

T = TypeVar("T", bound=Thing)

TABLES = ("bridge ucloud", "inet ucloud")
RULES = Path(__file__).with_name("rules.nft")
LONGEST_S = 30.0
LOW = (1 << 64) - 1  # an interface's part of an IPv6 address
NETLINK_NETFILTER, NLM_F_REQUEST = 12, 1
NFT_MSG_GETGEN, NFTA_GEN_ID = 10 << 8 | 16, 1
EMPTY: Group = frozenset()


class NftPacketFilter:
    """uplink: the interface to the other hosts. underlay: the prefixes of their addresses. The three sets share the tables."""

    def __init__(self, uplink: str, underlay: Sequence[str]) -> None:
        kinds = (Zones(), Filters(), Claims())
        self._tables = Tables(rules(uplink, underlay), kinds)
        self.zones: Elements[Segment] = Elements("rules of network", kinds[0], self._tables)
        self.filters: Elements[PortFilter] = Elements("filter", kinds[1], self._tables)
        self.taken: Elements[Taken] = Elements("claim of address", kinds[2], self._tables)

    def prepare(self) -> None:
        """These rules are there, in one step from those of an earlier daemon, whose elements stay. Raises Temporary."""
        self._tables.look()
        self._tables.load()


class Tables:
    """groups: the elements in the kernel, by kind and thing, as of the last look and what was done since."""

    def __init__(self, rules: str, kinds: Sequence[Kind[Any]]) -> None:
        self._rules = rules
        self._generation: int | None = None  # of which we know all
        self._loaded: list[Any] = []  # rules, by their handles: as we loaded them,
        self._there: list[Any] = []  # and as they are
        self.groups: dict[Kind[Any], dict[str, Group]] = {kind: {} for kind in kinds}

    @property
    def is_damaged(self) -> bool:
        """Somebody has changed what we loaded."""
        return bool(self._loaded) and self._loaded != self._there

    def look(self) -> None:
        """Costs nothing while nobody changes anything."""
        while self._generation != (now := generation()):
            objects = contents()
            elements = list(listed(objects))
            self.groups = {kind: grouped(kind, elements) for kind in self.groups}
            self._there = [described for described in objects if "chain" in described or "rule" in described]
            self._generation = now

    def change(self, kind: Kind[Any], groups: Mapping[str, Group]) -> None:
        """These things' elements, and no others of theirs, are there: one transaction."""
        if not self._loaded or self.is_damaged:
            self.load()
        there = self.groups[kind]
        gone = {element for name, group in groups.items() for element in there.get(name, EMPTY) - group}
        new = {element for group in groups.values() for element in group}
        self._commit(statements("delete", gone) + statements("add", new))
        self.groups[kind] = {name: group for name, group in {**there, **groups}.items() if group}

    def load(self) -> None:
        """All rules anew. Of elements those of whole things stay."""
        whole = [group for kind, groups in self.groups.items() for group in groups.values() if understood(kind, group)[1]]
        kept = [element for group in whole for element in group]
        anew = "".join(f"table {table}; delete table {table}\n" for table in TABLES)
        nft(anew + self._rules + statements("add", kept))
        self.look()
        self._loaded = self._there

    def _commit(self, text: str) -> None:
        """All goes on being known if nobody else has changed anything meanwhile."""
        before, self._generation = self._generation, None
        nft(text)
        now = generation()
        self._generation = now if before is not None and now == before + 1 else None


class Elements(Generic[T]):
    """The set of all things of a kind (`ucloud.driver.things`)."""

    def __init__(self, name: str, kind: Kind[T], tables: Tables) -> None:
        self.name = name
        self._kind, self._tables = kind, tables

    def actual(self) -> Mapping[str, T | None]:
        """Without the rules nothing is as it should be."""
        self._tables.look()
        things = dict(understood(self._kind, group) for group in self._tables.groups[self._kind].values())
        return dict.fromkeys(things) if self._tables.is_damaged else things

    def add(self, things: Sequence[T]) -> None:
        self._tables.look()
        for thing in things:
            self._check_name(thing)
        if things:
            wanted = {self._kind.group(thing.key): frozenset(self._kind.elements(thing)) for thing in things}
            self._tables.change(self._kind, wanted)

    def remove(self, keys: Sequence[str]) -> None:
        self._tables.look()
        names = {self._kind.group(key) for key in keys} & self._tables.groups[self._kind].keys()
        if names:
            self._tables.change(self._kind, dict.fromkeys(names, EMPTY))

    def _check_name(self, thing: T) -> None:
        """Two VMs' interfaces may have the same name; the second one is not let in."""
        group = self._kind.group(thing.key)
        if there := self._tables.groups[self._kind].get(group):
            whose, _ = understood(self._kind, there)
            if whose not in (thing.key, group):
                raise Temporary(f"{self.name} {thing.key}: {whose} has an interface of the same name")


def rules(uplink: str, underlay: Sequence[str]) -> str:
    everywhere = [IPv6Address(address) for address in (names.GATEWAY, names.METADATA_LOCAL, names.METADATA6)]
    defined = {
        "taps": f'"{names.TAP}*"',
        "vxlans": f'"{names.VXLAN}*"',
        "bridges": f'"{names.BRIDGE}*"',
        "uplink": f'"{uplink}"',
        "underlay": f"{{ {', '.join(underlay)} }}",
        "routers": f"{{ {', '.join(hex(int(address)) for address in everywhere)} }}",
        "router_ids": f"{{ 0x0, {', '.join(hex(int(address) & LOW) for address in everywhere if address.is_link_local)} }}",
        "metadata6": f"{{ {names.METADATA_LOCAL}, {names.METADATA6} }}",
        "metadata4": names.METADATA4,
        "metadata_port": names.METADATA_PORT,
        "gateway_mac": names.GATEWAY_MAC,
    }
    return "".join(f"define {name} = {value}\n" for name, value in defined.items()) + RULES.read_text("utf-8")


def statements(verb: str, elements: Iterable[Element]) -> str:
    """add or delete; one line for each set, in an order that depends on nothing."""
    by_set: defaultdict[str, list[str]] = defaultdict(list)
    for element in sorted(elements):
        by_set[element.set].append(f"{element}")
    return "".join(f"{verb} element {name} {{ {', '.join(texts)} }}\n" for name, texts in by_set.items())


def contents() -> list[Any]:
    """Of both tables; nothing of one that is not there."""
    return [described for table in TABLES for described in table_contents(table)]


def table_contents(table: str) -> list[Any]:
    try:
        printed = nft("", "--json", "list", "table", *table.split())
    except Temporary as error:
        if "No such file or directory" in error.message:
            return []
        raise
    described: list[Any] = json.loads(printed)["nftables"]
    return described


def generation() -> int:
    """A number that the kernel raises whenever somebody changes this namespace's packet filters (nfnetlink, GETGEN)."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(LONGEST_S)
            kernel.send(struct.pack("=IHHIIBBH", 20, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0, socket.AF_UNSPEC, 0, 0))
            answer = kernel.recv(4096)
    except OSError as error:
        raise Temporary(f"the kernel's packet filter does not answer: {error}") from error
    if answer[20:24] != struct.pack("=HH", 8, NFTA_GEN_ID):
        raise Temporary(f"the kernel has no packet filter that nft could change: {answer.hex()}")
    return int.from_bytes(answer[24:28], "big")


def nft(text: str, *arguments: str) -> str:
    command = ["nft", *(arguments or ("--file", "-"))]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Temporary(f"nft: {error}") from error
    if done.returncode:
        raise Temporary(f"nft: {one_line(done.stderr)}")
    return done.stdout
