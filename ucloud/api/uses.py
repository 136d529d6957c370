"""Who needs a thing, so that it cannot be deleted: its `use/` keys, and what people are told of them."""

from ucloud.api.services import services
from ucloud.model import keys

NAMED = 10  # of its users, where a thing cannot be deleted


def users(kind: str, id: str, limit: int) -> tuple[list[str], bool]:
    """The ids of those that need it, and whether there are more. Also VMs that leave a network are still on it here."""
    prefix = keys.used_by(kind, id)
    listing = services().store.list(prefix, limit=limit)
    return [item.key.removeprefix(prefix) for item in listing.items], listing.more
