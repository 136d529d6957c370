"""What `ucloud vm explain web` says in situations that people ask about. The situations are played by the production loops
(sim.scenario), so that every word comes from a real decision. After a change that is meant:
UPDATE_GOLDEN=1 pytest tests/golden/test_explain.py, and read the difference as an operator would."""

import contextlib
import io
import os
from pathlib import Path

import pytest

from sim.scenario import performed
from ucloud.cli.explain import show

SITUATIONS = sorted((Path(__file__).parent / "explain").glob("*.txt"))
COMMAND = "$ ucloud vm explain web\n"


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda path: path.stem)
def test_explain(situation: Path) -> None:
    story, _, wanted = situation.read_text().partition(COMMAND)
    with performed(story) as cloud:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            show(dict(cloud.api.ask("GET", "vms/web/explain")))
    if os.environ.get("UPDATE_GOLDEN"):
        situation.write_text(story + COMMAND + said.getvalue())
    else:
        assert said.getvalue() == wanted
