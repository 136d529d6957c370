from collections.abc import Iterator

import pytest

from tests.unit.api.cloud import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()
