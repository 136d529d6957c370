"""The command line's contract: which verbs and options there are, and that each verb shows how it is used."""

import click
import pytest

from ucloud.cli.main import main
from ucloud.cli.noun import Noun
from ucloud.daemon.lab import lab
from ucloud.daemon.up import down, status, up

WAIT = {"--timeout", "--no-wait"}
OUTPUT = {"-o", "--output"}
OPTIONS = {
    "vm create": {"--image", "--cpus", "--memory", "--disk", "--host", "--spread", "--label", "--pool", "--count"}
    | {"--network", "--no-network", "--key", "--no-key", "--user-data", "--metadata", "--ha", "--priority"}
    | WAIT
    | OUTPUT,
    "vm set": {"--name", "--label", "--key", "--no-key", "--user-data", "--no-user-data", "--ha", "--priority"} | OUTPUT,
    "vm list": {"--name", "--label"} | OUTPUT,
    "vm show": OUTPUT,
    "vm start": WAIT | OUTPUT,
    "vm stop": {"--force"} | WAIT | OUTPUT,
    "vm reboot": WAIT | OUTPUT,
    "vm reset": WAIT | OUTPUT,
    "vm resize": {"--cpus", "--memory", "--disk"} | WAIT | OUTPUT,
    "vm attach": {"--allow"} | WAIT | OUTPUT,
    "vm detach": WAIT | OUTPUT,
    "vm delete": WAIT | OUTPUT,
    "vm log": {"-f", "--follow"},
    "vm console": {"--read-only", "--take", "--leave-after"},
    "vm ssh": {"--identity", "--user", "--timeout"},
    "vm explain": OUTPUT,
    "event list": {"--vm", "--image", "--host", "--since", "--limit"} | OUTPUT,
    "event watch": {"--vm", "--image", "--host", "--since"} | OUTPUT,
    "image upload": {"--pool", "--user"} | WAIT | OUTPUT,
    "image clone": WAIT | OUTPUT,
    "image set": {"--name", "--label", "--user"} | OUTPUT,
    "image list": {"--name", "--label"} | OUTPUT,
    "image show": OUTPUT,
    "image delete": WAIT | OUTPUT,
    "network create": {"--public", "--prefix", "--ipv4", "--slaac", "--label"} | OUTPUT,
    "network list": {"--name", "--label"} | OUTPUT,
    "network show": OUTPUT,
    "network delete": OUTPUT,
    "key add": {"--file", "--default", "--label"} | OUTPUT,
    "key list": {"--name", "--label"} | OUTPUT,
    "key show": OUTPUT,
    "key set": {"--name", "--label"} | OUTPUT,
    "key delete": OUTPUT,
    "host add": {"-o", "--output"},
    "host remove": {"--lost", "--timeout"},
    "host list": {"--name", "--label"} | OUTPUT,
    "host show": OUTPUT,
    "host enable": OUTPUT,
    "host disable": OUTPUT,
    "host set": {"--label", "--cpus", "--memory"} | OUTPUT,
    "host fence": {"--confirm-off"} | OUTPUT,
    "cluster show": OUTPUT,
    "cluster disarm": {"--reason"},
    "cluster arm": set(),
    "pool list": OUTPUT,
    "pool show": OUTPUT,
    "pool add": {"--path", "--shared", "--fence"} | OUTPUT,
    "pool set": {"--shared", "--fence"} | OUTPUT,
}


def commands() -> dict[str, click.Command]:
    found = {}
    for noun, group in nouns().items():
        found |= {f"{noun} {verb}": command for verb, command in group.commands.items()}
    return found


def nouns() -> dict[str, Noun]:
    return {name: group for name, group in main.commands.items() if isinstance(group, Noun) and name != "lab"}


def test_these_verbs_and_options_exist_and_no_others() -> None:
    options = {
        name: {text for option in command.params if isinstance(option, click.Option) for text in option.opts}
        for name, command in commands().items()
    }
    assert options == OPTIONS


def everything() -> dict[str, click.Command]:
    """All commands, those too that run a cloud."""
    found = {name: command for name, command in main.commands.items() if not isinstance(command, click.Group)}
    found |= {command.name or "": command for command in (up, down, status)}
    return found | commands() | {f"lab {verb}": command for verb, command in lab.commands.items()}


@pytest.mark.parametrize("name", everything())
def test_help_has_an_example_of_the_verb(name: str) -> None:
    command = everything()[name]
    assert f"ucloud {name}" in (command.help or "")
    assert all(option.help for option in command.params if isinstance(option, click.Option) and not option.hidden)


def test_every_noun_knows_what_may_have_been_meant() -> None:
    assert {*nouns()} == {name for name, command in main.commands.items() if isinstance(command, click.Group)} - {"lab"}
    assert isinstance(lab, Noun)
