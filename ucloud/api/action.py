"""Actions: how far a request is. Nothing is stored for them: an id is resource, revision and verb, and the records tell
the rest: done is what the host's status says it has done at that revision, or what is gone."""

import re
from typing import Annotated, Literal, NamedTuple, TypeVar

from flask import Blueprint
from msgspec import Meta, Struct

from ucloud.api import phase
from ucloud.api.describe import describe
from ucloud.api.fields import Timestamp
from ucloud.api.records import Outcome, Source, fresh
from ucloud.api.services import services
from ucloud.base.errors import NotFound
from ucloud.base.ids import is_id
from ucloud.model.image import Image, ImageState
from ucloud.model.key import Key
from ucloud.model.network import Network
from ucloud.model.record import Fact, Record
from ucloud.model.vm import Vm
from ucloud.store.view import View

routes = Blueprint("action", __name__)

PAUSE_S = 0.1
VERBS = {
    "vm": {"create", "start", "stop", "reboot", "reset", "resize", "attach", "detach", "delete"},
    "image": {"upload", "clone", "delete"},
    "network": {"delete"},
    "key": {"delete"},
}
GONE_AT_ONCE: dict[str, type[Record]] = {"network": Network, "key": Key}  # as soon as the deletion is accepted
CHANGES = ("resize", "attach", "detach")  # done when its host has confirmed them, whatever its guest does
DONE_WITHOUT_HOST = ("stop", *CHANGES)

R = TypeVar("R", bound=Record)
ActionState = Literal["running", "success", "error"]


class Progress(NamedTuple):
    state: ActionState
    progress: str
    error: str | None = None
    started: str | None = None
    finished: str | None = None


class ActionShown(Struct, frozen=True):
    """How far a request is. progress: in words. error: the last failure, also of one that is tried again."""

    id: str
    verb: str
    resource: str
    state: ActionState
    progress: str
    error: str | None
    started: Timestamp | None
    finished: Timestamp | None


class ActionAnswer(Struct, frozen=True):
    action: ActionShown


class WaitQuery(Struct, frozen=True):
    wait: Annotated[float, Meta(ge=0, le=60, description="seconds to wait for its end")] = 0


def show(outcome: Outcome, source: Source) -> ActionShown:
    id = f"{outcome.resource}.{outcome.revision}.{outcome.verb}"
    return ActionShown(id, outcome.verb, outcome.resource, *look(outcome, source))


def look(outcome: Outcome, source: Source) -> Progress:
    """Raises NotFound for a revision that the resource never had."""
    noun = outcome.resource.split("-")[0]
    if noun == "vm":
        vm = _current(outcome, source, Vm)
        if vm:
            return of_vm(outcome, phase.gather(source, vm))
    elif noun == "image":
        image = _current(outcome, source, Image)
        if image:
            state = source.get(ImageState, ImageState.at(image.record.id))
            return of_image(outcome, image.record, state.record if state else None)
    elif source.get(GONE_AT_ONCE[noun], f"{noun}/{outcome.resource}"):
        raise NotFound("there is no such action")
    if outcome.verb == "delete":
        return Progress("success", "gone")
    return Progress("error", "gone", f"the {noun} was deleted meanwhile")


def _current(outcome: Outcome, source: Source, kind: type[R]) -> Fact[R] | None:
    fact = source.get(kind, kind.at(outcome.resource))
    if fact and fact.revision < outcome.revision:
        raise NotFound("there is no such action")
    return fact


def of_vm(outcome: Outcome, sight: phase.Sight) -> Progress:
    vm, status, seen = sight.vm.record, sight.status, phase.state(sight)
    error = status.error or None if status else None
    started = {"create": vm.created, "delete": vm.deleted_at}.get(outcome.verb)
    what = f"{seen.phase}: waiting for {seen.waiting.what}" if seen.waiting else seen.phase
    if vm.deleted_at and outcome.verb != "delete":
        return Progress("error", what, "the VM was deleted meanwhile", started, vm.deleted_at)
    if not sight.placed and outcome.verb in DONE_WITHOUT_HOST and (outcome.verb in CHANGES or seen.phase == "stopped"):
        return Progress("success", what, None, started)  # nothing runs, and what is placed from now on is placed as wanted now
    if outcome.verb == "stop" and sight.vm.revision > outcome.revision and phase.is_stopped(sight):
        return Progress("success", what, None, started)  # it shall start again, which may take long: for want of room, say
    superseded = sight.vm.revision > outcome.revision and seen.phase in ("running", "stopped")
    if outcome.verb != "delete" and _is_heeded(outcome, sight) and (superseded or _fits(outcome.verb, sight, seen.phase)):
        return Progress("success", what, None, started, status.since if status else None)
    return Progress("running", what, error, started)


def _is_heeded(outcome: Outcome, sight: phase.Sight) -> bool:
    """Its host has acted on it; or may not be told of it before it has room, and has nothing to do until then but to stop."""
    return phase.reached(sight, outcome.revision) or (outcome.verb not in CHANGES and phase.is_at_rest(sight))


def _fits(verb: str, sight: phase.Sight, seen: phase.Phase) -> bool:
    if verb == "stop":
        return seen == "stopped"
    return verb in CHANGES or seen == "running" or _went_off(sight)


def _went_off(sight: phase.Sight) -> bool:
    """The guest ran and has powered itself off: it was started, all the same."""
    return sight.status is not None and sight.status.phase == "off" and sight.status.boots >= sight.vm.record.boots


def of_image(outcome: Outcome, image: Image, state: ImageState | None) -> Progress:
    if outcome.verb == "delete":
        return Progress("running", "waiting for its file to be removed", None, image.deleted_at)
    if image.deleted_at:
        return Progress("error", "deleted", "the image was deleted meanwhile", image.created, image.deleted_at)
    if state is None or state.phase == "examining":
        what = "copy" if image.source else "examination" if image.uploaded_at else "upload"
        return Progress("running", f"waiting for its {what}", state.error if state else None, image.created)
    if state.phase == "failed":
        return Progress("error", "failed", state.error, image.created, state.since)
    return Progress("success", "ready", None, image.created, state.since)


def parse(id: str) -> Outcome:
    """Raises NotFound for what cannot be the id of an action."""
    resource, _, rest = id.partition(".")
    revision, _, verb = rest.partition(".")
    noun = resource.partition("-")[0]
    if is_id(resource) and re.fullmatch(r"[1-9][0-9]{0,17}", revision) and verb in VERBS.get(noun, ()):
        return Outcome(resource, verb, int(revision))
    raise NotFound("there is no such action")


@routes.get("/v1/actions/<id>")
@describe("Show an action", query=WaitQuery, answer=ActionAnswer)
def get_action(id: str, query: WaitQuery) -> ActionAnswer:
    """It answers after what it is about has gone, too."""
    outcome = parse(id)
    if outcome.revision > services().store.list("host/", limit=1).revision:
        raise NotFound("there is no such action")
    answer = show(outcome, fresh())
    if answer.state == "running" and query.wait:
        with services().waits.take():
            answer = _wait(outcome, query.wait)
    return ActionAnswer(answer)


def _wait(outcome: Outcome, wait_s: float) -> ActionShown:
    """The view says when to look, the store says what is true."""
    clock, view = services().clock, services().view
    deadline_s = clock.monotonic_s() + wait_s
    prefix = outcome.resource.split("-")[0] + "/"

    def ended(seen: View) -> bool:
        return seen.seen(prefix) >= outcome.revision and look(outcome, seen).state != "running"

    while view.wait_until(ended, deadline_s - clock.monotonic_s()):
        answer = show(outcome, fresh())
        if answer.state != "running":
            return answer
        view.pause(PAUSE_S)  # the view is behind the store: let it catch up
    return show(outcome, fresh())
