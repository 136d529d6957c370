"""Who needs a thing, so that it cannot be deleted: its `use/` keys, and what people are told of them."""

from collections.abc import Callable

from ucloud.api.services import services
from ucloud.base.errors import Conflict
from ucloud.model import keys
from ucloud.model.decision import NotNewer, empty

NAMED = 10  # of its users, where a thing cannot be deleted


def users(kind: str, id: str, limit: int) -> tuple[list[str], bool]:
    """The ids of those that need it, and whether there are more. Also VMs that leave a network are still on it here."""
    prefix = keys.used_by(kind, id)
    listing = services().store.list(prefix, limit=limit)
    return [item.key.removeprefix(prefix) for item in listing.items], listing.more


def refuse_used(kind: str, id: str, name: str, called: Callable[[str], str]) -> NotNewer:
    """Raises Conflict for what somebody needs; called: the name of one by its id. Answers what its deletion rests on."""
    ids, more = users(kind, id, NAMED)
    if ids:
        names = [*map(called, ids)] + ["others"] * more
        raise Conflict(f"the {kind} {name} is used by {', '.join(names)}", {"used_by": names})
    return empty(keys.used_by(kind, id))
