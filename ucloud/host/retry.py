"""What the host's loop remembers of a step that failed or takes a while."""

from ucloud.model.vm import Manifest


class Retry:
    """When to try something again that failed or that takes a while; times are of the monotonic clock. manifest: the one
    it was tried for; another one is tried at once."""

    def __init__(self, manifest: Manifest | None) -> None:
        self.manifest = manifest
        self.times = 0
        self.first_s = self.due_s = 0.0

    def note(self, now_s: float, pause_s: float) -> None:
        self.first_s = self.first_s if self.times else now_s
        self.times += 1
        self.due_s = now_s + pause_s

    @property
    def doubled(self) -> float:
        """1, 2, 4, … with each time, until it is more than anybody waits for."""
        return 2.0 ** min(self.times, 16)
