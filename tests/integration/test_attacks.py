"""What hostile guests send comes nowhere, on their host or another, at hosts or on the wire between them; and what guests need
comes through. With the real kernel's filters, on hosts that are namespaces."""

import os
from collections.abc import Iterator

import pytest

from tests.integration.attack_site import MALLORY, Site, site
from tests.integration.attacks import SIGNS, Attack, attacks
from tests.integration.errands import Errand, errands

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ATTACKS = list(attacks())
BRIDGES = {"host 1", "host 1 private"}  # of the host that attackers are on
WIRES = {"underlay", "world"}  # where what outsiders send is seen in any case


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    with site() as place:
        place.heard()
        yield place


def test_no_attack_comes_anywhere(place: Site) -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) > 100
    assert {attack.name: where for attack in ATTACKS if (where := came_to(place, attack))} == {}


def test_what_honest_guests_send_comes_to_where_it_is_meant_to(place: Site) -> None:
    assert {errand.name: where for errand in errands() if (where := missed(place, errand))} == {}


def test_each_attack_would_come_somewhere_but_for_the_filters(place: Site) -> None:
    with place.unfiltered():
        assert [attack.name for attack in ATTACKS if not came_to(place, attack)] == []


def came_to(place: Site, attack: Attack) -> list[str]:
    """The places where it is heard, or what it causes; of none that must not."""
    place.introduce()
    for frame in attack.frames:
        place.send(attack.by, frame)
    besides = BRIDGES if attack.to_host else WIRES if attack.by is None else set()
    least = len(attack.frames) if attack.whole else 1
    heard = {name: sum(map(is_sign, frames)) for name, frames in place.heard(attack.by or MALLORY).items()}
    return [name for name, number in heard.items() if number >= least and name not in besides]


def is_sign(frame: bytes) -> bool:
    return any(sign in frame for sign in SIGNS)


def missed(place: Site, errand: Errand) -> list[str]:
    """The places where not all of it is heard, of those where it must."""
    place.introduce()
    for frame in errand.frames:
        place.send(errand.by, frame)
    heard = place.heard(errand.by or MALLORY)
    return [name for name in sorted(errand.to) if sum(map(is_sign, heard[name])) < len(errand.frames)]
