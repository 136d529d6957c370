"""A fence that only remembers whom it has cut off."""

from ucloud.base.errors import Temporary


class FakeFence:
    """error: what it fails with; "" when it works."""

    def __init__(self) -> None:
        self.error = ""
        self.cut: set[tuple[str, str]] = set()  # pool and id

    def cut_off(self, pool: str, name: str, address: str, id: str) -> str:
        if self.error:
            raise Temporary(self.error)
        self.cut.add((pool, id))
        return f"{name} was cut off {pool}"
