"""Where containers and monitors are placed."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.cgroup.placement import DEFAULT_PARENT, Placement, scope_name
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
    placement = Placement(layout, parent, ID)
    top = parent.rstrip("/")
    assert placement.own.path == f"{top}/{ID}"
    assert placement.runtime.path == f"{top}/{ID}/container"
    assert placement.monitors.path == f"{top}/conmon"


def test_no_parent_is_the_default(layout: Layout) -> None:
    assert Placement(layout, "/", ID).own.path == f"{DEFAULT_PARENT}/{ID}"


def test_a_monitor_is_moved_in_every_hierarchy(layout: Layout, tmp_path: Path) -> None:
    assert Placement(layout, "/p", ID).place_monitor(4321) != ""  # no cgroup.procs: not a cgroup
    for name in ("memory", "pids"):
        (tmp_path / name / "p" / "conmon" / "cgroup.procs").touch()
    assert Placement(layout, "/p", ID).place_monitor(4321) == ""
    for name in ("memory", "pids"):
        assert (tmp_path / name / "p" / "conmon" / "cgroup.procs").read_text() == "4321"


def test_the_monitors_cgroup_goes_when_it_is_empty(layout: Layout, tmp_path: Path) -> None:
    placement = Placement(layout, "/p", ID)
    placement.monitors.create()
    placement.remove_monitors()
    assert not (tmp_path / "memory" / "p" / "conmon").exists()
    placement.remove_monitors()


def test_scope_names() -> None:
    assert scope_name("libpod-conmon", ID) == f"libpod-conmon-{ID}.scope"
