"""The packet filter by nftables, the command `nft`: rules.nft, and its sets' elements for this host's ports and networks.

Made by the host daemon, in the network namespace of its host. Every call is one transaction of the kernel: refused, it has
changed nothing. Rules and elements stay when the daemon goes. Adding costs as much as what is added.
"""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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
    """groups: the elements in the kernel, by kind and thing, when we looked and by what we did since. is_intact: so are the
    rules that we loaded, by their handles."""

    def __init__(self, rules: str, kinds: Sequence[Kind[Any]]) -> None:
        self._rules = rules
        self._loaded: list[Any] = []
        self.groups: dict[Kind[Any], dict[str, Group]] = {kind: {} for kind in kinds}
        self.is_intact = False

    def look(self) -> None:
        self.is_intact = False
        objects = contents()
        elements = list(listed(objects))
        self.groups = {kind: grouped(kind, elements) for kind in self.groups}
        self.is_intact = bool(self._loaded) and self._loaded == handled(objects)

    def change(self, kind: Kind[Any], groups: Mapping[str, Group]) -> None:
        """These things' elements, and no others of theirs, are there: one transaction."""
        if not self.is_intact:
            self.load()
        there = self.groups[kind]
        gone = {element for name, group in groups.items() for element in there.get(name, EMPTY) - group}
        new = {element for group in groups.values() for element in group}
        nft(statements("delete", gone) + statements("add", new))
        self.groups[kind] = {name: group for name, group in {**there, **groups}.items() if group}

    def load(self) -> None:
        """All rules anew. Of elements those of whole things stay."""
        self.groups = {
            kind: {name: group for name, group in groups.items() if understood(kind, group)[1]}
            for kind, groups in self.groups.items()
        }
        kept = [element for groups in self.groups.values() for group in groups.values() for element in group]
        anew = "".join(f"table {table}; delete table {table}\n" for table in TABLES)
        nft(anew + self._rules + statements("add", kept))
        self._loaded = handled(contents())
        self.is_intact = True


class Elements(Generic[T]):
    """The set of all things of a kind (`ucloud.driver.things`)."""

    def __init__(self, name: str, kind: Kind[T], tables: Tables) -> None:
        self.name = name
        self._kind, self._tables = kind, tables

    def actual(self) -> Mapping[str, T | None]:
        self._tables.look()
        things = dict(understood(self._kind, group) for group in self._groups.values())
        return things if self._tables.is_intact else dict.fromkeys(things)

    def add(self, things: Sequence[T]) -> None:
        """What we remember of the sets saves looking; refused, it may be that somebody else has changed them."""
        if self._tables.is_intact:
            with suppress(Temporary):
                self._replace(things)
                return
        self._tables.look()
        self._replace(things)

    def remove(self, keys: Sequence[str]) -> None:
        self._tables.look()
        names = {self._kind.group(key) for key in keys} & self._groups.keys()
        if names:
            self._tables.change(self._kind, dict.fromkeys(names, EMPTY))

    @property
    def _groups(self) -> Mapping[str, Group]:
        return self._tables.groups[self._kind]

    def _replace(self, things: Sequence[T]) -> None:
        wanted = {self._kind.group(thing.key): frozenset(self._kind.elements(thing)) for thing in things}
        for thing in things:
            group = self._kind.group(thing.key)
            if (before := self._groups.get(group)) and (other := understood(self._kind, before)[0]) not in (thing.key, group):
                raise Temporary(f"{self.name} {thing.key}: {other} has an interface of the same name")
        self._tables.change(self._kind, wanted)


def rules(uplink: str, underlay: Sequence[str]) -> str:
    defined = {
        "taps": f'"{names.TAP}*"',
        "vxlans": f'"{names.VXLAN}*"',
        "bridges": f'"{names.BRIDGE}*"',
        "uplink": f'"{uplink}"',
        "underlay": f"{{ {', '.join(underlay)} }}",
        "gateway": hex(int(IPv6Address(names.GATEWAY))),
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


def handled(objects: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Chains and rules, with the handles that the kernel gave them: never the same ones again."""
    return [described for described in objects if "chain" in described or "rule" in described]


def nft(text: str, *arguments: str) -> str:
    command = ["nft", *(arguments or ("--file", "-"))]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Temporary(f"nft: {error}") from error
    if done.returncode:
        raise Temporary(f"nft: {one_line(done.stderr)}")
    return done.stdout
