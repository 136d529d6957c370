"""How the members of etcd are: for people who look after the cloud. Used by `ucloud.store.etcd` alone."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.request import ProxyHandler, build_opener

from ucloud.base.errors import Error
from ucloud.store.contract import StoreMember
from ucloud.store.etcd_calls import Members
from ucloud.store.etcd_messages import MESSAGES

TIMEOUT_S = 2.0
ALARM = re.compile(r"memberID:([0-9]+) alarm:([A-Z]+)")  # how each member writes the alarms of all
QUOTA = re.compile(r"^etcd_server_quota_backend_bytes (\S+)$", re.MULTILINE)
NO_PROXY = build_opener(ProxyHandler({}))


def look(members: Members) -> Sequence[StoreMember]:
    """All of them at once, in the order in which they were named; each speaks for itself alone, also without a quorum."""
    lists = members.ask_each(
        "/etcdserverpb.Cluster/MemberList", MESSAGES["MemberListRequest"](), "MemberListResponse", TIMEOUT_S
    )
    known = next((answer for answer in lists if not isinstance(answer, Error)), None)
    names = {url: member.name for member in known.members for url in member.clientURLs} if known else {}
    status = members.ask_each("/etcdserverpb.Maintenance/Status", MESSAGES["StatusRequest"](), "StatusResponse", TIMEOUT_S)
    return [
        member_of(names.get(endpoint, endpoint), endpoint, answer)
        for endpoint, answer in zip(members.endpoints, status, strict=True)
    ]


def member_of(name: str, endpoint: str, answer: Any) -> StoreMember:
    if isinstance(answer, Error):
        return StoreMember(name=name, endpoint=endpoint, error=answer.message)
    id = answer.header.member_id
    return StoreMember(
        name=name,
        endpoint=endpoint,
        answers=True,
        leads=answer.leader == id,
        has_leader=answer.leader != 0,
        version=answer.version,
        db_bytes=answer.dbSize,
        quota_bytes=quota_bytes(endpoint),
        alarms=tuple(sorted(kind for member, kind in ALARM.findall(" ".join(answer.errors)) if int(member) == id)),
    )


def quota_bytes(endpoint: str) -> int:
    """Only the member's figures for Prometheus tell it. 0: not known."""
    try:
        with NO_PROXY.open(f"{endpoint}/metrics", timeout=TIMEOUT_S) as response:
            match = QUOTA.search(response.read().decode())
            return int(float(match[1])) if match else 0
    except (OSError, ValueError):
        return 0
