"""Actions, by the SDK: waiting for what was asked for."""

import time
from collections.abc import Callable
from urllib.parse import quote

from ucloud.client.calls import Calls, Json, part
from ucloud.client.transport import TimedOut

POLL_S = 2.0  # a wait is asked for in pieces, so that progress can be told


class Actions(Calls):
    def action(self, action: str, wait_s: float = 0) -> Json:
        """By id, as it is now, or at its end if that comes within wait_s (at most 60)."""
        params = {"wait": f"{wait_s:.1f}"} if wait_s else None
        path = f"/v1/actions/{quote(action, safe='')}"
        found: Json = part(self._transport.request("GET", path, params=params, wait_s=wait_s), "action")
        return found

    def wait(self, action: Json, timeout_s: float, on_progress: Callable[[Json], None] | None = None) -> Json:
        """The action when it has ended, with success or error; it is looked at once at least. Raises TimedOut; the work then
        goes on."""
        deadline_s, asked = time.monotonic() + timeout_s, False
        while action["state"] == "running":
            if on_progress:
                on_progress(action)
            left_s = deadline_s - time.monotonic()
            if asked and left_s <= 0:
                raise TimedOut(f"after {timeout_s:g} s it is still {action['progress']}", {"action": action["id"]})
            action, asked = self.action(action["id"], min(POLL_S, max(left_s, 0.1))), True
        return action
