"""fake_reboot: after a reboot the truth is told, nothing is lost, and start works."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hostlife import SLEEP, await_end, kill_monitor, printed, ready, started
from longshore import Container, Engine
from longshore.lifecycle import Status
from longshore.linux.cgroups import Cgroup, detect
from longshore.linux.mounts import unmount
from longshore.models import ExitReason


def power_cut(engine: Engine, box: Container) -> None:
    """Do to a container what a power cut does: all that lives in memory is gone, but /run."""
    pid = box.inspect().pid
    assert pid is not None
    kill_monitor(box)  # first: its exit command must not come
    os.kill(pid, 9)
    await_end(pid)
    store = engine._machinery.store
    record = store.peek(box.id)
    assert record.run is not None
    store.write(record.replace(run=record.run.replace(boot_id="of another boot")))
    unmount(engine._machinery.paths(box.id).merged, lazy=True)
    assert Cgroup(detect(), record.run.cgroup).remove()


@pytest.mark.parametrize("run_directory", ["gone", "stale"])
def test_the_truth_after_a_reboot(
    run_directory: str, engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    script = "echo x >>/kept; echo ready; " + SLEEP
    box = started(engine, busybox_rootfs, script, name="box", overlay=True)
    ready(box)
    power_cut(engine, box)
    if run_directory == "gone":
        shutil.rmtree(dirs[1])
    found = box.inspect()
    assert (found.status, found.pid, found.monitor_pid) == (Status.EXITED, None, None)
    assert engine.list() == []
    assert engine.list(all=True) == [box]
    info = box.wait(30)
    assert (info.code, info.reason, info.finished_ns) == (-1, ExitReason.MONITOR_LOST, None)
    assert info.started_ns == found.started_ns
    assert "reboot" in info.message
    assert box.inspect().exits == (info,)
    assert printed(box) == b"ready\n"
    assert box.stop() == info

    box.start()
    records = box.logs(follow=True)
    assert [next(records).data for _ in range(2)] == [b"ready\n"] * 2
    records.close()  # type: ignore[attr-defined]
    assert box.inspect().status is Status.RUNNING
    root = box.inspect().rootfs_path
    assert Path(root, "kept").read_text() == "x\nx\n"  # its changes are on disk
    box.stop(0)
    assert [e.reason for e in box.inspect().exits] == [
        ExitReason.MONITOR_LOST,
        ExitReason.STOP_ESCALATED,
    ]
    box.remove()
    assert not (busybox_rootfs / "kept").exists()


def test_what_a_reboot_ended_can_be_removed(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    for force in (False, True):
        box = started(engine, busybox_rootfs, SLEEP, name="box", overlay=True)
        power_cut(engine, box)
        shutil.rmtree(dirs[1])
        box.remove(force=force)
        assert box.wait().reason is ExitReason.MONITOR_LOST


def test_a_start_that_a_reboot_cut_short(engine: Engine, busybox_rootfs: Path) -> None:
    from longshore.linux.processes import identify
    from longshore.store import Run

    box = engine.create(command=["true"], rootfs=busybox_rootfs)
    store = engine._machinery.store
    record = store.peek(box.id)
    run = Run(
        number=1,
        boot_id="of another boot",
        runtime="crun",
        runtime_path="/usr/bin/crun",
        cgroup=f"/longshore/{box.id}",
        actor=identify(os.getpid()),
    )
    store.write(record.replace(run=run, starts=1))
    assert box.inspect().status in (Status.CREATED, Status.EXITED)
    box.start()
    assert box.wait(30).ok
    box.remove()
