"""What people were told by the API, held against what was done. Used by `sim.invariants` and `sim.client`."""

from collections.abc import Mapping
from typing import Any

from sim.world import Violation
from ucloud.model.bookkeeping import Idempotency

MADE = ("vm/", "image/", "network/", "key/")  # a VM may be made with the first network
PREFIX = Idempotency.at("default", "")
DEFERRED = (500, 503)  # neither yes nor no: a record that nobody can read, a store that does not answer


class Promises:
    """`done`: by the Idempotency-Key of a request that was carried out, the VM, image, network or key that it made, or ""."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}

    def committed(self, puts: Mapping[str, bytes]) -> None:
        for key in puts:
            if key.startswith(PREFIX):
                name = key.removeprefix(PREFIX)
                made = [other.partition("/")[2] for prefix in MADE for other in puts if other.startswith(prefix)]
                if name in self.done:
                    raise Violation(f"request {name} is carried out twice")
                self.done[name] = made[0] if made else ""

    def answered(self, name: str, status: int, body: Mapping[str, Any], makes: str, was_done: bool, is_own: bool) -> None:
        """A request with this Idempotency-Key gets this answer. makes: the noun that it is to make, or nothing. was_done: when
        this attempt of it arrived; one that was on its way longer may be carried out after another was refused. is_own: if the
        name that it asks for is taken, then by what it made itself."""
        if status in DEFERRED:
            return
        if status >= 400:
            error = body["error"]
            is_taken = makes == "vm" and error["details"].get("name") == "taken"
            if was_done or (is_own and is_taken and name in self.done):
                raise Violation(f"request {name} is told {error['message']!r}, and was carried out")
        elif makes == "image" and name not in self.done and body[makes]["id"] in self.done.values():
            return  # the very image was announced before, by another request
        elif makes and self.done.get(name) != body[makes]["id"]:
            raise Violation(f"request {name} made {self.done.get(name)}, and is told {body[makes]['id']}")
