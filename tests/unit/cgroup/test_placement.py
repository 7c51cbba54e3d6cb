"""Where containers and monitors are placed."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.cgroup.placement import (
    DEFAULT_PARENT,
    Cgroupfs,
    container_slice,
    is_own,
    parent_slice,
    scope_name,
    slice_above,
    slice_path,
)
from longshore.errors import InvalidArgument
from longshore.linux.cgroups import Hierarchy, Layout

ID = "ab" * 32


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for name in ("memory", "pids"):
        (tmp_path / name).mkdir()
    return Layout(
        tuple(Hierarchy(str(tmp_path / name), 1, frozenset({name})) for name in ("memory", "pids"))
    )


@pytest.mark.parametrize("parent", ["/longshore", "/a/b", "/a/b/"])
def test_ours_is_above_the_runtime_s(layout: Layout, parent: str) -> None:
    placement = Cgroupfs(layout, parent, ID)
    top = parent.rstrip("/")
    assert placement.own.path == f"{top}/{ID}"
    assert placement.runtime.path == f"{top}/{ID}/container"
    assert placement.monitors.path == f"{top}/conmon"
    assert placement.told == placement.runtime.path
    assert placement.inner(1) == ""
    assert placement.annotations(15, 10, endless_tasks=True) == {}


def test_no_parent_is_the_default(layout: Layout) -> None:
    assert Cgroupfs(layout, "/", ID).own.path == f"{DEFAULT_PARENT}/{ID}"


def test_a_monitor_is_moved_in_every_hierarchy(layout: Layout, tmp_path: Path) -> None:
    assert Cgroupfs(layout, "/p", ID).place_monitor(4321) != ""  # no cgroup.procs: not a cgroup
    for name in ("memory", "pids"):
        (tmp_path / name / "p" / "conmon" / "cgroup.procs").touch()
    assert Cgroupfs(layout, "/p", ID).place_monitor(4321) == ""
    for name in ("memory", "pids"):
        assert (tmp_path / name / "p" / "conmon" / "cgroup.procs").read_text() == "4321"


def test_the_monitors_cgroup_goes_when_it_is_empty(layout: Layout, tmp_path: Path) -> None:
    placement = Cgroupfs(layout, "/p", ID)
    placement.monitors.create()
    placement.remove_monitors()
    assert not (tmp_path / "memory" / "p" / "conmon").exists()
    placement.remove_monitors()


def test_scope_names() -> None:
    assert scope_name("libpod-conmon", ID) == f"libpod-conmon-{ID}.scope"


def test_a_slice_is_nothing_that_cgroupfs_could_find(layout: Layout) -> None:
    with pytest.raises(InvalidArgument, match=r"'machine\.slice' is a systemd slice") as caught:
        Cgroupfs(layout, "machine.slice", ID)
    assert "--cgroup-manager systemd" in (caught.value.hint or "")
    # a path is one, whatever its name: S6
    assert Cgroupfs(layout, "/machine.slice", ID).monitors.path == "/machine.slice/conmon"


@pytest.mark.parametrize(
    ("asked", "slice_"),
    [
        ("machine.slice", "machine.slice"),
        ("a-b.slice", "a-b.slice"),
        ("/a.slice/a-b.slice", "a-b.slice"),
        ("-.slice", "-.slice"),
        (r"a\x2db.slice", r"a\x2db.slice"),
    ],
)
def test_a_parent_is_a_slice(asked: str, slice_: str) -> None:
    assert parent_slice(asked, user=False) == slice_


def test_the_default_slice_is_of_whom_it_is() -> None:
    assert parent_slice("", user=False) == "machine.slice"
    assert parent_slice("", user=True) == "user.slice"


@pytest.mark.parametrize(
    "asked",
    ["/longshore", "/a.slice/b", "a--b.slice", "-a.slice", "a-.slice", ".slice", "a b.slice"],
)
def test_what_is_no_slice_is_refused_by_name(asked: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parent_slice(asked, user=False)
    assert repr(asked.rpartition("/")[2]) in str(caught.value) or repr(asked) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("parent", "name", "path"),
    [
        ("machine.slice", f"machine-longshore_{ID}.slice", "/machine.slice"),
        ("a-b.slice", f"a-b-longshore_{ID}.slice", "/a.slice/a-b.slice"),
        ("-.slice", f"longshore_{ID}.slice", ""),
    ],
)
def test_a_container_s_slice_is_one_step_below(parent: str, name: str, path: str) -> None:
    assert container_slice(parent, ID) == name
    assert slice_path(parent) == path
    assert slice_path(name) == f"{path}/{name}"
    assert slice_above(name, ID) == parent


def test_a_name_that_is_too_long_for_a_unit() -> None:
    with pytest.raises(InvalidArgument, match="characters"):
        container_slice("a" * 200 + ".slice", ID)


def test_whose_cgroup_it_is() -> None:
    assert is_own(f"/longshore/{ID}", "cgroupfs", ID)
    assert is_own(f"/machine.slice/machine-longshore_{ID}.slice", "systemd", ID)
    assert is_own(f"/longshore_{ID}.slice", "systemd", ID)
    for path, manager in (
        (f"/longshore/{ID}", "systemd"),
        (f"/machine.slice/machine-longshore_{ID}.slice", "cgroupfs"),
        ("/machine.slice", "systemd"),
        (f"/x.slice/x-mylongshore_{ID}.slice", "systemd"),
        ("", "cgroupfs"),
    ):
        assert not is_own(path, manager, ID)
