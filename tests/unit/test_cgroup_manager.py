"""Who makes the cgroups: what was asked for, what containers.conf says, what the host has."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.config import Settings
from longshore.engine import damaged, machinery, observe
from longshore.engine.machinery import Machinery
from longshore.errors import HostUnsupported, InvalidArgument, RecordCorrupt
from longshore.linux import cgroups
from longshore.linux.cgroups import Hierarchy
from longshore.linux.processes import boot_id
from longshore.options import ContainerConfig
from longshore.store import Record, Run
from peers.fake_systemd import FakeSystemd

ID = "ab" * 32
SLICE = f"machine-longshore_{ID}.slice"
V1 = Hierarchy("/sys/fs/cgroup/memory", 1, frozenset({"memory"}))
V2 = Hierarchy("/sys/fs/cgroup", 2, frozenset())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=str(tmp_path / "root"), run_root=str(tmp_path / "run"))


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    """A host where systemd runs and answers."""
    monkeypatch.setattr(machinery, "_SYSTEMD_RUNS", str(tmp_path))
    with FakeSystemd(tmp_path) as made:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
        yield made


def made(settings: Settings, *hierarchies: Hierarchy, asked: str | None = None) -> Machinery:
    found = Machinery(settings, cgroup_manager=asked)
    found.cgroup_layout = cgroups.Layout(hierarchies or (V2,))
    return found


def test_a_host_with_systemd_and_v2_has_it_do_that(bus: FakeSystemd, settings: Settings) -> None:
    assert made(settings).cgroup_manager == "systemd"


@pytest.mark.parametrize("layout", [(V1,), (V1, V2)])
def test_on_v1_it_has_to_be_asked_for(
    bus: FakeSystemd, settings: Settings, layout: tuple[Hierarchy, ...]
) -> None:
    assert made(settings, *layout).cgroup_manager == "cgroupfs"
    assert made(settings, *layout, asked="systemd").cgroup_manager == "systemd"
    assert not bus.calls


def test_without_systemd_it_is_cgroupfs(
    bus: FakeSystemd, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "_SYSTEMD_RUNS", f"{tmp_path}/not-here")
    assert made(settings).cgroup_manager == "cgroupfs"
    assert not bus.calls


def test_without_a_bus_that_answers_it_is_cgroupfs(
    bus: FakeSystemd, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    assert made(settings).cgroup_manager == "cgroupfs"


def test_what_is_written_or_asked_for_is_followed(bus: FakeSystemd, settings: Settings) -> None:
    """And then nobody looks whether it can be had: that is said where it is used."""
    for manager, other in (("systemd", "cgroupfs"), ("cgroupfs", "systemd")):
        written = settings.replace(cgroup_manager=manager)
        assert made(written).cgroup_manager == manager
        assert made(written, asked=other).cgroup_manager == other
    assert not bus.calls


def test_cgroupfs_makes_no_dbus_call(
    bus: FakeSystemd, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cgroup_managers, the first half; the rest is in tests/testbed and tests/host."""
    for name in [m for m in sys.modules if m.split(".")[0] == "jeepney"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("longshore.cgroup.bus", "longshore.cgroup.systemd"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = made(settings, asked="cgroupfs")
    record = Record(id=ID, config=ContainerConfig(name="box"), created_ns=1)
    placement = found.placement(record.config, ID)
    assert found.placement_of(record).own.path == placement.own.path == f"/longshore/{ID}"
    found.sweep_cgroups()
    assert not bus.connections
    assert not {"jeepney", "longshore.cgroup.bus", "longshore.cgroup.systemd"} & {*sys.modules}


def test_a_container_keeps_its_manager(bus: FakeSystemd, settings: Settings) -> None:
    config = ContainerConfig(name="box", cgroup_manager="systemd")
    found = made(settings, asked="cgroupfs")
    assert found.placement(config, ID).told == f"{SLICE}:longshore:{ID}"
    run = Run(
        number=1, boot_id=boot_id(), runtime="crun", runtime_path="/usr/bin/crun",
        cgroup=f"/machine.slice/{SLICE}", manager="systemd",
    )  # fmt: skip
    record = Record(id=ID, config=ContainerConfig(name="box"), created_ns=1, run=run)
    assert found.placement_of(record).own.path == f"/machine.slice/{SLICE}"
    runtime = found.runtime_of(record)
    assert runtime is not None
    assert "--systemd-cgroup" in runtime.global_args()
    assert "--systemd-cgroup" not in runtime.global_args(by_conmon=True)  # conmon's -s adds it
    fs = record.replace(run=run.replace(cgroup=f"/a/b/{ID}", manager="cgroupfs"))
    runtime = made(settings, asked="systemd").runtime_of(fs)
    assert runtime is not None
    assert "--systemd-cgroup" not in runtime.global_args()
    placement = found.placement_of(fs)
    assert (placement.own.path, placement.runtime.path) == (f"/a/b/{ID}", f"/a/b/{ID}/container")


def test_where_the_processes_of_a_run_are() -> None:
    run = Run(number=1, boot_id="b", runtime="r", runtime_path="/r", cgroup="/own")
    assert run.container_cgroup == "/own/container"
    assert run.replace(inner_cgroup="/own/x.scope").container_cgroup == "/own/x.scope"


def test_a_record_with_somebody_else_s_slice_is_damaged(settings: Settings) -> None:
    run = Run(
        number=1, boot_id=boot_id(), runtime="crun", runtime_path="/usr/bin/crun",
        cgroup="/system.slice", manager="systemd",
    )  # fmt: skip
    record = Record(id=ID, config=ContainerConfig(name="box"), created_ns=1, run=run)
    with pytest.raises(RecordCorrupt, match="not its own"):
        observe.look(made(settings), record)


def test_systemd_that_is_asked_for_has_to_be_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    with pytest.raises(HostUnsupported):
        made(settings, asked="systemd").placement(ContainerConfig(name="box"), ID)
    parent = ContainerConfig(name="box", cgroup_parent="/a")
    with pytest.raises(InvalidArgument, match="'/a' is no slice"):  # whether it is there or not
        made(settings, asked="systemd").placement(parent, ID)


def test_a_sweep_goes_where_systemd_was_used(bus: FakeSystemd, settings: Settings) -> None:
    systemd = made(settings, asked="systemd")
    systemd.placement(ContainerConfig(name="box"), ID).prepare(os.getpid())
    made(settings, asked="cgroupfs").sweep_cgroups()
    assert SLICE not in bus.units


@pytest.mark.parametrize(
    ("told", "manager", "parent"),
    [
        (f"/longshore/{ID}/container", "cgroupfs", "/longshore"),
        (f"/a/b/{ID}/container", "cgroupfs", "/a/b"),
        (f"{SLICE}:longshore:{ID}", "systemd", "machine.slice"),
        (f"a-b-longshore_{ID}.slice:longshore:{ID}", "systemd", "a-b.slice"),
        (f"{SLICE}:longshore:other", "", ""),
        ("/", "", ""),
        (None, "", ""),
        (3, "", ""),
    ],
)
def test_what_is_known_without_a_record(
    settings: Settings, told: object, manager: str, parent: str
) -> None:
    found = made(settings)
    config = Path(found.paths(ID).config)
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"linux": {"cgroupsPath": told}}))
    known = damaged._known_config(found, ID)
    assert (known.cgroup_manager, known.cgroup_parent) == (manager, parent)


def test_processes_of_our_own_find_jeepney(settings: Settings) -> None:
    found = made(settings)
    (package,) = found.import_path("cgroupfs").split("\n")
    assert os.path.isdir(f"{package}/longshore")
    systemd = found.import_path("systemd").split("\n")
    assert systemd[0] == package
    assert any(os.path.isdir(f"{path}/jeepney") for path in systemd)
