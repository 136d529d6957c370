"""`vm ssh`: what it waits for, which host keys it believes, what it makes ssh do, and what it says when that fails. The client
and ssh itself are fakes; tests/e2e has real ones."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.api.pubkeys import KEYS
from tests.unit.cli.test_hostkeys import ID, block
from ucloud.base.errors import Temporary
from ucloud.cli import ssh
from ucloud.cli.main import main
from ucloud.client import Json

KEY = " ".join(KEYS[0].split()[:2])
PUBLIC = {"network": "default", "network_id": "network-1", "ipv6": "2001:db8::1", "ipv4": ""}
PRIVATE = {"network": "inner", "network_id": "network-2", "ipv6": "fd12::1", "ipv4": "10.1.0.2"}
VM: Json = {
    "id": ID,
    "name": "web",
    "phase": "running",
    "power": "on",
    "ports": [PUBLIC],
    "user": "debian",
    "keys": ["me"],
    "waiting_for": None,
    "error": "",
    "reason": "",
}


@dataclass
class Told:
    """A client that answers by what stands here: of VMs one after the other, and then always the last."""

    vms: list[Json] = field(default_factory=lambda: [VM])
    logs: list[bytes | Exception] = field(default_factory=lambda: [block(KEY)])
    asked: list[str] = field(default_factory=list)

    def vm(self, reference: str) -> Json:
        self.asked.append(reference)
        return self.vms.pop(0) if len(self.vms) > 1 else self.vms[0]

    def network(self, network: str) -> Json:
        return {"public": network == PUBLIC["network_id"]}

    def vm_log(self, vm: str) -> tuple[bytes, bool]:
        log = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
        if isinstance(log, Exception):
            raise log
        return log, False


@dataclass
class Place:
    """Where the command is run. ssh: what the fake one does besides noting its arguments. open: who takes connections."""

    told: Told
    home: Path
    open: dict[str, int]
    called: list[tuple[str, float]] = field(default_factory=list)

    def fake_ssh(self, script: str) -> None:
        program = self.home / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{self.home}/arguments\n{script}\n')
        program.chmod(0o755)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["vm", "ssh", "web", *words], prog_name="ucloud")

    def arguments(self) -> list[str]:
        return (self.home / "arguments").read_text().splitlines()

    @property
    def known_hosts(self) -> Path:
        return self.home / ".local" / "state" / "ucloud" / "hostkeys" / ID


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        place = Place(Told(), tmp_path, {PUBLIC["ipv6"]: server.getsockname()[1]})
        connect: Callable[..., Any] = socket.create_connection

        def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
            place.called.append((address[0], timeout))
            if address[0] not in place.open or address[1] != 22:
                raise ConnectionRefusedError(111, "Connection refused")
            connection: socket.socket = connect(("::1", place.open[address[0]]), timeout)
            return connection

        place.fake_ssh("exit 0")
        monkeypatch.setattr(socket, "create_connection", create_connection)
        monkeypatch.setattr(ssh, "connect", lambda context: place.told)
        monkeypatch.setattr(ssh, "PAUSE_S", 0.001)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        yield place


def test_the_reported_host_key_alone_is_trusted(place: Place) -> None:
    result = place.run("--", "ls", "-l", "a b")
    assert (result.exit_code, result.output) == (0, "")
    known = f'UserKnownHostsFile="{place.known_hosts}"'
    options = ["-o", f"HostKeyAlias={ID}", "-o", known, "-o", "StrictHostKeyChecking=yes", "-l", "debian"]
    assert place.arguments() == [*options, "2001:db8::1", "ls", "-l", "a b"]
    assert place.known_hosts.read_text() == f"{ID} {KEY}\n"


def test_identity_and_user(place: Place) -> None:
    identity = place.home / "id"
    identity.touch()
    assert place.run("--identity", str(identity), "--user", "root").exit_code == 0
    assert place.arguments()[6:] == ["-o", "IdentitiesOnly=yes", "-i", str(identity), "-l", "root", "2001:db8::1"]
    assert place.run("--identity", str(place.home / "no")).exit_code == 2


def test_a_key_reported_anew_replaces_the_remembered_one(place: Place) -> None:
    place.known_hosts.parent.mkdir(parents=True)
    place.known_hosts.write_text(f"{ID} ssh-ed25519 former\n")
    assert place.run().exit_code == 0
    assert place.known_hosts.read_text() == f"{ID} {KEY}\n"


@pytest.mark.parametrize("log", [b"older parts are gone", Temporary("h1 is away")])
def test_without_a_report_the_remembered_one_must_be_shown(place: Place, log: bytes | Exception) -> None:
    place.told.logs = [log]
    place.known_hosts.parent.mkdir(parents=True)
    place.known_hosts.write_text(f"{ID} ssh-ed25519 former\n")
    assert place.run().exit_code == 0
    assert "StrictHostKeyChecking=yes" in place.arguments()
    assert place.known_hosts.read_text() == f"{ID} ssh-ed25519 former\n"


def test_of_who_never_reports_the_first_key_is_remembered_and_that_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "REPORT_S", 0.01)
    place.told.logs = [b""]
    result = place.run()
    assert result.exit_code == 0
    assert "web has reported no host keys: the one that it shows now is remembered" in result.stderr
    assert "StrictHostKeyChecking=accept-new" in place.arguments()
    assert not place.known_hosts.exists()
    assert place.known_hosts.parent.is_dir(), "ssh writes into it"


def test_who_cannot_be_asked_what_it_reported_is_not_trusted_at_first_sight(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cuts the cloud off from its host may well answer in its place."""
    monkeypatch.setattr(ssh, "REPORT_S", 0.01)
    place.told.logs = [Temporary("h1 is away")]
    result = place.run()
    assert result.exit_code == 1
    assert "Error: which host keys web reported cannot be known now: h1 is away" in result.stderr
    assert not (place.home / "arguments").exists(), "ssh is not started"


@pytest.mark.parametrize(
    "vm",
    [
        {"ports": [PUBLIC | {"ipv6": "-oProxyCommand=touch x"}]},
        {"ports": [PUBLIC | {"ipv6": "fe80::1%$(touch x)"}]},
        {"user": "-oProxyCommand=touch x"},
        {"user": "root$(touch x)"},
        {"user": "root\n"},
    ],
)
def test_an_api_that_was_taken_over_gives_ssh_no_options(place: Place, vm: Json) -> None:
    place.told.vms = [VM | vm]
    place.open[place.told.vms[0]["ports"][0]["ipv6"]] = place.open[PUBLIC["ipv6"]]
    result = place.run()
    assert result.exit_code == 1
    assert "Error: what the API answers is not understood: " in result.stderr
    assert not (place.home / "arguments").exists(), "ssh is not started"


def test_a_report_that_comes_late_is_waited_for(place: Place) -> None:
    place.told.logs = [b"", b"", block(KEY)]
    result = place.run()
    assert result.stderr == "web: waiting for it to report its host keys\n"
    assert "StrictHostKeyChecking=yes" in place.arguments()


def test_each_thing_that_is_waited_for_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {"what": "a host with room for it", "who": "scheduler", "since": None}
    place.told.vms = [VM | {"phase": "pending", "waiting_for": waiting}, VM | {"phase": "starting"}, VM]
    opened = place.open.pop(PUBLIC["ipv6"])
    refused = ssh._refusal

    def answers_in_the_end(address: str, patience_s: float) -> str:
        if len(place.called) == 5:
            place.open[address] = opened
        return refused(address, patience_s)

    monkeypatch.setattr(ssh, "_refusal", answers_in_the_end)
    result = place.run()
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "web: pending: waiting for a host with room for it",
        "web: starting: waiting for it to run",
        "web: running: waiting for ssh to answer at 2001:db8::1",
    ]
    assert [timeout for _, timeout in place.called] == [0.5, 0.5, 0.5, 3.0, 0.5, 0.5]
    assert place.told.asked[1:] == [ID] * (len(place.told.asked) - 1), "not another one of that name"


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        ({"phase": "stopped"}, "Error: web is stopped; start it by: ucloud vm start web"),
        ({"phase": "stopping", "power": "off"}, "Error: web is stopping; start it by: ucloud vm start web"),
        ({"phase": "deleting"}, "Error: web is being deleted"),
        ({"phase": "failed", "error": "no disk"}, "Error: web does not run: no disk; see: ucloud vm explain web"),
        ({"ports": []}, "Error: web is on no network; its serial line leads to it: ucloud vm console web"),
    ],
)
def test_what_is_waited_for_in_vain_is_refused_at_once(place: Place, vm: Json, words: str) -> None:
    place.told.vms = [VM | vm]
    result = place.run()
    assert (result.exit_code, result.stderr) == (1, f"{words}\n")


def test_the_wait_ends(place: Place) -> None:
    place.open.clear()
    result = place.run("--timeout", "0")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: after 0 s web is still waited for ssh to answer at 2001:db8::1 (Connection refused); look at: ucloud vm log web"
    )


@pytest.mark.parametrize(
    ("ports", "address"), [([PRIVATE, PUBLIC], "2001:db8::1"), ([PUBLIC, PRIVATE], "2001:db8::1"), ([PRIVATE], "fd12::1")]
)
def test_a_public_address_is_preferred(place: Place, ports: list[Json], address: str) -> None:
    place.told.vms = [VM | {"ports": ports}]
    place.open[PRIVATE["ipv6"]] = place.open[PUBLIC["ipv6"]]
    assert place.run().exit_code == 0
    assert place.arguments()[-1] == address


def test_who_is_on_private_networks_alone_is_told_where_that_is_reached(place: Place) -> None:
    place.told.vms = [VM | {"ports": [PRIVATE]}]
    assert "fd12::1 (of inner, a private network" in place.run("--timeout", "0").stderr


@pytest.mark.parametrize(
    ("script", "logs", "status", "words"),
    [
        ("exit 3", [block(KEY)], 3, ""),
        ("exit 255", [block(KEY)], 255, ""),
        ("echo 'Permission denied (publickey' >&2; exit 1", [block(KEY)], 1, ""),
        (
            "echo 'debian@x: Permission denied (publickey).' >&2; exit 255",
            [block(KEY)],
            255,
            "web was told to let in the keys me for debian; you tried to be debian.",
        ),
        ("echo 'Host key verification failed.' >&2; exit 255", [block(KEY)], 255, "than web reported on its serial line"),
        ("echo 'Host key verification failed.' >&2; exit 255", [b""], 255, "forget the former one: rm "),
    ],
)
def test_exit_status_and_advice(
    place: Place, script: str, logs: list[bytes | Exception], status: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place.known_hosts.parent.mkdir(parents=True)
    place.known_hosts.touch()
    place.told.logs = logs
    place.fake_ssh(script)
    result = place.run()
    assert result.exit_code == status
    assert words in result.stderr
    assert bool(words) == bool(result.stderr)
    assert capfd.readouterr().err == "".join(f"{line}\n" for line in script.split("'")[1:2]), "ssh's own words are passed on"


@pytest.mark.parametrize(
    ("vm", "options", "advice"),
    [
        ({}, [], "Use another private key by --identity FILE. Add a key: ucloud vm set web --key KEY"),
        ({}, ["--user", "root"], "Try without --user."),
        ({"keys": []}, [], "web was told to let in no key; you tried to be debian. Add a key: ucloud vm set web --key KEY"),
    ],
)
def test_what_to_do_when_the_guest_lets_nobody_in(place: Place, vm: Json, options: list[str], advice: str) -> None:
    place.told.vms = [VM | vm]
    place.fake_ssh("echo 'debian@x: Permission denied (publickey).' >&2; exit 255")
    assert place.run(*options).stderr.endswith(f"{advice}\n")


def test_without_ssh_there_are_words(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.home))
    result = place.run()
    assert result.exit_code == 1
    assert "install OpenSSH's client" in result.stderr


def test_ctrl_c_while_waiting(place: Place) -> None:
    place.told.vm = lambda reference: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    result = place.run()
    assert (result.exit_code, result.stderr) == (1, "Error: web: no longer waiting for ssh to answer\n")
