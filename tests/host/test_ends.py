"""reason_matrix: why a run ended, told apart, and kept."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hostlife import LIMITS, REFUSES, SLEEP, TRAPS, kill_init, kill_monitor, make, ready, started
from longshore import Engine
from longshore.errors import ProgramNotFound
from longshore.lifecycle import Status
from longshore.models import ExitReason


def test_exited(engine: Engine, busybox_rootfs: Path) -> None:
    for code in (0, 1, 128, 255):
        info = engine.run(command=["sh", "-c", f"exit {code}"], rootfs=busybox_rootfs).exit
        assert (info.code, info.reason, info.signal) == (code, ExitReason.EXITED, None)
        assert info.started_ns and info.finished_ns
        assert info.ok == (code == 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP])
def test_signaled(engine: Engine, busybox_rootfs: Path, number: int) -> None:
    # A child of pid 1, because the kernel shields pid 1 itself; a shell ends with its child's code.
    box = started(engine, busybox_rootfs, f"sh -c 'kill -{number} $$'; exit $?")
    info = box.wait(30)
    assert (info.code, info.signal, info.reason) == (128 + number, number, ExitReason.SIGNALED)


def test_signaled_from_outside(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    kill_init(box)
    info = box.wait(30)
    assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.SIGNALED)
    assert not info.oom_killed


def test_oom_killed(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if layout == "v2" and "memory" not in controllers.read_text().split():
        from longshore.errors import HostUnsupported

        with pytest.raises(HostUnsupported, match="memory"):
            engine.run(command=["true"], rootfs=busybox_rootfs, memory="32m")
        return
    info = engine.run(command=["tail", "/dev/zero"], rootfs=busybox_rootfs, memory="32m").exit
    assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.OOM_KILLED)
    assert info.oom_killed
    # A victim that is not pid 1 leaves its mark, and the exit stays pid 1's own.
    script = "sh -c 'exec tail /dev/zero'; exit 4"
    info = engine.run(command=["sh", "-c", script], rootfs=busybox_rootfs, memory="32m").exit
    assert (info.code, info.reason, info.oom_killed) == (4, ExitReason.EXITED, True)


def test_timeout_of_run(engine: Engine, busybox_rootfs: Path) -> None:
    script = "echo before; exec sleep 1000"
    for limit in LIMITS:
        result = engine.run(command=["sh", "-c", script], rootfs=busybox_rootfs, timeout=limit)
        assert (result.exit.code, result.exit.reason) == (137, ExitReason.TIMEOUT)
        if result.stdout:
            break
    assert result.stdout == b"before\n"
    # one that has ended before its time is over is not touched
    assert engine.run(command=["true"], rootfs=busybox_rootfs, timeout=60).exit.ok


def test_timeout_by_conmon(engine: Engine, busybox_rootfs: Path) -> None:
    info = engine.run(command=["sh", "-c", SLEEP], rootfs=busybox_rootfs, run_timeout=1).exit
    assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.TIMEOUT)
    info = engine.run(command=["sh", "-c", "exit 3"], rootfs=busybox_rootfs, run_timeout=60).exit
    assert (info.code, info.reason) == (3, ExitReason.EXITED)


def test_stopped(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, TRAPS))
    info = box.stop(30)
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)


def test_stop_escalated(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, REFUSES))
    info = box.stop(0.2)
    assert info and (info.code, info.reason) == (137, ExitReason.STOP_ESCALATED)
    box.start()
    info = box.stop(0)
    assert info and (info.code, info.reason) == (137, ExitReason.STOP_ESCALATED)


def test_killed(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    box.kill()
    info = box.wait(30)
    assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.KILLED)
    # A signal that its program makes an exit of is an exit.
    box = ready(started(engine, busybox_rootfs, TRAPS))
    box.kill("TERM")
    info = box.wait(30)
    assert (info.code, info.reason) == (5, ExitReason.EXITED)


def test_monitor_lost(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    kill_monitor(box)
    assert box.inspect().status is Status.RUNNING
    assert box.inspect().monitor_pid is None
    kill_init(box)
    info = box.wait(30)
    assert (info.code, info.signal, info.reason) == (-1, None, ExitReason.MONITOR_LOST)
    assert "conmon" in info.message
    box.cleanup()  # conmon's exit command will never come
    assert box.inspect().status is Status.EXITED
    box.start()
    kill_monitor(box)
    info = box.stop(0)
    assert info and info.reason is ExitReason.MONITOR_LOST
    box.remove()
    assert box.wait() == info


def test_a_start_that_failed_keeps_its_reason(engine: Engine, busybox_rootfs: Path) -> None:
    box = engine.create(command=["/bin/nothing"], rootfs=busybox_rootfs)
    with pytest.raises(ProgramNotFound):
        box.start()
    found = box.inspect()
    (failed,) = found.exits
    assert (found.status, failed.reason) == (Status.CREATED, ExitReason.START_FAILED)
    assert "/bin/nothing" in found.error
    (busybox_rootfs / "bin/nothing").write_text("#!/bin/sh\n")
    (busybox_rootfs / "bin/nothing").chmod(0o755)
    box.start()
    assert box.wait(30).ok
    assert box.inspect().error == ""


def test_the_last_ten_exits_are_kept(engine: Engine, busybox_rootfs: Path) -> None:
    script = "n=$(cat /n); echo $((n + 1)) >/n; exit $n"
    (busybox_rootfs / "n").write_text("1\n")
    box = make(engine, busybox_rootfs, script)
    for _ in range(12):
        with box.attended():
            box.start()
            box.wait(30)
    assert [info.code for info in box.inspect().exits] == list(range(3, 13))
    assert box.inspect().restart_count == 11
