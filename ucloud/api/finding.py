"""What in the cloud needs somebody, and what to do about it. Pure; told by `GET /v1/cluster`."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from ucloud.api.count import Counted
from ucloud.store.contract import StoreMember

FULL_AT = 0.6  # of etcd's quota: beyond, there is still time to act
SHOWN = 20  # of each kind


class Finding(Struct, frozen=True, kw_only=True):
    """Something that does not mend itself."""

    what: str
    advice: Annotated[str, Meta(description="what to do")]
    command: Annotated[str, Meta(description="what to type for it, or to see more")]


def findings(members: Sequence[StoreMember], leaders: dict[str, str] | None, counted: Counted | None) -> list[Finding]:
    """The graver ones first."""
    found = [*_of_etcd(members), *_of_leaders(leaders)]
    if counted is None:
        return [*found, _blind()]
    return [*found, *_of_hosts(counted), *_of_records(counted), *_of_images(counted), *_of_vms(counted)]


def _of_etcd(members: Sequence[StoreMember]) -> Iterator[Finding]:
    endpoints = ",".join(member.endpoint for member in members)
    if not any(member.has_leader for member in members):
        yield Finding(
            what="etcd has no leader: nothing can be changed, and guests go on as they are",
            advice="more than half of its members must run and reach each other; look at them",
            command=f"etcdctl --endpoints={endpoints} endpoint status -w table",
        )
    for member in members:
        if not member.answers:
            yield Finding(
                what=f"the etcd member {member.name} does not answer: {member.error}",
                advice="look at the machine that it runs on, and start it again",
                command=f"etcdctl --endpoints={member.endpoint} endpoint health",
            )
        if "NOSPACE" in member.alarms:
            yield Finding(
                what=f"the etcd member {member.name} is full, so that etcd takes no more writes",
                advice="defragment every member, or raise its quota; then disarm the alarm with: etcdctl alarm disarm",
                command=f"etcdctl --endpoints={endpoints} defrag",
            )
        elif member.quota_bytes and member.db_bytes > FULL_AT * member.quota_bytes:
            yield Finding(
                what=f"the etcd member {member.name} uses {100 * member.db_bytes // member.quota_bytes} % of its quota",
                advice="defragment it, or raise its quota, before it is full",
                command=f"etcdctl --endpoints={member.endpoint} defrag",
            )
        if "CORRUPT" in member.alarms:
            yield Finding(
                what=f"the data of the etcd member {member.name} differs from that of the others",
                advice="remove that member, and add it again with an empty directory",
                command=f"etcdctl --endpoints={endpoints} member list",
            )


def _of_leaders(leaders: dict[str, str] | None) -> Iterator[Finding]:
    idle = [loop for loop, owner in (leaders or {}).items() if not owner]
    if idle:
        yield Finding(
            what=f"nobody leads: {', '.join(idle)}; so what that decides waits",
            advice="look whether a control daemon runs, and start one",
            command="ucloud daemon control",
        )


def _blind() -> Finding:
    return Finding(
        what="this API knows nothing current of the cloud, as etcd has not answered for a while",
        advice="mend etcd first; nothing has to be done to the API",
        command="ucloud cluster show",
    )


def _of_hosts(counted: Counted) -> Iterator[Finding]:
    if counted.disarmed is not None:
        yield Finding(
            what="failover is disarmed" + (f": {counted.disarmed}" if counted.disarmed else ""),
            advice="arm it as soon as the work is done",
            command="ucloud cluster arm",
        )
    elif counted.held:
        yield Finding(
            what=f"silent hosts are not declared dead: {counted.held}",
            advice="look what they have in common",
            command="ucloud host list",
        )
    for host in counted.degraded[:SHOWN]:
        yield Finding(
            what=f"{host} is degraded: its guests run, but its host daemon does not look at them",
            advice="look at the host daemon there, and start it again",
            command=f"ucloud host show {host}",
        )
    for host, pools in list(counted.unsafe.items())[:SHOWN]:
        for pool, error in pools.items():
            yield Finding(
                what=f"VMs of {host} in the pool {pool} wait: {error}",
                advice="bring it back; or, once its machine is surely switched off, say so if the pool is shared",
                command=f"ucloud host fence {host} --confirm-off",
            )
    for host, vms in list(counted.silent.items())[:SHOWN]:
        yield Finding(
            what=f"{host} is down{with_vms(vms)}",
            advice="bring it back; if it is switched on, look at its daemon and its network",
            command=f"ucloud host show {host}",
        )
    for host, vms in list(counted.fenced.items())[:SHOWN]:
        yield Finding(
            what=f"{host} was declared dead{with_vms(vms)}",
            advice="bring it back; it is used again by itself, once it has ended what it ran before",
            command=f"ucloud host show {host}",
        )
    for host, vms_left in list(counted.strays.items())[:SHOWN]:
        yield Finding(
            what=f"{host} has traces of VMs that it shall not have: {', '.join(vms_left[:SHOWN])}",
            advice="their guests do not run; look whether their disks are needed, then remove them there",
            command=f"ucloud host show {host}",
        )


def with_vms(number: int) -> str:
    return f", with {number} {'VM' if number == 1 else 'VMs'} placed there" if number else ""


def _of_records(counted: Counted) -> Iterator[Finding]:
    for key, reason in list(counted.unreadable.items())[:SHOWN]:
        yield Finding(
            what=f"the record {key} cannot be read, and what it is about is left alone: {reason}",
            advice="write it as it should be, or delete it if nothing is lost with it",
            command=f"etcdctl get /ucloud/v1/{key}",
        )


def _of_images(counted: Counted) -> Iterator[Finding]:
    for image, error in list(counted.failed_images.items())[:SHOWN]:
        yield Finding(
            what=f"the image {image} cannot be used: {error}",
            advice="delete it, and upload one that is good",
            command=f"ucloud image delete {image}",
        )


def _of_vms(counted: Counted) -> Iterator[Finding]:
    for group in counted.waiting[:SHOWN]:
        if group.needs_somebody:
            yield Finding(
                what=f"{who_waits(group.names, group.vms)} for {group.what}",
                advice="see why, and what one can do",
                command=f"ucloud vm explain {group.names[0]}",
            )
    for name in counted.crashing:
        yield Finding(
            what=f"the guest of {name} crashes again and again",
            advice="see what it wrote before it ended",
            command=f"ucloud vm log {name}",
        )


def who_waits(names: Sequence[str], number: int) -> str:
    if number == 1:
        return f"{names[0]} waits"
    others = f" and {number - len(names)} others" if number > len(names) else ""
    return f"{number} VMs wait ({', '.join(names)}{others})"
