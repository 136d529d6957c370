"""What a guest is answered, path by path, in each of the formats."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.metadata.told import KEYS, port, told
from ucloud.metadata import nocloud
from ucloud.metadata.answers import TOKEN, TOKEN_TTL, Answer, Request, answer
from ucloud.metadata.token import Tokens
from ucloud.model.vm import Manifest

SCRIPT = b"#!/bin/sh\n\x00\xff"
WEB = replace(told(5, user_data=SCRIPT), ports=(port(5), port(5, 2, ipv4=False)))
BARE = replace(WEB, keys=(), user_data=b"", custom={}, ports=(port(5, 2, ipv4=False),))
MACS = "/latest/meta-data/network/interfaces/macs"
MAC = "02:00:00:00:00:05"
TEXT, BYTES, JSON, YAML = "text/plain; charset=utf-8", "application/octet-stream", "application/json", "application/yaml"


def get(path: str, known: Any = WEB, method: str = "GET", **headers: str) -> Answer:
    return answer(Request(method, path, headers), known, Tokens())


@pytest.mark.parametrize(
    ("path", "type", "body"),
    [
        ("/hostname", TEXT, b"web5"),
        ("/ssh-keys", TEXT, f"{KEYS[0]}\n{KEYS[1]}\n".encode()),
        ("/user-data", BYTES, SCRIPT),
        ("/vendor-data", BYTES, b""),
        ("/custom", TEXT, b"role\nnote\n"),
        ("/custom/", TEXT, b"role\nnote\n"),
        ("/custom/note", TEXT, b"a=b, c"),
        ("//custom//note/?x=/../y", TEXT, b"a=b, c"),
        ("/custom/n%6Fte", TEXT, b"a=b, c"),
        ("/openstack/latest", TEXT, b"meta_data.json\nnetwork_data.json\nuser_data\nvendor_data.json\nvendor_data2.json\n"),
        ("/openstack/2012-08-10/user_data", BYTES, SCRIPT),
        ("/openstack/2018-08-27/vendor_data.json", JSON, b"{}\n"),
        ("/openstack/latest/vendor_data2.json", JSON, b"{}\n"),
        ("/latest", TEXT, b"meta-data/\nuser-data\n"),
        ("/2009-04-04/user-data", BYTES, SCRIPT),
        (
            "/latest/meta-data/",
            TEXT,
            b"ami-launch-index\nhostname\ninstance-id\nlocal-hostname\nmac\nipv6\nlocal-ipv4\nnetwork/\npublic-keys/\n",
        ),
        ("/2021-03-23/meta-data/instance-id", TEXT, b"vm-5"),
        ("/latest/meta-data/hostname", TEXT, b"web5.n1.ucloud.internal"),
        ("/latest/meta-data/local-hostname", TEXT, b"web5.n1.ucloud.internal"),
        ("/latest/meta-data/mac", TEXT, MAC.encode()),
        ("/latest/meta-data/ipv6", TEXT, b"fd00:1::5"),
        ("/latest/meta-data/local-ipv4", TEXT, b"10.1.0.5"),
        ("/latest/meta-data/public-keys", TEXT, b"0=key-0\n1=key-1\n"),
        ("/latest/meta-data/public-keys/1/", TEXT, b"openssh-key\n"),
        ("/latest/meta-data/public-keys/1/openssh-key", TEXT, KEYS[1].encode()),
        (f"{MACS}/", TEXT, f"{MAC}/\n".encode()),
        (f"{MACS}/{MAC}/local-ipv4s", TEXT, b"10.1.0.5"),
        (f"{MACS}/{MAC.replace(':', '%3A')}/subnet-ipv4-cidr-block", TEXT, b"10.1.0.0/16"),
    ],
)
def test_paths(path: str, type: str, body: bytes) -> None:
    known = replace(WEB, ports=WEB.ports[:1]) if path.startswith(MACS) else WEB
    assert get(path, known) == (200, body, type)
    assert get(path, known, "HEAD") == (200, body, type)


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/custom/none", "/hostname/x", "/user-data/x", "/.", "/..", "/../hostname", "/custom/../hostname"),
        *("/custom/%2e%2e/hostname", "/custom%2f..%2fhostname", "/..%2f..%2fetc%2fpasswd", "/%00", "/hostname%00", "/%ff"),
        *("/openstack/1999-01-01", "/openstack/latest/meta_data", "/openstack/latest/meta_data.json/uuid", "/content/0000"),
        *("/latest/meta-data/instance-id/x", "/latest/dynamic/instance-identity/document", "/1999-01-01/meta-data"),
        *("/latest/meta-data/iam/security-credentials/", "/latest/meta-data/public-keys/2/openssh-key", "/latest/api"),
        *("hostname.", "http://metadata/hostname", "*"),
    ],
)
def test_what_is_not_there(path: str) -> None:
    assert get(path) == (404, b"not found\n", TEXT)


def test_what_a_bare_vm_has_not() -> None:
    """cloud-init takes 404 of these for "none"; of NoCloud's files for an error."""
    for path in (
        "/latest/user-data",
        "/openstack/latest/user_data",
        "/latest/meta-data/public-keys",
        "/latest/meta-data/local-ipv4",
    ):
        assert get(path, BARE).status == 404, path
    for path in ("/user-data", "/vendor-data", "/ssh-keys", "/custom"):
        assert get(path, BARE)[:2] == (200, b""), path
    assert get("/latest", BARE).body == b"meta-data/\n"
    unplugged = replace(BARE, ports=())
    assert b"network" not in get("/latest/meta-data", unplugged).body
    assert json.loads(get("/", unplugged).body)["networks"] == []


def test_all_in_one() -> None:
    assert get("/").type == JSON
    assert json.loads(get("/").body) == {
        "id": "vm-5",
        "name": "web5",
        "hostname": "web5",
        "fqdn": "web5.n1.ucloud.internal",
        "keys": list(KEYS),
        "custom": {"role": "db", "note": "a=b, c"},
        "networks": [
            {"name": "n1", "mac": MAC, "ipv6": "fd00:1::5", "ipv4": "10.1.0.5", "mtu": 1430, "public": False},
            {"name": "n2", "mac": MAC, "ipv6": "fd00:2::5", "ipv4": "", "mtu": 1430, "public": False},
        ],
    }


def test_openstack() -> None:
    assert get("/openstack").body.decode().split()[-2:] == ["2018-08-27", "latest"]
    assert json.loads(get("/openstack/2018-08-27/meta_data.json").body) == {
        "uuid": "vm-5",
        "name": "web5",
        "hostname": "web5.n1.ucloud.internal",
        "launch_index": 0,
        "public_keys": {"key-0": KEYS[0], "key-1": KEYS[1]},
        "keys": [{"name": f"key-{number}", "type": "ssh", "data": line} for number, line in enumerate(KEYS)],
        "meta": {"role": "db", "note": "a=b, c"},
        "devices": [],
    }
    assert json.loads(get("/openstack/latest/network_data.json").body) == {
        "links": [{"id": f"port{n}", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1430} for n in (0, 1)],
        "networks": [
            {"id": "port0-ipv6", "type": "ipv6_dhcpv6-stateful", "link": "port0", "network_id": "network-1"},
            {"id": "port0-ipv4", "type": "ipv4_dhcp", "link": "port0", "network_id": "network-1"},
            {"id": "port1-ipv6", "type": "ipv6_dhcpv6-stateful", "link": "port1", "network_id": "network-2"},
        ],
        "services": [],
    }


def test_nocloud_is_told_the_same_as_on_the_disk() -> None:
    manifest = Manifest(
        host="h", vm=WEB.vm, name=WEB.name, epoch=1, boots=1, want="running", cpus=1, memory_mib=1, ports=WEB.ports
    )
    files = nocloud.files(replace(manifest, keys=WEB.keys, metadata=WEB.custom), SCRIPT)
    for name in ("meta-data", "user-data", "network-config"):
        assert get(f"/{name}").body == files[name], name
    assert get("/meta-data").type == YAML


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get"])
def test_other_methods(method: str) -> None:
    assert get("/hostname", WEB, method).status == 405


def test_headers_are_not_believed() -> None:
    forged = {"host": "169.254.169.254", "x-forwarded-for": "fd00:1::6", "forwarded": "for=10.1.0.6", "x-real-ip": "10.1.0.6"}
    forged |= {"x-instance-id": "vm-6", "x-metadata-provider": "x", "content-type": "x"}
    assert answer(Request("GET", "/hostname", forged), WEB, Tokens()) == get("/hostname")


def test_tokens() -> None:
    now_s = [1000.5]
    tokens = Tokens(lambda: now_s[0])

    def ask(method: str, path: str, known: Any = WEB, **headers: str) -> Answer:
        return answer(Request(method, path, {name.replace("_", "-"): value for name, value in headers.items()}), known, tokens)

    given = answer(Request("PUT", "/latest/api/token", {TOKEN_TTL: "60"}), WEB, tokens)
    token = given.body.decode()
    assert given.status == 200
    header = {TOKEN: token}
    assert ask("GET", "/latest/meta-data/instance-id", **header).body == b"vm-5"
    other = replace(WEB, vm="vm-6")
    assert ask("GET", "/latest/meta-data/instance-id", other, **header).status == 401
    until, _, signature = token.partition("-")
    forged = (f"{int(until, 16) + 1:x}-{signature}", f"{until}-{signature[:-1]}", until, "", "x", "-", "\xe9-\xe9", f" {token}")
    for wrong in forged:
        assert ask("GET", "/latest/meta-data/instance-id", **{TOKEN: wrong}).status == 401, wrong
    assert answer(Request("GET", "/", header), WEB, Tokens(lambda: now_s[0])).status == 401  # of a daemon that has gone
    now_s[0] += 59
    assert ask("GET", "/hostname", **header).status == 200
    now_s[0] += 1
    assert ask("GET", "/hostname", **header).status == 401
    assert ask("GET", "/hostname").status == 200  # nobody needs one


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "+1", "1.0", "", "x", "9" * 5000, "²", " 60"])
def test_a_token_has_its_time(ttl: str) -> None:
    assert answer(Request("PUT", "/latest/api/token", {TOKEN_TTL: ttl}), WEB, Tokens()).status == 400


def test_who_may_ask_for_a_token() -> None:
    assert get("/latest/api/token", WEB, "PUT").status == 400
    assert answer(Request("PUT", "/latest/api/token", {TOKEN_TTL: "21600"}), WEB, Tokens()).status == 200
    through_proxy = {TOKEN_TTL: "60", "x-forwarded-for": "1.2.3.4"}
    assert answer(Request("PUT", "/latest/api/token", through_proxy), WEB, Tokens()).status == 403
    assert get("/latest/api/token").status == 404
