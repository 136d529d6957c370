"""What bird is told: as texts that a reviewer can read (tests/golden/bird-host.txt, bird-router.txt)."""

from pathlib import Path

import pytest

from ucloud.driver.announcer import bird_config

GOLDEN = Path(__file__).parents[2] / "golden"
PUBLIC = ("2001:db8:100::/56", "2001:db8:200::/56")


def host(prefixes: tuple[str, ...] = PUBLIC) -> str:
    routers = ["2001:db8::ffff", "2001:db8::fffe"]
    return bird_config.host(address="2001:db8::1", routers=routers, host_as=65001, router_as=65000, prefixes=prefixes)


def router() -> str:
    return bird_config.router(
        address="2001:db8::ffff", interface="up0", hosts="2001:db8::/64", host_as=65001, router_as=65000, prefixes=PUBLIC
    )


@pytest.mark.parametrize(("name", "text"), [("bird-host", host()), ("bird-router", router())])
def test_the_text_is_as_reviewed(name: str, text: str) -> None:
    assert text == (GOLDEN / f"{name}.txt").read_text()


def test_without_public_prefixes_nothing_is_announced() -> None:
    assert "import none; export where source = RTS_BGP" in host(prefixes=())


def test_ids_differ_as_addresses_do_however_they_are_written() -> None:
    assert bird_config.router_id("2001:db8::1") == bird_config.router_id("2001:0db8:0::0001")
    assert len({bird_config.router_id(f"2001:db8::{number:x}") for number in range(1, 100)}) == 99
