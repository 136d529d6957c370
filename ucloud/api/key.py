"""/v1/keys: SSH public keys, for the VMs that name them; and which of them a VM gets that names none."""

from collections import Counter
from typing import Annotated, Any, TypeAlias

from flask import Blueprint, Response
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from ucloud.api import action, sshkey
from ucloud.api.action import ActionShown
from ucloud.api.body import given
from ucloud.api.describe import Gone, describe, either, tagged
from ucloud.api.fields import Id, KeyLine, Labels, Name, Timestamp
from ucloud.api.page import LabelledQuery, page
from ucloud.api.patch import heed_if_match, patch
from ucloud.api.records import PROJECT, Overtaken, Source, Wish, commit, commit_new, find, found, fresh, get
from ucloud.api.services import services
from ucloud.api.uses import refuse_used, users
from ucloud.base.errors import Conflict, Invalid, NotFound
from ucloud.model import keys
from ucloud.model.bookkeeping import Unique
from ucloud.model.decision import absent, as_seen, unchanged
from ucloud.model.key import Key, Project
from ucloud.model.record import Fact, encode
from ucloud.model.vm import Vm
from ucloud.store.view import View

routes = Blueprint("key", __name__)

COUNTED = 1000  # users of a key that are counted exactly
Default: TypeAlias = Annotated[bool, Meta(description="VMs that name no key get this one; there is one such key at most")]


class KeyCreate(Struct, frozen=True):
    name: Name
    key: Annotated[KeyLine, Meta(description="ed25519, ecdsa, rsa of 2048 bits or more, or one of a security key (sk-…)")]
    labels: Labels = {}
    default: Default = False


class KeyPatch(Struct, frozen=True):
    name: Name | UnsetType = UNSET
    labels: Annotated[Labels | UnsetType, Meta(description="all of them: those that it has are replaced")] = UNSET
    default: Default | UnsetType = UNSET


class KeyShown(Struct, frozen=True, kw_only=True):
    """An SSH public key: who has its private part may log in to the VMs that name it."""

    id: Id
    name: str
    project: str
    key: Annotated[str, Meta(description="the whole line, as for authorized_keys")]
    type: str
    bits: int
    fingerprint: Annotated[str, Meta(description="as ssh-keygen -l shows it")]
    comment: str
    default: Default
    vms: Annotated[int, Meta(description="how many name it")]
    labels: dict[str, str]
    created: Timestamp


class KeyAnswer(Struct, frozen=True):
    key: Annotated[Any, either("KeyShown", "Gone")]


class KeyGone(Struct, frozen=True):
    key: Gone
    action: ActionShown


class KeyPage(Struct, frozen=True):
    keys: list[KeyShown]
    next_cursor: str | None


@routes.post("/v1/keys")
@describe("Add a key", body=KeyCreate, answer=KeyAnswer, status=201, errors=(Conflict,))
def create_key(body: KeyCreate) -> KeyAnswer:
    """Nothing but the line of a .pub file is taken: never a private key, no certificate, no options before the key."""
    parsed = sshkey.parse(body.key)

    def make(id: str, source: Source) -> Wish:
        if source.get(Unique, keys.unique("key", PROJECT, body.name)):
            raise Conflict(f"there is a key named {body.name} already", {"name": "taken"})
        if same := source.get(Unique, _data(parsed.data)):
            raise Conflict(f"this key is here already, as {_name(same.record.owner)}", {"key": "taken"})
        wish = Wish()
        _add(wish, id, body, parsed)
        if body.default:
            _set_default(wish, _project(wish, source), id)
        return wish

    id = commit_new("create", "key", make).resource
    key = get(Key, Key.at(id))  # gone, perhaps, if the request is a repeated one
    return KeyAnswer(_show(key) if key else Gone(id))


def _add(wish: Wish, id: str, wanted: KeyCreate, parsed: sshkey.PublicKey) -> None:
    key = Key(
        id=id,
        name=wanted.name,
        project=PROJECT,
        type=parsed.type,
        data=parsed.data,
        comment=parsed.comment,
        bits=parsed.bits,
        fingerprint=parsed.fingerprint,
        labels=wanted.labels,
        created=services().now(),
    )
    wish.put(key)
    wish.requires.append(absent(key.key))
    wish.claim(keys.unique("key", PROJECT, key.name), id)
    wish.claim(_data(parsed.data), id)


def _data(data: str) -> str:
    return keys.unique("keydata", PROJECT, sshkey.digest_of(data))


def _name(id: str) -> str:
    key = get(Key, Key.at(id))
    return key.record.name if key else id


def _project(wish: Wish, source: Source) -> Fact[Project] | None:
    """None: nothing was ever said of it. The wish rests on it."""
    project = source.get(Project, Project.at(PROJECT))
    wish.requires.append(as_seen(Project.at(PROJECT), project))
    return project


def _set_default(wish: Wish, before: Fact[Project] | None, id: str) -> None:
    """ "": none."""
    project = before.record if before else Project(name=PROJECT)
    wish.put(replace(project, default_key=id), before.unknown if before else None)


def _default_of(source: Source) -> str:
    project = source.get(Project, Project.at(PROJECT))
    return project.record.default_key if project else ""


@routes.get("/v1/keys")
@describe("List keys", query=LabelledQuery, answer=KeyPage)
def list_keys(query: LabelledQuery) -> KeyPage:
    with services().view.reading() as view:
        vms, default = _vms_with(view), _default_of(view)
        return KeyPage(*page(Key, view.all(Key), lambda fact: show(fact, vms[fact.record.id], default), query))


def _vms_with(view: View) -> Counter[str]:
    """How many VMs name each key, by its id."""
    return Counter(key for fact in view.all(Vm).values() for key in fact.record.keys)


@routes.get("/v1/keys/<reference>")
@describe("Show a key", answer=KeyAnswer, tagged=True)
def get_key(reference: str) -> Response:
    key = found(Key, "key", reference, PROJECT)
    return tagged(KeyAnswer(_show(key)), key)


@routes.patch("/v1/keys/<reference>")
@describe("Change a key", body=KeyPatch, answer=KeyAnswer, tagged=True, if_match=True, errors=(Conflict,))
def patch_key(reference: str, body: KeyPatch) -> Response:
    """What is not named stays. The key itself never changes: add another one."""
    id = find("key", reference, PROJECT)
    changes = given(body)
    default = changes.pop("default", None)

    def make() -> Wish:
        key, source = found(Key, "key", id), fresh()
        wish = patch(key, changes, "key", PROJECT)
        if default is None or default == (_default_of(source) == id):
            return wish
        heed_if_match(key)
        wish.puts.setdefault(key.key, encode(key.record, key.unknown))  # so that its tag changes, too
        wish.requires.append(unchanged(key))
        _set_default(wish, _project(wish, source), id if default else "")
        return wish

    key = found(Key, "key", commit("set", id, make).resource)
    return tagged(KeyAnswer(_show(key)), key)


@routes.delete("/v1/keys/<reference>")
@describe("Delete a key", answer=KeyGone, status=202, if_match=True, errors=(Conflict,))
def delete_key(reference: str) -> KeyGone:
    """Refused while VMs name it. The default key of a project may go: then it has none."""
    id = find("key", reference, PROJECT)

    def make() -> Wish:
        key = found(Key, "key", id)
        heed_if_match(key)
        unused = refuse_used("key", id, key.record.name, _named_user)
        names_of = [keys.unique("key", PROJECT, key.record.name), _data(key.record.data)]
        wish = Wish(deletes=[key.key, *names_of], requires=[unchanged(key), unused])
        project = _project(wish, fresh())
        if project and project.record.default_key == id:
            _set_default(wish, project, "")
        return wish

    outcome = commit("delete", id, make)
    return KeyGone(Gone(id), action.show(outcome, fresh()))


def _named_user(id: str) -> str:
    vm = get(Vm, Vm.at(id))
    if vm is None:
        return id
    return f"{vm.record.name}{' (being deleted)' if vm.record.deleted_at else ''}"


def _show(key: Fact[Key]) -> KeyShown:
    """As the store has it."""
    ids, more = users("key", key.record.id, COUNTED)
    vms = len(ids)
    if more:
        with services().view.reading() as view:
            vms = _vms_with(view)[key.record.id]
    return show(key, vms, _default_of(fresh()))


def show(fact: Fact[Key], vms: int, default: str) -> KeyShown:
    key = fact.record
    return KeyShown(
        id=key.id,
        name=key.name,
        project=key.project,
        key=key.line,
        type=key.type,
        bits=key.bits,
        fingerprint=key.fingerprint,
        comment=key.comment,
        default=key.id == default,
        vms=vms,
        labels=key.labels,
        created=key.created,
    )


# The keys of VMs.


def wanted(references: list[str] | UnsetType, wish: Wish, source: Source) -> list[Fact[Key]]:
    """Those that a new VM shall have; UNSET: the project's default key, if there is one. Raises Invalid."""
    if references is not UNSET:
        return named(references, source)
    project = _project(wish, source)
    if project is None or not project.record.default_key:
        return []
    key = source.get(Key, Key.at(project.record.default_key))
    if key is None:
        raise Overtaken("the default key was deleted meanwhile")
    return [key]


def named(references: list[str], source: Source) -> list[Fact[Key]]:
    """Raises Invalid."""
    try:
        facts = [found(Key, "key", reference, PROJECT, source=source) for reference in references]
    except NotFound as error:
        raise Invalid(f"keys: {error.message}", {"keys": error.message}) from None
    if len({fact.key for fact in facts}) < len(facts):
        raise Invalid("keys: one is named twice", {"keys": "one is named twice"})
    return facts


def claim(wish: Wish, vm: str, chosen: list[Fact[Key]], before: tuple[str, ...] = ()) -> None:
    """As the VM `vm` names these now, and named those `before`, whose ids are given."""
    for key in chosen:
        if key.record.id not in before:
            wish.requires.append(unchanged(key))
            wish.claim(keys.use("key", key.record.id, vm), vm)
    left = set(before) - {key.record.id for key in chosen}
    wish.deletes += [keys.use("key", id, vm) for id in sorted(left)]
