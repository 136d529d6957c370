"""doc/reference is what the program says of itself. After a change: script/reference."""

import os
from pathlib import Path

import pytest

from tests.golden import reference

DIRECTORY = Path(__file__).parents[2] / "doc" / "reference"
PAGES = ("api.md", "cli.md", "errors.md", "records.md", "settings.md")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages()


def test_these_are_all_pages(pages: dict[str, str]) -> None:
    assert tuple(sorted(pages)) == PAGES == tuple(sorted(file.name for file in DIRECTORY.iterdir()))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_not_stale(pages: dict[str, str], name: str) -> None:
    file = DIRECTORY / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(pages[name])
    assert file.exists(), "run script/reference"
    assert pages[name] == file.read_text(), "run script/reference"
