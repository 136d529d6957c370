"""Hosts come and go: tokens that let one machine join, joining by them, removing.

A token is worth one host for an hour. Only its SHA-256 is kept, by the same transaction that makes the host it is gone, and
its key is bound to a lease, so that etcd forgets those that nobody used (decision 0015).
"""

import hashlib
import secrets
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, Any

import msgspec
from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api import capacity
from ucloud.api.describe import describe
from ucloud.api.fields import Name, Timestamp, ruled
from ucloud.api.host import HostAnswer, new_host, refuse_taken, show
from ucloud.api.patch import patch
from ucloud.api.records import Source, Wish, commit, commit_new, find, found, fresh, get, repeatable
from ucloud.api.services import services
from ucloud.base.clock import parse_timestamp, timestamp
from ucloud.base.config import is_ipv6
from ucloud.base.errors import Conflict, Forbidden, Invalid, RateLimited
from ucloud.model import keys
from ucloud.model.decision import NotNewer, absent, unchanged
from ucloud.model.host import Alive, Fence, Host, Inventory, JoinToken
from ucloud.model.record import Fact, encode
from ucloud.model.vm import Placement, Vm

routes = Blueprint("join", __name__)

TOKEN_S = 3600.0
TOLD_S = 3600.0  # for so long afterwards it is said of a token that its time is over, and not that it is unknown
MAX_TOKENS = 256  # not used yet
NAMED = 10  # of the VMs on a host that is to be removed

Token = Annotated[str, Meta(min_length=1, max_length=200, description="as `POST /v1/join-tokens` has answered it")]
Address = Annotated[
    str,
    ruled("an IPv6 address", is_ipv6, pattern="^[0-9A-Fa-f:.]{2,45}$", examples=["fd00::4"]),
    Meta(description="of the new host, on the hosts' own network"),
]


class TokenCreate(Struct, frozen=True):
    name: Name


class TokenAnswer(Struct, frozen=True):
    """token: nobody can ask for it again. url: where the new machine reaches this API; empty where it listens for this machine
    alone."""

    name: str
    token: str
    url: str
    expires: Timestamp


class HostJoin(Struct, frozen=True):
    token: Token
    address: Address


class HostSettings(Struct, frozen=True, kw_only=True):
    """What all hosts of the cloud have in common, named as in ucloud.toml."""

    etcd_endpoints: list[str]
    etcd_election_ms: int
    ttl_s: float
    network: Annotated[dict[str, Any], Meta(description="all of the section [network]")]


class HostJoined(Struct, frozen=True):
    id: str
    name: str
    settings: HostSettings


class RemoveQuery(Struct, frozen=True):
    lost: Annotated[
        bool, Meta(description="your word that its machine is switched off for good; disks that only it had are lost")
    ] = False


@routes.post("/v1/join-tokens")
@describe("Let a host join", body=TokenCreate, answer=TokenAnswer, status=201, errors=(Conflict, RateLimited))
def create_token(body: TokenCreate) -> TokenAnswer:
    """The token is good for one machine and one hour. A name that is taken is refused now, and again when the host joins. A
    request that is repeated gets another token: the first one is kept nowhere."""
    repeatable()
    store, token = services().store, secrets.token_urlsafe(24)
    refuse_taken(body.name, fresh())
    if len(store.list(JoinToken.prefix, limit=MAX_TOKENS).items) >= MAX_TOKENS:
        raise RateLimited("too many hosts were added that have not joined yet; try again in an hour")
    now_s = services().clock.now_s()
    expires = timestamp(now_s + TOKEN_S)
    record = JoinToken(sha256=digest_of(token), name=body.name, created=timestamp(now_s), expires=expires)
    store.commit({record.key: encode(record)}, (), [absent(record.key)], lease=store.grant(TOKEN_S + TOLD_S))
    return TokenAnswer(body.name, token, services().url, expires)


@routes.post("/v1/join")
@describe("Join as a host", body=HostJoin, answer=HostJoined, status=201, errors=(Conflict, Forbidden))
def join(body: HostJoin) -> HostJoined:
    """For the new machine itself: `ucloud host join` does this. Each machine that joins is a new host with an id of its own,
    also one that was a host before. With the same Idempotency-Key it gets the same answer again, for a day."""
    refuse_foreign(body.address)

    def make(id: str, source: Source) -> Wish:
        token = valid(source.get(JoinToken, JoinToken.at(digest_of(body.token))))
        wish = new_host(Host(id=id, name=token.record.name, created=services().now()), source)
        wish.deletes.append(token.key)
        wish.requires.append(unchanged(token))
        return wish

    host = get(Host, Host.at(commit_new("join", "host", make).resource))
    if host is None or host.record.removed_at:
        raise Forbidden("the host that this token has made was removed; ask for another token: ucloud host add NAME")
    return HostJoined(host.record.id, host.record.name, settings())


def settings() -> HostSettings:
    cloud = services().cloud
    return HostSettings(
        etcd_endpoints=list(cloud.etcd.endpoints),
        etcd_election_ms=cloud.etcd.election_ms,
        ttl_s=cloud.host.ttl_s,
        network=msgspec.to_builtins(services().network),
    )


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def valid(token: Fact[JoinToken] | None) -> Fact[JoinToken]:
    """Raises Forbidden."""
    if token is None:
        raise Forbidden(
            "this token is not one of this cloud, or was used already; was all of it typed? Another one: ucloud host add NAME"
        )
    if parse_timestamp(token.record.expires) <= services().clock.now_s():
        name, expired = token.record.name, token.record.expires
        raise Forbidden(f"this token was good until {expired}; ask for another: ucloud host add {name}")
    return token


def refuse_foreign(address: str) -> None:
    """Filters and routes of all hosts are made for the prefixes of their own network."""
    underlay = services().network.underlay
    if underlay and not any(IPv6Address(address) in IPv6Network(prefix) for prefix in underlay):
        known = ", ".join(underlay)
        raise Invalid(f"address: {address} is not on the hosts' own network, {known}; give another with --address")


@routes.delete("/v1/hosts/<reference>")
@describe("Remove a host", query=RemoveQuery, answer=HostAnswer, status=202, errors=(Conflict,))
def remove(reference: str, query: RemoveQuery) -> HostAnswer:
    """It is forgotten as soon as nothing of it is left. Refused while it is alive, and while it has VMs; `lost` removes one
    that never comes back: its VMs with disks in shared pools run elsewhere, those whose disks only it had have failed."""
    id = find("host", reference)

    def make() -> Wish:
        host = found(Host, "host", id)
        manifests = keys.manifests(id)
        with services().view.reading() as view:
            seen = NotNewer(manifests, view.seen(manifests))
            vms = [fact.record.vm for fact in view.all(Placement).values() if fact.record.host == id]
            names = [vm.record.name if (vm := view.get(Vm, Vm.at(id))) else id for id in vms[:NAMED]]
        if get(Alive, Alive.at(id)):
            name = host.record.name
            raise Conflict(f"{name} is alive: ucloud host disable {name}, stop its daemons, and try again when it is down")
        changes: dict[str, object] = {"removed_at": host.record.removed_at or services().now()}
        if query.lost:
            changes |= {"lost": True, "off": boot_of_dead(host.record, bool(vms))}
        elif vms and not host.record.lost:
            refuse_carrying(host.record, names, len(vms))
        wish = patch(host, changes, "host")
        if wish.puts:
            wish.requires += [absent(Alive.at(id)), seen]
        return wish

    with services().view.reading() as view:
        shown = show(found(Host, "host", id), view, capacity.taken(view).get(id, capacity.Taken()))
    commit("remove", id, make)
    return HostAnswer(shown)


def refuse_carrying(host: Host, names: list[str], number: int) -> None:
    more = f" and {number - len(names)} more" if number > len(names) else ""
    raise Conflict(
        f"{host.name} has VMs: {', '.join(names)}{more}; delete them or wait until they run elsewhere;"
        f" if it never comes back: ucloud host remove {host.name} --lost",
        {"vms": names},
    )


def boot_of_dead(host: Host, has_vms: bool) -> str:
    """The boot of which the operator says that it does nothing any more. Raises Conflict for one that was not declared dead."""
    if has_vms and not get(Fence, keys.fence(host.id)):
        raise Conflict(f"{host.name} was not declared dead yet; `ucloud cluster show` says what that waits for")
    inventory = get(Inventory, Inventory.at(host.id, "inventory"))
    return inventory.record.boot if inventory else ""
