"""What a guest is answered: from what is known of it, and the path that it asks for. Pure; called by `server.py`.

Plain paths for people and scripts stand here; those of OpenStack, EC2 and cloud-init's NoCloud in modules of their own. Of a
request's headers only a token of EC2's is looked at.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from ucloud.metadata import ec2, nocloud, openstack
from ucloud.metadata.content import BYTES, TEXT, YAML, Content, json, lines, text
from ucloud.metadata.token import TTL_S, Tokens
from ucloud.model.wiring import Metadata

TOKEN, TOKEN_TTL = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"


class Request(NamedTuple):
    """target: as it was sent. headers: names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = {}


class Answer(NamedTuple):
    status: int
    body: bytes
    type: str = TEXT


NOT_FOUND = Answer(404, b"not found\n")


def answer(request: Request, told: Metadata, tokens: Tokens) -> Answer:
    """Statuses: 200; 400, 401 for tokens; 404; 405."""
    names = [name for name in unquote(request.target.partition("?")[0]).split("/") if name]
    if names == ["latest", "api", "token"] and request.method == "PUT":
        return token(request, told, tokens)
    if request.method not in ("GET", "HEAD"):
        return Answer(405, b"only GET and HEAD\n")
    if TOKEN in request.headers and not tokens.is_valid(told.vm, request.headers[TOKEN]):
        return Answer(401, b"this token is not valid\n")
    content = look(names, told)
    return Answer(200, content.body, content.type) if content else NOT_FOUND


def token(request: Request, told: Metadata, tokens: Tokens) -> Answer:
    """Not for a proxy that its owner has left open to others: Amazon refuses those too."""
    if "x-forwarded-for" in request.headers:
        return Answer(403, b"not through a proxy\n")
    asked = request.headers.get(TOKEN_TTL, "")
    if not (asked.isascii() and asked.isdigit() and len(asked) <= len(f"{TTL_S[-1]}") and int(asked) in TTL_S):
        return Answer(400, f"{TOKEN_TTL}: expected {TTL_S[0]} to {TTL_S[-1]}\n".encode())
    return Answer(200, tokens.issue(told.vm, int(asked)).encode())


def look(names: list[str], told: Metadata) -> Content | None:
    match names:
        case []:
            return overview(told)
        case ["openstack", *rest]:
            return openstack.look(rest, told)
        case [version, *rest] if version in ec2.VERSIONS:
            return ec2.look(rest, told)
        case ["custom"]:
            return lines(told.custom)
        case ["custom", key] if key in told.custom:
            return text(told.custom[key])
        case [name] if name in PLAIN:
            return PLAIN[name](told)
    return None


def overview(told: Metadata) -> Content:
    networks = [
        {
            "name": port.network.name,
            "mac": port.mac,
            "ipv6": port.ipv6,
            "ipv4": port.ipv4,
            "mtu": port.network.mtu,
            "public": port.network.public,
        }
        for port in told.ports
    ]
    return json(
        {
            "id": told.vm,
            "name": told.name,
            "hostname": told.name,
            "fqdn": told.fqdn,
            "keys": told.keys,
            "custom": told.custom,
            "networks": networks,
        }
    )


PLAIN: dict[str, Callable[[Metadata], Content]] = {
    "hostname": lambda told: text(told.name),
    "ssh-keys": lambda told: lines(told.keys),
    # The rest is NoCloud's too, which gives up where it is told that one of them is not there
    "user-data": lambda told: Content(told.user_data, BYTES),
    "vendor-data": lambda told: Content(b"", BYTES),
    "meta-data": lambda told: Content(nocloud.as_yaml(nocloud.meta_data(told.vm, told.name, told.keys, told.custom)), YAML),
    "network-config": lambda told: Content(nocloud.as_yaml(nocloud.network_config(told.ports)), YAML),
}
