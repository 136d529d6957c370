"""The table of drivers."""

import pytest

from ucloud.base.errors import Invalid
from ucloud.daemon import drivers
from ucloud.model.vm import PoolRef


def test_a_pool_of_an_unknown_kind_is_nobodys_crash() -> None:
    with pytest.raises(Invalid, match="'ceph' is unknown"):
        drivers.pool(PoolRef(name="fast", kind="ceph", path="/x"))
