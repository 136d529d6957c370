"""Where control groups are found, and how much the guests weigh in them; on directories that only look like control groups."""

from pathlib import Path

from ucloud.driver.hypervisor.cgroup import Groups


def test_v2_is_used_where_it_has_the_cpu_controller(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    groups = Groups("h1", tmp_path)
    assert groups.add("vm-a") == tmp_path / "ucloud/h1/vm-a"
    assert (tmp_path / "ucloud/cpu.weight").read_text() == "20"
    for parent in (".", "ucloud", "ucloud/h1"):
        assert (tmp_path / parent / "cgroup.subtree_control").read_text() == "+cpu"
    assert groups.guests() == {"vm-a"}


def test_v1_is_used_where_v2_lacks_it(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cgroup.procs").touch()
    (tmp_path / "cgroup.controllers").write_text("\n")
    groups = Groups("h1", tmp_path)
    assert groups.add("vm-a") == tmp_path / "cpu/ucloud/h1/vm-a"
    assert (tmp_path / "cpu/ucloud/cpu.shares").read_text() == "205"


def test_without_control_groups_there_is_nothing_to_do(tmp_path: Path) -> None:
    groups = Groups("h1", tmp_path)
    assert groups.add("vm-a") is None
    groups.kill("vm-a")
    groups.remove("vm-a")
    assert groups.guests() == frozenset()


def test_where_they_are_not_ours_guests_go_on_without(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    (tmp_path / "ucloud").write_text("in the way")
    groups = Groups("h1", tmp_path)
    assert groups.add("vm-a") is None
    groups.kill("vm-a")
