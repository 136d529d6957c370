"""Each error that can be mended says how. What needs an API to say it is in the golden transcripts."""

import click
import pytest

from ucloud.base.errors import Conflict, Error, NoCapacity, Temporary
from ucloud.cli import fault
from ucloud.cli.main import main
from ucloud.client import ConfigError, Unreachable


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (Error("no"), ["Error: no"]),
        (Error("\x1b[31mno\n"), ["Error: �[31mno�"]),
        (NoCapacity("too large", {"cpus": 9}), ["Error: too large", "What the hosts have: ucloud host list"]),
        (NoCapacity("no prefix is left"), ["Error: no prefix is left"]),
        (Conflict("taken", {"name": "taken"}), ["Error: taken", "Choose another name, or look at what has it: ucloud vm list"]),
        (Conflict("the VM is being deleted"), ["Error: the VM is being deleted"]),
        (Temporary("no etcd"), ["Error: no etcd", "What is wrong with the cloud, if anything: ucloud cluster show"]),
        (ConfigError("bad"), ["Error: bad", "Correct it, or say where the API is with --api."]),
        (
            Unreachable("the API does not answer", 1, {"http://a": "nothing listens there", "http://b": "\x07"}),
            [
                "Error: the API does not answer",
                "  tried http://a: nothing listens there",
                "  tried http://b: �",
                "Is the cloud on this machine? `ucloud status` tells how it is; `script/up` or `ucloud up` starts one.",
                "Is it elsewhere? Say where its API is with --api or UCLOUD_API.",
            ],
        ),
    ],
)
def test_what_is_said(error: Error, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    vm = click.Context(main.commands["vm"], info_name="vm", parent=click.Context(main, info_name="ucloud"))
    fault.tell(error, click.Context(click.Command("create"), info_name="create", parent=vm))
    assert capsys.readouterr().err.splitlines() == lines
