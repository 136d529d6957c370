"""Ids and names: their form, their order, and what is refused."""

import pytest

from ucloud.base.ids import is_id, is_name, new_id, ulid

AN_ID = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"


def test_an_id_is_its_kind_and_26_characters_that_cannot_be_misread() -> None:
    id = new_id("vm", 1_800_000_000.0)
    assert is_id(id)
    assert len(id) == len("vm-") + 26
    assert not set(id.removeprefix("vm-")) & set("ilou")


def test_ids_sort_by_time_whatever_chance_says() -> None:
    times_s = [0.0, 0.001, 1.0, 1_799_999_999.999, 1_800_000_000.0, 1_800_000_000.001, 200_000_000_000.0]
    ids = [ulid(time_s, lambda bits, low=index % 2: (1 << bits) - 1 if low == 0 else 0) for index, time_s in enumerate(times_s)]
    assert ids == sorted(ids)


def test_an_id_is_what_time_and_chance_make_it() -> None:
    assert ulid(0.0, lambda bits: 0) == "0" * 26
    assert ulid(0.001, lambda bits: 31) == "0000000001" + "000000000000000z"


def test_two_ids_of_one_moment_differ() -> None:
    assert len({ulid(1.0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    ["", "vm", "vm-", AN_ID[:-1], AN_ID + "z", AN_ID.upper(), "cat" + AN_ID[2:], AN_ID[:-1] + "u", AN_ID + "\n", " " + AN_ID],
)
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a--b", "a" * 63, "vm-a", "host-1", "xn--caf-dma"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "-",
        "A",
        "a_b",
        "a.b",
        "a b",
        "a/b",
        "../x",
        "..",
        "a\n",
        "\x00",
        "café",
        "٣",  # a digit, but not of ours
        "a" * 64,
        "a" * 300,
        AN_ID,
        AN_ID.replace("vm", "image"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)
