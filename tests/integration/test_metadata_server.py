"""The metadata daemon as a process: it knows who asks by the source address alone, and withstands whoever asks badly.

The host is a network namespace with bridges, and the guests' addresses on them: that only its owner uses an address is what
the packet filter promises, and not tested here.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from shutil import rmtree

import pytest

from tests.integration.metadata_host import GATEWAY4, GATEWAY6, PATIENCE_S, Host, heard, status, wait_for
from tests.unit.metadata.told import told
from ucloud.driver.metadata.files import DIRECTORY, READER
from ucloud.driver.overlay.names import bridge
from ucloud.metadata.answers import TOKEN, TOKEN_TTL
from ucloud.metadata.server import MAX_HEAD_BYTES
from ucloud.metadata.visitors import BURST, OPEN
from ucloud.model.wiring import Metadata

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SCRIPT = b"#!/bin/sh\n\x00" + bytes(range(256)) * 250
WEB, DB, FAR = told(2, user_data=SCRIPT), told(3), told(4, 2, link_local="fe80::2")
LATER = told(5, 2)  # whom a test adds


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host([WEB, DB, FAR, LATER], ["fd00:1::5", "10.1.0.5"])
    made.files.remove([LATER.key])
    made.start()
    yield made
    made.close()


def test_who_asks_is_known_by_its_address(host: Host) -> None:
    def names(thing: Metadata) -> list[bytes]:
        own = bridge(thing.vni)
        sources = [source if not source.startswith("fe80") else f"{source}%{own}" for source in thing.sources]
        return [host.ask("/hostname", source)[1] for source in sources]

    assert names(WEB) == [b"web2"] * 3
    assert names(DB) == [b"web3"] * 3
    assert names(FAR) == [b"web4"] * 3  # its link-local address is WEB's, too
    assert host.ask("/user-data") == (200, SCRIPT)
    for stranger in ("fd00:1::5", "10.1.0.5", GATEWAY6, GATEWAY4):
        assert host.ask("/hostname", stranger) == (404, b"not found\n") == host.ask("/nothing", stranger)


def test_nothing_that_a_request_says_makes_it_anothers(host: Host) -> None:
    addresses = f"{DB.sources[0]}, {DB.sources[2]}"
    forged = dict.fromkeys(("X_Forwarded_For", "X_Real_IP", "X_Client_IP", "True_Client_IP", "Via"), addresses)
    forged |= {"Forwarded": f'for="[{DB.sources[0]}]"', "X_Instance_ID": DB.vm, "X_Tenant_ID": "1", "X_Forwarded_Host": "web3"}
    assert host.ask("/hostname", **forged) == (200, b"web2")
    for request in (
        b"GET /hostname HTTP/1.1\r\nHost: [fd00:1::3]\r\n\r\n",
        b"GET /hostname?vm=vm-3#vm-3 HTTP/1.1\r\nHost: web3.n1.ucloud.internal\r\n\r\n",
        b"GET /hostname HTTP/1.0\r\n\r\n",
    ):
        assert host.say(request).endswith(b"\r\n\r\nweb2"), request
    proxy = f"PROXY TCP6 {DB.sources[0]} {GATEWAY6} 1 80\r\nGET /hostname HTTP/1.1\r\nHost: x\r\n\r\n"
    assert status(host.say(proxy.encode())) == 400


def test_head_has_no_body(host: Host) -> None:
    answer = host.say(b"HEAD /user-data HTTP/1.1\r\nHost: x\r\n\r\n")
    assert f"Content-Length: {len(SCRIPT)}\r\n".encode() in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /custom/..%2f..%2f1-vm-3 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /1-vm-3 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET http://metadata/hostname HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"CONNECT 10.1.0.3:22 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nx", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
    ],
)
def test_odd_requests(host: Host, request_text: bytes, expected: int) -> None:
    assert status(host.say(request_text)) == expected
    assert host.ask("/hostname") == (200, b"web2")


def test_endless_requests_are_cut_off(host: Host) -> None:
    """The answer may be lost: whoever still sends is told of a reset first."""
    for begin in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n", b""):
        assert status(host.say(begin + b"x" * (1 << 20))) in (431, 400, 0), begin
        assert status(host.say(begin + b"X: y\r\n" * (MAX_HEAD_BYTES // 2))) in (431, 400, 0), begin
    assert host.ask(f"/custom/{'x' * (MAX_HEAD_BYTES // 2)}") == (404, b"not found\n")
    assert host.daemon.poll() is None


def test_who_opens_connections_and_says_nothing_keeps_only_itself_out(host: Host) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(closing(host.connect())) for _ in range(OPEN)]
        wait_for(lambda: host.ask("/hostname")[0] == 0, "no more than its share are taken")
        assert host.ask("/hostname", DB.sources[0]) == (200, b"web3")
        slow = held[0]
        slow.send(b"GET / HT")
        assert [heard(sock) for sock in held[1:]] == [b""] * (OPEN - 1)  # hung up on
        assert status(heard(slow)) == 0
    assert host.ask("/hostname") == (200, b"web2")


def test_who_asks_too_often_keeps_only_itself_out(host: Host) -> None:
    own = [host.ask("/hostname")[0] for _ in range(3 * BURST)]
    assert set(own) == {200, 0}
    assert own[:BURST].count(200) > BURST // 2
    assert host.ask("/hostname", DB.sources[0]) == (200, b"web3")
    wait_for(lambda: host.ask("/hostname")[0] == 200, "it may ask again")


def test_who_does_not_read_is_hung_up_on(host: Host) -> None:
    with closing(host.connect()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.sendall(b"GET /user-data HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(sock.recv(64)) == 200
        assert host.ask("/hostname", DB.sources[0]) == (200, b"web3")
        wait_for(lambda: host.unacknowledged_bytes() == 0, "the kernel keeps nothing of it either")


def test_it_needs_nothing_but_files(host: Host) -> None:
    token = host.ask("/latest/api/token", method="PUT", **{TOKEN_TTL: "60"})[1].decode()
    assert host.ask("/latest/meta-data/instance-id", **{TOKEN: token}) == (200, b"vm-2")
    assert host.ask("/latest/meta-data/instance-id", DB.sources[0], **{TOKEN: token})[0] == 401
    host.stop(signal.SIGKILL)
    host.start()
    assert host.ask("/user-data") == (200, SCRIPT)
    assert host.ask("/latest/meta-data/instance-id", **{TOKEN: token})[0] == 401
    (host.run_dir / DIRECTORY / "1-vm-9").write_bytes(b"{")
    (host.run_dir / DIRECTORY / ".1-vm-2").write_bytes(b"half of it")
    assert host.ask("/hostname") == (200, b"web2")


def test_a_vm_that_moved_is_told_what_holds_there(host: Host) -> None:
    host.files.remove([WEB.key])
    host.files.add([LATER])
    wait_for(lambda: host.ask("/hostname") == (404, b"not found\n"), "nobody is there any more")
    answer = json.loads(host.ask("/", "10.2.0.5")[1])
    assert (answer["name"], [network["name"] for network in answer["networks"]]) == ("web5", ["n2"])


def test_it_has_no_rights(host: Host) -> None:
    lines = Path(f"/proc/{host.daemon.pid}/status").read_text().splitlines()
    words = {line.split(":")[0]: line.split()[1:] for line in lines}
    assert (words["Uid"], words["Gid"], words["Groups"]) == ([f"{READER}"] * 4, [f"{READER}"] * 4, [])
    assert {name: words[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapAmb"), ["0" * 16]
    )
    assert words["NoNewPrivs"] == ["1"]
    assert Path(f"/proc/{host.daemon.pid}/ns/net").stat().st_ino != os.fstat(host.namespace.descriptor).st_ino
    directory = (host.run_dir / DIRECTORY).stat()
    assert (directory.st_uid, directory.st_gid, directory.st_mode & 0o7777) == (0, READER, 0o750)


def test_without_its_directory_it_ends(host: Host) -> None:
    """Whoever started it starts it again, with the rights to make one."""
    rmtree(host.run_dir / DIRECTORY)
    wait_for(lambda: host.ask("/hostname")[0] == 0, "it has noticed")
    _, said = host.daemon.communicate(timeout=PATIENCE_S)
    assert host.daemon.returncode == 1
    assert said.decode().splitlines()[-1] == "ucloud: the directory of metadata was removed"
    host.start()
    assert host.ask("/hostname") == (404, b"not found\n")
    host.files.add([WEB])
    wait_for(lambda: host.ask("/hostname") == (200, b"web2"), "it sees what is new")


def test_only_one_has_the_port(host: Host) -> None:
    with host.namespace:
        second = host.run()
    _, said = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1
    assert said.decode().splitlines() == ["ucloud: port 80 of this host is taken; guests look for their metadata there"]


def test_it_ends_when_told_to(host: Host) -> None:
    with closing(host.connect()):
        host.stop()
    assert host.daemon.returncode == 0
