"""cgroup/systemd.py against a scripted systemd: which units there are, and what becomes of them."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore import _log
from longshore.cgroup import systemd
from longshore.cgroup.systemd import Host, Systemd, cgroup_of, place
from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError
from longshore.linux.cgroups import Hierarchy, Layout
from peers.fake_systemd import FakeSystemd

ID, OTHER = "ab" * 32, "cd" * 32
SLICE = f"machine-longshore_{ID}.slice"
CONMON = f"longshore-conmon-{ID}.scope"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystemd]:
    with FakeSystemd(tmp_path) as made:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
        yield made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "cgroup").mkdir()
    return Layout((Hierarchy(str(tmp_path / "cgroup"), 2, frozenset()),))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(user=False, timeout=30, cache=f"{tmp_path}/cache/systemd.json", label="/root")


def here(layout: Layout, host: Host, parent: str = "") -> Systemd:
    return place(layout, host, parent, ID)


def test_where_a_container_will_be(fake: FakeSystemd, layout: Layout, host: Host) -> None:
    fake.root = "/outer"
    placement = here(layout, host)
    own = f"/outer/machine.slice/{SLICE}"
    assert placement.own.path == own
    assert placement.runtime.path == f"{own}/longshore-{ID}.scope"
    assert placement.told == f"{SLICE}:longshore:{ID}"
    assert (placement.manager, placement.parent) == ("systemd", "machine.slice")
    # As a record has it, whatever the default parent is then.
    again = Systemd(layout, host, own, ID)
    assert (again.told, again.parent) == (placement.told, placement.parent)


@pytest.mark.parametrize("parent", ["a-b.slice", "-.slice"])
def test_another_parent(fake: FakeSystemd, layout: Layout, host: Host, parent: str) -> None:
    placement = here(layout, host, parent)
    assert placement.parent == parent
    placement.prepare(7)
    assert fake.units[CONMON]["Slice"] == parent


def test_a_parent_that_is_no_slice_asks_nobody(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    with pytest.raises(InvalidArgument):
        here(layout, host, "/a/b")
    assert not fake.calls


def test_its_root_is_asked_for_once_a_boot(
    fake: FakeSystemd, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.root = "/x"
    args = {"timeout": 30, "cache": host.cache, "label": "/other"}
    assert [host.root(), host.root(), Host(user=False, **args).root()] == ["/x", "/x", "/x"]
    assert fake.connections == 1
    monkeypatch.setattr(systemd, "boot_id", lambda: "another boot")
    assert Host(user=False, **args).root() == "/x"
    assert fake.connections == 2
    for damage in ("", "{", "[]", '{"boot_id": "another boot", "user": false, "root": 3}'):
        Path(host.cache).write_text(damage)
        assert Host(user=False, **args).root() == "/x"
    assert fake.connections == 6


def test_the_slice_and_conmon_s_scope_are_one_exchange(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    placement = here(layout, host)
    before = fake.writes
    assert placement.prepare(4321) == ""
    assert fake.writes == before + 1
    assert list(fake.units) == [SLICE, CONMON]
    own, conmon = fake.units.values()
    assert own["Description"] == f"Container {ID[:12]} of /root"
    assert all(own[name] for name in ("CPUAccounting", "MemoryAccounting", "TasksAccounting"))
    assert (conmon["PIDs"], conmon["Slice"]) == ([4321], "machine.slice")
    assert {unit["CollectMode"] for unit in (own, conmon)} == {"inactive-or-failed"}


def test_conmon_without_its_scope_is_no_error(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    fake.script[CONMON] = ["failed"]
    assert "'failed'" in here(layout, host).prepare(1)
    fake.script[CONMON] = ["denied"]
    assert "Access denied" in here(layout, host).place_monitor(1)


@pytest.mark.parametrize("outcome", ["failed", "denied", "gone"])
def test_a_container_without_its_slice_is_one(
    fake: FakeSystemd, layout: Layout, host: Host, outcome: str
) -> None:
    placement = here(layout, host)
    fake.script[SLICE] = [outcome]
    with pytest.raises(LongshoreError, match=f"cannot start {SLICE}"):
        placement.prepare(1)


@pytest.mark.parametrize("outcome", ["done", "exists", "denied"])
def test_no_error_keeps_its_caller_s_variables(
    fake: FakeSystemd, layout: Layout, host: Host, outcome: str
) -> None:
    """Open files of whoever calls would stay open until the collector of cycles comes."""

    class Mine:
        pass

    def call() -> weakref.ref[Mine]:
        mine = Mine()
        placement = here(layout, host)
        fake.script |= {SLICE: [outcome, "done", "denied"], CONMON: [outcome]}
        for step in (lambda: placement.prepare(1), placement.remove, placement.remove):
            with contextlib.suppress(LongshoreError):
                step()
        return weakref.ref(mine)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


def test_what_is_left_of_an_earlier_run_is_stopped_before(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    placement = here(layout, host)
    placement.prepare(1)
    fake.calls.clear()
    assert placement.prepare(2) == ""
    assert fake.units[CONMON]["PIDs"] == [2]
    assert [call[1] for call in fake.calls if call[0] == "StopUnit"] == [SLICE, CONMON]


def test_the_conmon_of_a_session_has_a_scope_of_its_own(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    placement = here(layout, host)
    assert placement.prepare(1) == placement.place_monitor(2, OTHER) == ""
    assert fake.units[f"longshore-conmon-{OTHER}.scope"]["PIDs"] == [2]


def test_removing_is_idempotent(fake: FakeSystemd, layout: Layout, host: Host) -> None:
    placement = here(layout, host)
    placement.prepare(1)
    assert placement.remove()
    assert list(fake.units) == [CONMON]  # it goes with its conmon
    assert placement.remove()
    assert fake.calls[-1] == ("ResetFailedUnit", f"longshore-{ID}.scope")


def test_a_conmon_s_scope_goes_when_nobody_lives_in_it(
    fake: FakeSystemd, layout: Layout, host: Host, tmp_path: Path
) -> None:
    placement = here(layout, host)
    placement.prepare(1)
    placement.place_monitor(2, OTHER)
    fake.calls.clear()
    placement.remove_monitors()
    assert not fake.calls  # its cgroup went with its last process
    for scope, pids in ((CONMON, "1\n"), (f"longshore-conmon-{OTHER}.scope", "")):
        (tmp_path / "cgroup/machine.slice" / scope).mkdir(parents=True)
        (tmp_path / "cgroup/machine.slice" / scope / "cgroup.procs").write_text(pids)
    placement.remove_monitors()
    assert not fake.calls
    placement.remove_monitors(OTHER)
    assert list(fake.units) == [SLICE, CONMON]


def test_without_a_bus_a_removal_goes_on(
    layout: Layout, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(_log, "warn", said.append)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    assert not Systemd(layout, host, f"/machine.slice/{SLICE}", ID).remove()
    (line,) = said
    assert SLICE in line and "prune" in line


def test_without_jeepney(fake: FakeSystemd, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import longshore.cgroup

    monkeypatch.delattr(longshore.cgroup, "bus", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "longshore.cgroup.bus", None)
    with pytest.raises(HostUnsupported, match="jeepney") as caught:
        host.root()
    assert "python3-jeepney" in (caught.value.hint or "")


def test_a_sweep_takes_what_is_ours_and_nobody_s(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    other = Host(user=False, timeout=30, cache=host.cache, label="/elsewhere")
    here(layout, host).prepare(1)
    place(layout, host, "", OTHER).prepare(1)
    third = "ef" * 32
    place(layout, other, "", third).prepare(1)
    systemd.sweep(host, lambda: [OTHER])
    slices = [unit for unit in fake.units if unit.endswith(".slice")]
    assert slices == [f"machine-longshore_{i}.slice" for i in (OTHER, third)]


def test_a_sweep_takes_empty_scopes(fake: FakeSystemd, layout: Layout, host: Host) -> None:
    for pid, ident in ((1, ID), (2, OTHER)):
        here(layout, host).place_monitor(pid, ident)
    systemd.leave_starter(host, 3)
    fake.ended = {2, 3}
    systemd.sweep(Host(user=False, timeout=30, cache=host.cache, label="/elsewhere"), list)
    assert len(fake.units) == 3
    systemd.sweep(host, list)
    assert list(fake.units) == [CONMON]


def test_the_supervisor_gets_a_scope(fake: FakeSystemd, host: Host) -> None:
    systemd.leave_starter(host, 99)
    assert fake.units["longshore-supervisor-99.scope"]["PIDs"] == [99]


def test_at_a_shutdown_it_is_stopped_as_asked(
    fake: FakeSystemd, layout: Layout, host: Host
) -> None:
    said = here(layout, host).annotations(10, 2.5)
    assert said["org.systemd.property.KillSignal"] == "10"
    assert said["org.systemd.property.TimeoutStopUSec"] == "uint64 2500000"
    assert said["org.systemd.property.CollectMode"] == "'inactive-or-failed'"
    assert "org.systemd.property.TasksMax" not in said
    endless = here(layout, host).annotations(10, 2.5, endless_tasks=True)
    assert endless["org.systemd.property.TasksMax"] == "uint64 18446744073709551615"


# --- where a runtime has put a container ------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "begun", "found"),
    [
        ("", False, ""),  # runc
        ("/container", False, "/container"),  # crun
        ("/mine", False, "/mine"),  # crun with an annotation
        ("/container/init.scope", True, "/container"),  # a systemd in a container of crun's
        ("/init.scope", True, ""),  # and of runc's
    ],
)
def test_where_init_is(
    fake: FakeSystemd,
    layout: Layout,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    inside: str,
    begun: bool,
    found: str,
) -> None:
    placement = here(layout, host)
    scope = placement.runtime.path
    monkeypatch.setattr(systemd, "cgroup_of", lambda *_: f"{scope}{inside}")
    assert placement.inner(1, begun=begun) == f"{scope}{found}"


def test_an_init_that_is_gone(fake: FakeSystemd, layout: Layout, host: Host) -> None:
    placement = here(layout, host)
    assert placement.inner(1 << 22) == placement.runtime.path


def test_the_cgroup_of_a_process(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"1:cpu,freezer:/c\n2:name=systemd:/s:x\n3:memory:/m\n0::/u:y\n"
    monkeypatch.setattr(systemd, "read_file", lambda _: text)

    def v1(*names: str) -> Layout:
        return Layout(tuple(Hierarchy("/x", 1, frozenset({name})) for name in names))

    assert cgroup_of(layout, 1) == "/u:y"
    assert cgroup_of(v1("memory", "freezer", "name=systemd"), 1) == "/c"
    assert cgroup_of(v1("memory", "name=systemd"), 1) == "/m"
    assert cgroup_of(v1("name=systemd"), 1) == "/s:x"
    assert cgroup_of(v1("hugetlb"), 1) == "/s:x"
    monkeypatch.setattr(systemd, "read_file", lambda _: None)
    assert cgroup_of(layout, os.getpid()) == ""
