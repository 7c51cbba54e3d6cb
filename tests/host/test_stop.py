"""stop_latency: who gets a grace and who does not; what is paused can still be ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hostlife import REFUSES, SLEEP, TRAPS, eventually, make, printed, ready, started
from longshore import Engine
from longshore.lifecycle import Status
from longshore.models import ExitReason

LONG = 100_000.0  # a grace that no test can wait for


def test_what_cannot_receive_the_signal_is_not_waited_for(
    engine: Engine, busybox_rootfs: Path
) -> None:
    for script in (SLEEP, f"trap '' TERM; echo ready; {SLEEP}"):
        box = started(engine, busybox_rootfs, script)
        info = box.stop(LONG)
        assert info and (info.code, info.reason) == (137, ExitReason.STOP_ESCALATED)
        assert "cannot receive" in info.message


def test_without_fast_stop_it_has_its_grace(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    before = time.monotonic()
    info = box.stop(0.4, fast_stop=False)
    assert time.monotonic() - before >= 0.4
    assert info and (info.code, info.reason, info.message) == (137, ExitReason.STOP_ESCALATED, "")


def test_a_trap_has_its_grace(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, TRAPS))
    info = box.stop(LONG)
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)
    assert printed(box) == b"ready\ngot it\n"
    box = ready(started(engine, busybox_rootfs, REFUSES))
    before = time.monotonic()
    info = box.stop(0.4)
    assert time.monotonic() - before >= 0.4
    assert info and info.reason is ExitReason.STOP_ESCALATED
    assert printed(box) == b"ready\nno\n"


SIGWAIT = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
print("got it", flush=True)
raise SystemExit(6)
"""


def test_sigwait_has_its_grace(engine: Engine) -> None:
    python = os.path.realpath(sys.executable)
    box = engine.create(command=[python, "-I", "-S", "-c", SIGWAIT], rootfs="/", overlay=True)
    box.start()
    ready(box)
    info = box.stop(LONG)
    assert info and (info.code, info.reason) == (6, ExitReason.STOPPED)
    assert printed(box) == b"ready\ngot it\n"


def test_signal_and_grace_of_its_own(engine: Engine, busybox_rootfs: Path) -> None:
    script = TRAPS.replace("TERM", "USR1")
    box = ready(started(engine, busybox_rootfs, script, stop_signal="USR1", stop_timeout=LONG))
    info = box.stop()
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)
    box = ready(started(engine, busybox_rootfs, script))
    info = box.stop(LONG, signal="SIGUSR1")
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)


def test_restart_is_a_stop_and_a_start(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, TRAPS)
    box.restart()  # of one that never ran
    ready(box)
    first = box.inspect().pid
    box.restart(LONG)
    assert box.inspect().status is Status.RUNNING
    assert box.inspect().pid != first
    box.pause()
    box.restart(0)
    assert box.inspect().status is Status.RUNNING
    assert [info.reason for info in box.inspect().exits] == [
        ExitReason.STOPPED,
        ExitReason.STOP_ESCALATED,
    ]


def test_paused_containers_can_be_ended(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, TRAPS)

    def paused() -> None:
        box.start()
        ready(box)
        # a signal between its echo and its wait is lost at times (busybox 1.37: 1 of 12)
        eventually(lambda: any(process.name == "sleep" for process in box.top()))
        box.pause()

    paused()
    info = box.stop(LONG)
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)
    paused()
    info = box.stop(0)
    assert info and (info.code, info.reason) == (137, ExitReason.STOP_ESCALATED)
    paused()
    box.kill("KILL")
    assert box.wait(30).reason is ExitReason.KILLED
    paused()
    box.kill("TERM")  # waits in the freezer
    assert box.inspect().status is Status.PAUSED
    box.unpause()
    assert box.wait(30).code == 5
    paused()
    box.remove(force=True)
    assert box.wait().reason is ExitReason.KILLED


def test_every_process_goes_with_pid_1(engine: Engine, busybox_rootfs: Path) -> None:
    script = "setsid sleep 1000 & setsid sh -c 'sleep 1000; true' & " + TRAPS
    box = ready(started(engine, busybox_rootfs, script))
    box.stop(LONG)
    # with a pid namespace of the host nothing but the cgroup holds them together
    box = ready(started(engine, busybox_rootfs, script, pid="host"))
    info = box.stop(LONG)
    assert info and (info.code, info.reason) == (5, ExitReason.STOPPED)
    box.cleanup()


@pytest.mark.parametrize("number", ["KILL", "9", 9, "SIGKILL", "kill"])
def test_signals_by_name_and_number(
    engine: Engine, busybox_rootfs: Path, number: str | int
) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    box.kill(number)
    assert box.wait(30).code == 137
