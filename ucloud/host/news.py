"""What of a host's steps people want to hear. Pure; called by the host's loop."""

from ucloud.host.decide import Act, Step
from ucloud.model.event import News
from ucloud.model.guest import Guest
from ucloud.model.host import Inventory, Reconciled
from ucloud.model.vm import Status

MANY = 3  # crashes that are told of one by one


def news_of(step: Step, before: Status | None, guest: Guest | None) -> News | None:
    """What to tell once the step is done; before, guest: how it was when it was decided. None: nothing new."""
    if isinstance(step, Act):
        cuts_power = step.verb == "kill" and guest is not None and guest.state != "powered-off"
        return News("killed", step.reason) if cuts_power else None
    if step.verb == "clear":
        return News("erased", step.reason)
    if step.verb == "leave":
        return News("left", step.reason)
    for record in step.puts:
        if isinstance(record, Status):
            return _of_status(record, before, step.reason)
        if isinstance(record, Inventory):
            return News("reports", step.reason)
        if isinstance(record, Reconciled):
            return News("reconciled", step.reason)
    return None


def _of_status(said: Status, before: Status | None, reason: str) -> News | None:
    again = before is not None and (before.boots, before.epoch) == (said.boots, said.epoch)
    if again and before and said.crashes > before.crashes:
        text = f"{said.error}; crash {said.crashes} of boot {said.boots}"
        return News("crashed", text) if is_worth_telling(said.crashes) else None
    if said.error and (before is None or said.error != before.error):
        return News("failed", said.error)
    if before and again and said.phase == before.phase:
        return None
    if said.phase == "stopping":
        return News("stopping", reason.partition(": ")[2])
    if said.phase == "off":
        return News("powered-off", f"its guest shut itself down, boot {said.boots}")
    return News(said.phase, f"boot {said.boots}") if is_worth_telling(said.crashes) else None


def is_worth_telling(crashes: int) -> bool:
    """A guest that crashes without end is told of ever more rarely, lest it drowns all others: 1, 2, 3, 4, 8, 16, … times."""
    return crashes <= MANY or crashes & (crashes - 1) == 0
