"""engine/inspection.py and the look behind it: what is, from records and facts alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.config import Settings
from longshore.engine import inspection, observe
from longshore.engine.inspection import Inspection, inspect, inspect_all
from longshore.engine.machinery import Machinery
from longshore.engine.observe import look, read_exit_file
from longshore.errors import NoSuchContainer, RecordCorrupt
from longshore.lifecycle import Status
from longshore.linux import cgroups
from longshore.linux.cgroups import Hierarchy
from longshore.linux.processes import ProcessId, boot_id, identify
from longshore.models import ExitInfo, ExitReason
from longshore.options import ContainerConfig
from longshore.store import Record, Run

A, B, C = "aa" * 32, "ab" * 32, "cc" * 32
DEAD = ProcessId(pid=1 << 22, start=1)
INFO = ExitInfo(code=3, reason=ExitReason.EXITED, finished_ns=9)


@pytest.fixture
def machinery(tmp_path: Path) -> Machinery:
    found = Machinery(Settings(root=str(tmp_path / "root"), run_root=str(tmp_path / "run")))
    found.layout.prepare()
    # one directory that stands for a v2 hierarchy
    (tmp_path / "cgroup").mkdir()
    found.cgroup_layout = cgroups.Layout((Hierarchy(str(tmp_path / "cgroup"), 2, frozenset()),))
    return found


def _me() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def _run(**changes: object) -> Run:
    run = Run(
        number=1, boot_id=boot_id(), runtime="crun", runtime_path="/usr/bin/crun",
        cgroup=f"/longshore/{A}", monitor=_me(), init=_me(), started_ns=5,
    )  # fmt: skip
    return run.replace(**changes)


def _add(machinery: Machinery, container_id: str = A, name: str = "box", **changes: object) -> None:
    config = ContainerConfig(name=name, rootfs="/srv/root")
    record = Record(id=container_id, config=config, created_ns=1).replace(**changes)
    machinery.store.create(record)


def _ended(machinery: Machinery, container_id: str = A, code: str = "3") -> None:
    paths = machinery.paths(container_id)
    os.makedirs(paths.exit_dir)
    Path(paths.exit_file).write_text(code)


def _freeze(machinery: Machinery, text: str) -> None:
    directory = Path(machinery.cgroup_layout.hierarchies[0].mount, f"longshore/{A}/container")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.freeze").write_text(text)


def test_one_that_never_ran(machinery: Machinery) -> None:
    _add(machinery)
    found = inspect(machinery, A)
    assert found == Inspection(
        id=found.id, config=ContainerConfig(name="box", rootfs="/srv/root"),
        status=Status.CREATED, created_ns=1,
        bundle_path=machinery.paths(A).bundle, log_path=machinery.paths(A).log,
        rootfs_path="/srv/root",
    )  # fmt: skip
    assert (found.name, found.hostname) == ("box", A[:12])


def test_one_that_runs(machinery: Machinery) -> None:
    _add(machinery, status=Status.RUNNING, run=_run(), starts=3, exits=(INFO,))
    found = inspect(machinery, A)
    assert (found.status, found.pid, found.monitor_pid) == (
        Status.RUNNING, os.getpid(), os.getpid(),
    )  # fmt: skip
    assert (found.started_ns, found.finished_ns, found.exit) == (5, None, None)
    assert found.exits == (INFO,)
    assert found.restart_count == 2
    assert (found.runtime_name, found.runtime_path) == ("crun", "/usr/bin/crun")
    assert found.cgroup_path == f"/longshore/{A}/container"


@pytest.mark.parametrize(
    ("kept", "freezer", "status"),
    [
        (Status.RUNNING, "1", Status.PAUSED),
        (Status.RUNNING, "0", Status.RUNNING),
        (Status.PAUSED, "0", Status.RUNNING),
        (Status.PAUSED, "1", Status.PAUSED),
        (Status.INITIALIZED, "1", Status.INITIALIZED),
    ],
)
def test_frozen_is_what_the_freezer_says(
    machinery: Machinery, kept: Status, freezer: str, status: Status
) -> None:
    _freeze(machinery, freezer)
    _add(machinery, status=kept, run=_run())
    assert inspect(machinery, A).status is status


@pytest.mark.parametrize("kept", [Status.INITIALIZED, Status.RUNNING, Status.PAUSED])
def test_an_exit_file_comes_before_a_record(machinery: Machinery, kept: Status) -> None:
    _add(machinery, status=kept, run=_run())
    _ended(machinery)
    found = inspect(machinery, A)
    assert (found.status, found.pid) == (Status.STOPPED, None)
    sight = look(machinery, machinery.store.peek(A))
    assert sight.exit is not None
    assert sight.exit.code == 3
    assert sight.exit.time_ns == os.stat(machinery.paths(A).exit_file).st_mtime_ns


def test_init_is_gone_and_conmon_has_not_said_how(machinery: Machinery) -> None:
    _add(machinery, status=Status.RUNNING, run=_run(init=DEAD))
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.exit, sight.monitor) == (Status.STOPPED, None, _me())


def test_conmon_is_gone_and_init_lives(machinery: Machinery) -> None:
    _add(machinery, status=Status.RUNNING, run=_run(monitor=DEAD))
    found = inspect(machinery, A)
    assert (found.status, found.pid, found.monitor_pid) == (Status.RUNNING, os.getpid(), None)


def test_both_are_gone(machinery: Machinery) -> None:
    _add(machinery, status=Status.RUNNING, run=_run(init=DEAD, monitor=DEAD))
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.exit, sight.monitor) == (Status.STOPPED, None, None)


def test_a_pid_that_another_process_has_by_now(machinery: Machinery) -> None:
    other = _me().replace(start=_me().start - 1)
    _add(machinery, status=Status.RUNNING, run=_run(init=other, monitor=other))
    found = inspect(machinery, A)
    assert (found.status, found.pid, found.monitor_pid) == (Status.STOPPED, None, None)


@pytest.mark.parametrize(
    "kept", [Status.INITIALIZED, Status.RUNNING, Status.PAUSED, Status.STOPPED]
)
def test_after_a_reboot_nothing_lives(machinery: Machinery, kept: Status) -> None:
    """Even if the pids and the run directory are as they were."""
    _add(machinery, status=kept, run=_run(boot_id="another"))
    found = inspect(machinery, A)
    assert (found.status, found.pid) == (Status.EXITED, None)
    assert look(machinery, machinery.store.peek(A)).rebooted


def test_one_that_has_ended(machinery: Machinery) -> None:
    _add(
        machinery, status=Status.EXITED, run=_run(init=DEAD, monitor=DEAD), exits=(INFO,), starts=1
    )
    found = inspect(machinery, A)
    assert (found.status, found.exit, found.finished_ns) == (Status.EXITED, INFO, 9)
    assert found.restart_count == 0


def test_a_start_that_is_under_way(machinery: Machinery) -> None:
    _add(machinery, status=Status.CREATED, run=_run(actor=_me(), init=None, monitor=None))
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.interrupted) == (Status.CREATED, False)


def test_a_start_that_was_cut_short(machinery: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "find_monitor", lambda *_: None)
    run = _run(actor=DEAD, init=None, monitor=None, runtime_path="/no/such")
    _add(machinery, status=Status.CREATED, run=run)
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.interrupted) == (Status.CREATED, True)
    monkeypatch.setattr(observe, "find_monitor", lambda *_: _me())
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.monitor, sight.interrupted) == (Status.INITIALIZED, _me(), True)
    _ended(machinery)
    sight = look(machinery, machinery.store.peek(A))
    assert (sight.status, sight.interrupted) == (Status.STOPPED, True)
    assert sight.exit is not None


def test_under_the_lock_nobody_else_can_be_starting_it(
    machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "find_monitor", lambda *_: None)
    run = _run(actor=_me(), init=None, monitor=None, runtime_path="/no/such")
    _add(machinery, status=Status.CREATED, run=run)
    assert look(machinery, machinery.store.peek(A), locked=True).interrupted


@pytest.mark.parametrize("text", ["", "x", "3 4", "\0", "9" * 30, str(1 << 31)])
def test_an_exit_file_that_is_not_whole_is_not_there(machinery: Machinery, text: str) -> None:
    _ended(machinery, code=text)
    assert read_exit_file(machinery, A) is None
    os.unlink(machinery.paths(A).exit_file)
    os.mkdir(machinery.paths(A).exit_file)
    assert read_exit_file(machinery, A) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": Status.RUNNING, "run": None}, "it is running, and nothing is said of its run"),
        ({"status": Status.DAMAGED}, "it says so itself"),
        ({"run": _run(cgroup="/")}, "the cgroup '/' is not its own"),
        ({"run": _run(cgroup="")}, "the cgroup '' is not its own"),
    ],
)
def test_a_record_that_contradicts_itself(
    machinery: Machinery, changes: dict[str, object], why: str
) -> None:
    _add(machinery, **changes)
    with pytest.raises(RecordCorrupt, match=why):
        inspect(machinery, A)
    assert [i.status for i in inspect_all(machinery)] == [Status.DAMAGED]


# --- all of them ---------------------------------------------------------------------------------


def test_all_newest_first(machinery: Machinery) -> None:
    for n, container_id in enumerate((A, B, C)):
        _add(machinery, container_id, f"box{n}", created_ns=(5, 9, 7)[n])
    assert [i.name for i in inspect_all(machinery)] == ["box1", "box2", "box0"]


def test_a_damaged_one_hides_no_other(machinery: Machinery) -> None:
    _add(machinery, A, "good")
    for container_id, text in ((B, "{"), (C, '{"format": 1, "id": "x", "created_ns": "now"}')):
        _add(machinery, container_id, container_id[:3])
        Path(machinery.paths(container_id).record).write_text(text)
    found = {i.id: i for i in inspect_all(machinery)}
    assert {i: found[i].status for i in found} == {  # type: ignore[index]
        A: Status.CREATED, B: Status.DAMAGED, C: Status.DAMAGED,
    }  # fmt: skip
    assert "is damaged" in found[B].error  # type: ignore[index]
    with pytest.raises(RecordCorrupt):
        inspect(machinery, B)


def test_one_that_goes_while_they_are_listed(
    machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(machinery, A, "box")
    real = machinery.store.ids
    monkeypatch.setattr(type(machinery.store), "ids", lambda _: [B, *real()])
    assert [i.id for i in inspect_all(machinery)] == [A]
    with pytest.raises(NoSuchContainer):
        inspect(machinery, B)


def test_reading_takes_no_lock_and_writes_nothing(machinery: Machinery, tmp_path: Path) -> None:
    _add(machinery, status=Status.RUNNING, run=_run(init=DEAD, monitor=DEAD))

    def tree() -> dict[str, int]:
        return {str(p): p.lstat().st_mtime_ns for p in tmp_path.rglob("*")}

    before = tree()
    with machinery.store.locked(A, "something else"):
        held = tree()
        assert [i.status for i in inspect_all(machinery)] == [Status.STOPPED]
        assert tree() == held
    assert set(tree()) == set(before)
    assert inspection.inspect is inspect


def test_where_its_log_is(machinery: Machinery) -> None:
    for n, (config, expected) in enumerate(
        [
            (ContainerConfig(name="a"), None),
            (ContainerConfig(name="b", log_driver="none"), ""),
            (ContainerConfig(name="c", log_path="/my.log"), "/my.log"),
        ]
    ):
        container_id = f"{n:02x}" * 32
        _add(machinery, container_id, config.name, config=config)
        found = inspect(machinery, container_id).log_path
        assert found == (machinery.paths(container_id).log if expected is None else expected)


def test_the_root_of_an_overlay_is_where_it_is_mounted(machinery: Machinery) -> None:
    _add(machinery, config=ContainerConfig(name="a", rootfs="/srv", overlay=True, hostname="h"))
    found = inspect(machinery, A)
    assert (found.rootfs_path, found.hostname) == (machinery.paths(A).merged, "h")
