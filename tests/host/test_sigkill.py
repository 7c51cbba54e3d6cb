"""sigkill_every_step: whoever is killed, reads are truthful, and force takes it all away."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import hostkit
from hostlife import (
    SLEEP,
    Fatal,
    await_end,
    count_calls,
    eventually,
    fatal_call,
    forked,
    in_fork,
    kill_init,
    kill_monitor,
    make,
    ready,
    started,
)
from longshore import Container, Engine, Trace
from longshore.errors import LongshoreError, NoSuchContainer
from longshore.lifecycle import Status
from longshore.linux.processes import identify, is_ending
from longshore.models import ExitReason

KILLED = -signal.SIGKILL
LIVE = (Status.RUNNING, Status.PAUSED)


def is_truthful(engine: Engine) -> None:
    """What is listed is so: a live pid where it runs, none where it does not; no damage."""
    for found in engine.inspect_all():
        assert found.status is not Status.DAMAGED
        assert (found.pid is not None) or found.status not in LIVE
        if found.pid is not None:
            with contextlib.suppress(OSError):  # it ended since
                cgroups = Path(f"/proc/{found.pid}/cgroup").read_text()
                # who ends has left its cgroup before it is a zombie
                assert found.id in cgroups or is_ending(identify(found.pid))


def is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def nothing_is_left(host: hostkit.Host, dirs: tuple[Path, Path]) -> None:
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    with contextlib.suppress(AssertionError):
        eventually(lambda: not hostkit._files(*dirs), hostkit.PATIENCE)
    assert not hostkit._files(*dirs)


def remove_all(engine: Engine) -> None:
    for box in engine.list(all=True):
        box.remove(force=True, missing_ok=True)
    engine.prune()
    assert engine.inspect_all() == []


def test_start_killed_at_every_mark(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    host = hostkit.Host()
    number, code = 0, KILLED
    while code == KILLED:
        number += 1
        box = make(engine, busybox_rootfs, SLEEP, name="box")
        code = in_fork(functools.partial(box.start, trace=Fatal(number)))
        is_truthful(engine)
        if number % 2 and code == KILLED:
            box.start()  # needs no repair
            assert box.inspect().status is Status.RUNNING
            ended = box.stop(0)
            # a conmon that could not tell its starter may end a moment after it was looked at
            assert ended and ended.reason in (ExitReason.STOP_ESCALATED, ExitReason.MONITOR_LOST)
            box.remove()
        else:
            box.remove(force=True)
        nothing_is_left(host, dirs)
    assert code == 0
    assert number > 8


def test_start_interrupted_at_every_mark(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    """Ctrl-C: everything is taken back, also when it comes after all is done."""

    class Interrupts(Trace):
        def __init__(self, wanted: str) -> None:
            super().__init__()
            self._wanted = wanted

        def mark(self, phase: str) -> None:
            super().mark(phase)
            if phase == self._wanted:
                raise KeyboardInterrupt

    host = hostkit.Host()
    box = make(engine, busybox_rootfs, SLEEP, name="box")
    whole = Trace()
    box.start(trace=whole)
    box.stop(0)
    assert len(whole.phases) > 8
    for phase, _ in whole.phases:
        with pytest.raises(KeyboardInterrupt):
            box.start(trace=Interrupts(phase))
        assert box.status is Status.EXITED, phase
        assert box.inspect().pid in (None, 0), phase
    box.start()  # the runtime knows nothing of it
    box.remove(force=True)
    nothing_is_left(host, dirs)


def test_a_started_container_outlives_its_killed_starter(
    engine: Engine, busybox_rootfs: Path
) -> None:
    """Killed once its program has begun, and before that was written down."""
    box = make(engine, busybox_rootfs, "echo ready; " + SLEEP)

    class Late(Fatal):
        def mark(self, phase: str) -> None:
            if phase == "runtime start":
                ready(box)
                os.kill(os.getpid(), signal.SIGKILL)

    assert in_fork(functools.partial(box.start, trace=Late(0))) == KILLED
    found = box.inspect()
    assert found.status is Status.RUNNING and found.pid
    box.start()  # is fine: it runs
    assert box.inspect().pid == found.pid
    kill_init(box)
    info = box.wait(30)
    assert (info.code, info.reason) == (137, ExitReason.SIGNALED)
    assert info.started_ns is not None


def _create(engine: Engine, rootfs: Path) -> None:
    make(engine, rootfs, SLEEP, name="box")


def _created(engine: Engine, rootfs: Path) -> Container:
    return make(engine, rootfs, SLEEP, name="box")


def _running(engine: Engine, rootfs: Path) -> Container:
    return started(engine, rootfs, SLEEP, name="box")


def _ended(engine: Engine, rootfs: Path) -> Container:
    box = started(engine, rootfs, "exit 3", name="box")
    box.wait(30)
    return box


def _paused(engine: Engine, rootfs: Path) -> Container:
    box = _running(engine, rootfs)
    box.pause()
    return box


Before = Callable[[Engine, Path], Container]
STEPS: dict[str, tuple[Before | None, Callable[[Engine, Path], object]]] = {
    "create": (None, _create),
    "start": (_created, lambda engine, _: engine.get("box").start()),
    "start again": (_ended, lambda engine, _: engine.get("box").start()),
    "stop": (_running, lambda engine, _: engine.get("box").stop(0)),
    "pause": (_running, lambda engine, _: engine.get("box").pause()),
    "unpause": (_paused, lambda engine, _: engine.get("box").unpause()),
    "kill": (_running, lambda engine, _: engine.get("box").kill()),
    "rename": (_created, lambda engine, _: engine.get("box").rename("other")),
    "remove": (_ended, lambda engine, _: engine.get("box").remove()),
    "remove by force": (_running, lambda engine, _: engine.get("box").remove(force=True)),
    "run": (None, lambda engine, rootfs: engine.run(
        command=["sh", "-c", "echo hi; exit 3"], rootfs=rootfs, name="box")),
}  # fmt: skip


def killed_at(
    step: str,
    number: int,
    engine: Engine,
    rootfs: Path,
    dirs: tuple[Path, Path],
    host: hostkit.Host,
) -> int:
    """Kill one step in its n-th call and see that all is well; return how the process ended."""
    before, body = STEPS[step]
    if before is not None:
        before(engine, rootfs)

    def killed() -> None:
        fatal_call(number)
        body(engine, rootfs)

    code = in_fork(killed)
    assert code in (0, KILLED), f"{step}, call {number}: {code}"
    is_truthful(engine)
    for name in ("box", "other"):
        try:
            box = engine.get(name)
            if number % 2 and box.status is not Status.PAUSED:
                box.start()
                box.stop(0)
            box.remove(force=True)
        except NoSuchContainer:
            pass
    remove_all(engine)
    make(engine, rootfs, "true", name="box").remove()  # the name is free
    nothing_is_left(host, dirs)
    return code


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle(
    step: str, engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    """At some of its calls; test_killed_everywhere is at all of them."""
    host = hostkit.Host()
    before, body = STEPS[step]
    if before is not None:
        before(engine, busybox_rootfs)
    calls = count_calls(lambda: body(engine, busybox_rootfs))
    remove_all(engine)
    assert calls > 10
    for share in (0.35, 0.6, 0.8, 0.95):
        killed_at(step, round(calls * share), engine, busybox_rootfs, dirs, host)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", STEPS)
def test_killed_everywhere(
    step: str, engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    host = hostkit.Host()
    number, code = 0, KILLED
    while code == KILLED:
        number += 1
        code = killed_at(step, number, engine, busybox_rootfs, dirs, host)


def test_conmon_killed(engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]) -> None:
    host = hostkit.Host()

    def lost() -> Container:
        box = started(engine, busybox_rootfs, SLEEP, name="box")
        kill_monitor(box)
        is_truthful(engine)
        assert box.inspect().status is Status.RUNNING
        return box

    box = lost()
    box.pause()
    assert box.inspect().status is Status.PAUSED
    box.unpause()
    box.kill()
    assert box.wait(30).reason is ExitReason.MONITOR_LOST
    box.start()
    assert box.inspect().status is Status.RUNNING
    kill_monitor(box)
    ended = box.stop(30)
    assert ended and ended.reason is ExitReason.MONITOR_LOST
    box.remove()
    nothing_is_left(host, dirs)
    box = lost()
    box.remove(force=True)
    nothing_is_left(host, dirs)
    box = lost()
    kill_init(box)
    eventually(lambda: box.inspect().pid is None)
    assert box.inspect().status is Status.STOPPED
    box.remove()
    nothing_is_left(host, dirs)


def test_conmon_killed_while_paused(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    box.pause()
    kill_monitor(box)
    box.remove(force=True)
    box = started(engine, busybox_rootfs, SLEEP)
    box.pause()
    kill_monitor(box)
    ended = box.stop(30)
    assert ended and ended.reason is ExitReason.MONITOR_LOST


@pytest.mark.parametrize("phase", ["conmon spawn", "conmon cgroup", "runtime create"])
def test_conmon_killed_during_a_start(
    phase: str, engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    """The start fails, or the container runs without a monitor; either can be taken away."""
    host = hostkit.Host()
    box = make(engine, busybox_rootfs, SLEEP, name="box")

    class Assassin(Fatal):
        def mark(self, name: str) -> None:
            if name != phase:
                return
            from longshore.linux.processes import command_lines

            for pid, argv in command_lines():
                if "conmon" in argv[0] and box.id in argv:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue

    try:
        box.start(trace=Assassin(0))
    except LongshoreError:
        assert box.inspect().status is Status.CREATED
        nothing_runs(engine)
        box.start()
    is_truthful(engine)
    box.remove(force=True)
    nothing_is_left(host, dirs)


def nothing_runs(engine: Engine) -> None:
    assert engine.list() == []


def test_owner_of_run_killed(engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]) -> None:
    """The container lives on, and is removed at its end by conmon's exit command."""
    host = hostkit.Host()
    (busybox_rootfs / "fifo").touch()
    os.remove(busybox_rootfs / "fifo")
    os.mkfifo(busybox_rootfs / "fifo")

    def run() -> None:
        script = "echo ready; read x </fifo"
        engine.run(command=["sh", "-c", script], rootfs=busybox_rootfs, name="box")

    with forked(run) as pid:
        eventually(lambda: any(f.status is Status.RUNNING for f in engine.inspect_all()))
        box = ready(engine.get("box"))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert box.inspect().status is Status.RUNNING
    init = box.inspect().pid
    assert init is not None
    (busybox_rootfs / "fifo").write_text("go\n")
    await_end(init)
    info = box.wait(30, condition="removed")
    assert (info.code, info.reason) == (0, ExitReason.EXITED)
    nothing_is_left(host, dirs)

    with forked(run) as pid:
        eventually(lambda: any(f.status is Status.RUNNING for f in engine.inspect_all()))
        box = ready(engine.get("box"))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    box.remove(force=True)
    nothing_is_left(host, dirs)
