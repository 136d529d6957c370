"""What tests can do to the fake hypervisor; what it shares with the real one is in tests/contract/test_hypervisor.py."""

import pytest

from ucloud.base.errors import Temporary
from ucloud.driver.hypervisor.contract import GuestSpec
from ucloud.driver.hypervisor.fake import KEEP_BYTES, FakeHypervisor

VM = "vm-01kd2g5x8p6q0v3n9r7t4w1y2z"
SPEC = GuestSpec(vm=VM, name="a", epoch=1, boots=1, cpus=1, memory_mib=64)


def test_it_fails_as_often_as_it_was_told_to() -> None:
    driver = FakeHypervisor()
    driver.fail_next("start", times=2)
    for _ in range(2):
        with pytest.raises(Temporary):
            driver.start(SPEC)
        assert driver.actual() == {}
    driver.start(SPEC)
    assert VM in driver.actual()


def test_an_answer_can_get_lost_after_the_deed() -> None:
    driver = FakeHypervisor()
    driver.fail_next("start", after=True)
    with pytest.raises(Temporary):
        driver.start(SPEC)
    assert VM in driver.actual()


def test_a_deaf_guest_ignores_the_power_button() -> None:
    driver = FakeHypervisor()
    driver.deaf.add(VM)
    driver.start(SPEC)
    driver.power_down(VM)
    assert driver.actual()[VM].state == "running"


def test_its_log_is_bounded() -> None:
    driver = FakeHypervisor()
    driver.start(SPEC)
    driver.write(VM, b"x" * KEEP_BYTES)
    assert driver.log(VM).data == b"x" * KEEP_BYTES
    assert driver.log(VM).start > 0
