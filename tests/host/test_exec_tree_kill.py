"""exec_tree_kill: what ends an exec ends all that it has begun, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostkit import which
from hostlife import SLEEP, eventually, forked, in_fork, started
from longshore import Container, Engine
from longshore.errors import LongshoreError
from longshore.lifecycle import Status
from longshore.linux.cgroups import Cgroup
from longshore.models import ExitReason, RunResult

# Every way to get away from one's parent: a session, a double fork, no hang-up, closed streams.
ESCAPES = """
sleep 7001 &
setsid sleep 7002 &
(setsid sh -c 'sleep 7003 & sleep 7004 & exit' &)
(trap '' HUP; exec sleep 7005 >/dev/null 2>&1) &
(setsid sleep 7006 >/dev/null 2>&1 </dev/null &)
trap '' TERM HUP INT
echo so far
"""
GRACE = 0.25  # seconds


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    container = started(engine, busybox_rootfs, SLEEP, name="box")
    yield container
    container.remove(force=True, missing_ok=True)


def sleepers(box: Container) -> list[str]:
    """Return the arguments of every `sleep` in a container, its first program's left out."""
    found = []
    run = box._machinery.store.peek(box.id).run
    assert run is not None
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            inside = run.cgroup in Path(f"/proc/{entry}/cgroup").read_text()
            if words[0].endswith(b"sleep") and inside and words[1] != b"1000":
                found.append(words[1].decode())
    return sorted(found)


def exec_files(box: Container) -> list[str]:
    run = Path(box._machinery.paths(box.id).run)
    return sorted(path.name for path in run.glob("exec-*"))


def is_untouched(box: Container, *others: str) -> None:
    assert sleepers(box) == sorted(others)
    assert box.status is Status.RUNNING
    assert box.exec(["echo", "alive"], timeout=20).text == "alive\n"
    assert exec_files(box) == []


def out_of_time(box: Container, grace: float) -> RunResult:
    """Let an exec run out of its time; it is over ``grace`` seconds later.

    Once, at least: the machine may be busy. Then it gets more time, too, to say something.
    """
    late = []
    for limit in (1.0, 1.0, 2.0, 4.0, 8.0, 16.0):
        began = time.monotonic()
        done = box.exec(["sh", "-c", ESCAPES + "sleep 7007"], timeout=limit)
        took = time.monotonic() - began
        assert (done.exit.reason, done.exit.code) == (ExitReason.TIMEOUT, 137)
        if done.stdout:
            assert done.stdout == b"so far\n"
            late.append(took - limit)
            if late[-1] < grace:
                return done
    raise AssertionError(f"it is over {late} s after its time")


def test_exec_tree_kill_by_a_time_limit(box: Container) -> None:
    box.exec(["sh", "-c", "sleep 5001 &"])  # the container's own by now
    with box.popen(["sleep", "5002"]) as other:
        eventually(lambda: sleepers(box) == ["5001", "5002"])
        done = out_of_time(box, GRACE + 0.25)
        assert done.exit.usage.cpu_user is not None
        assert sleepers(box) == ["5001", "5002"]
        assert other.poll() is None
        other.kill()
    is_untouched(box, "5001")


def test_exec_tree_kill_by_kill(box: Container) -> None:
    process = box.popen(["sh", "-c", ESCAPES + "exec sleep 7007"])
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"so far\n"
        process.kill()
        info = process.wait()
    assert (info.reason, info.code, info.signal) == (ExitReason.KILLED, 137, 9)
    is_untouched(box)


@pytest.mark.parametrize("detach", [False, True])
def test_exec_tree_kill_has_one_code(
    box: Container, detach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a program that waits for its children, sees them die and would go on to code 0."""
    send = signal.pidfd_send_signal

    def send_and_rest(pidfd: int, number: int) -> None:
        send(pidfd, number)
        time.sleep(0.02)

    # the youngest first, and not all at once: what a busy machine does now and then
    processes = Cgroup.processes
    monkeypatch.setattr(signal, "pidfd_send_signal", send_and_rest)
    monkeypatch.setattr(
        Cgroup, "processes", lambda own: dict.fromkeys(sorted(processes(own), reverse=True)).keys()
    )
    script = "for n in 1 2 3 4 5 6 7 8; do sleep 7008 & done; echo so far; wait; exit 0"
    for _ in range(3):
        with box.popen(["sh", "-c", script], detach=detach) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"so far\n"
            process.kill()
            info = process.wait(60)
            assert (info.reason, info.code, info.signal) == (ExitReason.KILLED, 137, 9)
    is_untouched(box)


def test_exec_tree_kill_by_an_exception(box: Container) -> None:
    script = ESCAPES + "sleep 7007"
    with pytest.raises(ZeroDivisionError), box.popen(["sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"so far\n"
        raise ZeroDivisionError
    assert process.exit is not None and process.exit.reason is ExitReason.KILLED
    is_untouched(box)


def test_exec_tree_kill_by_an_interrupt(box: Container) -> None:
    """Ctrl-C in a call that waits: its tree goes, and the exception goes on."""

    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    def interrupt_later() -> None:
        eventually(lambda: "7007" in sleepers(box), patience=60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    previous = signal.signal(signal.SIGALRM, interrupt)
    other = threading.Thread(target=interrupt_later)
    try:
        other.start()
        with pytest.raises(Interrupt):
            box.exec(["sh", "-c", ESCAPES + "sleep 7007"])
    finally:
        other.join()
        signal.signal(signal.SIGALRM, previous)
    is_untouched(box)


def test_exec_tree_kill_of_what_is_forgotten(box: Container) -> None:
    process = box.popen(["sh", "-c", ESCAPES + "sleep 7007"])
    assert process.stdout is not None
    assert process.stdout.readline() == b"so far\n"
    with pytest.warns(ResourceWarning, match="<Process 'sh' running> is still running"):
        del process
    is_untouched(box)


def test_exec_tree_kill_at_any_moment_of_its_beginning(box: Container) -> None:
    """From before the runtime has begun to after the program has: nothing gets away."""
    for step in range(40):
        process = box.popen(["sh", "-c", "setsid sleep 7001 & sleep 7002"])
        time.sleep(step / 1000)
        with process:
            process.kill()
        assert process.returncode == 137
        assert sleepers(box) == []
    is_untouched(box)


def test_exec_tree_kill_of_what_begins_ever_more(box: Container) -> None:
    script = "while :; do sleep 7001 & setsid sh -c 'sleep 7002 & sleep 7003 &' & sleep 0.05; done"
    done = box.exec(["sh", "-c", script], timeout=1)
    assert done.exit.reason is ExitReason.TIMEOUT
    is_untouched(box)


def test_exec_tree_kill_in_a_paused_container(box: Container) -> None:
    """The time limit holds there too, and the container stays paused."""
    box.exec(["sh", "-c", "sleep 5001 &"])
    over = threading.Event()
    paused: list[float] = []

    def pause() -> None:
        while not over.wait(0.01):
            if "7007" in sleepers(box):  # so far it has come
                box.pause()
                paused.append(time.monotonic())
                return

    late = []
    for limit in (1.2, 1.2, 2.0, 4.0, 8.0, 16.0):  # the machine may be busy
        over.clear()
        paused.clear()
        other = threading.Thread(target=pause)
        other.start()
        began = time.monotonic()
        done = box.exec(["sh", "-c", ESCAPES + "sleep 7007"], timeout=limit)
        took = time.monotonic() - began
        over.set()
        other.join()
        assert done.exit.reason is ExitReason.TIMEOUT
        if paused and paused[0] < began + limit:
            assert done.stdout == b"so far\n"
            late.append(took - limit)
            if late[-1] < GRACE + 0.5:
                break
        if paused:
            box.unpause()
    assert late and late[-1] < GRACE + 0.5
    assert box.status is Status.PAUSED
    assert sleepers(box) == ["5001"]
    box.unpause()
    is_untouched(box, "5001")


# --- owners that are gone ----------------------------------------------------------------------


def orphaned(box: Container) -> None:
    """Leave an exec whose owner was killed by SIGKILL in the middle of it."""
    reader, writer = os.pipe()

    def owner() -> None:
        process = box.popen(["sh", "-c", ESCAPES + "sleep 7007"])
        assert process.stdout is not None
        process.stdout.readline()
        eventually(lambda: len(sleepers(box)) == 7)
        os.write(writer, b"x")
        time.sleep(1000)

    with forked(owner) as pid:
        assert os.read(reader, 1) == b"x"
        os.kill(pid, signal.SIGKILL)
    os.close(reader)
    os.close(writer)
    assert len(sleepers(box)) == 7
    assert len(exec_files(box)) == 1


@pytest.mark.parametrize("operation", ["exec", "popen", "pause", "kill", "rename"])
def test_sigkill_of_the_caller_is_mended_by_the_next_operation(
    box: Container, operation: str
) -> None:
    orphaned(box)
    if operation == "exec":
        assert box.exec(["true"]).exit.ok
    elif operation == "popen":
        with box.popen(["true"]):
            pass
    elif operation == "pause":
        box.pause()
        box.unpause()
    elif operation == "kill":
        box.kill("CONT")
    else:
        # a rename looks at no facts; reading does not change anything either
        box.rename("other")
        assert len(sleepers(box)) == 7
        box.exec(["true"])
    eventually(lambda: not sleepers(box))
    is_untouched(box)


@pytest.mark.parametrize("operation", ["stop", "remove"])
def test_sigkill_of_the_caller_then_the_containers_end(
    engine: Engine, busybox_rootfs: Path, operation: str
) -> None:
    """The leak check of every test sees that nothing is left."""
    box = started(engine, busybox_rootfs, SLEEP)
    orphaned(box)
    if operation == "stop":
        box.stop(0)
        assert sleepers(box) == []
        box.start()
        assert exec_files(box) == []
    box.remove(force=True)


def test_sigkill_of_the_caller_at_any_moment(box: Container) -> None:
    for step in range(25):

        def owner() -> None:
            box.exec(["sh", "-c", "setsid sleep 7001 & sleep 7002"])

        with forked(owner) as pid:
            time.sleep(step / 1000)
            os.kill(pid, signal.SIGKILL)
        box.exec(["true"])
        # a runtime that was on its way finds its cgroup gone, or is seen by the next one
        eventually(lambda: box.exec(["true"]).exit.ok and not sleepers(box) and not exec_files(box))
    is_untouched(box)


def test_an_owner_that_lives_keeps_its_exec(box: Container) -> None:
    ready, go = os.pipe(), os.pipe()

    def owner() -> None:
        os.close(go[1])
        with box.popen(["sleep", "7001"]) as process:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            assert process.poll() is None
            process.kill()

    with forked(owner) as pid:
        assert os.read(ready[0], 1) == b"x"
        for _ in range(3):
            box.exec(["true"])
        os.close(go[1])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for fd in (*ready, go[0]):
        os.close(fd)
    is_untouched(box)


def test_a_fork_that_forgets_it_ends_nothing(box: Container) -> None:
    process = box.popen(["sleep", "7001"])

    def forget() -> None:
        nonlocal process
        del process

    eventually(lambda: sleepers(box) == ["7001"])
    assert in_fork(forget) == 0
    assert process.poll() is None
    assert sleepers(box) == ["7001"]
    with process:
        process.kill()
    is_untouched(box)


# --- runtimes that cannot confine an exec --------------------------------------------------------


@pytest.fixture
def old(engine: Engine, busybox_rootfs: Path, short_tmp: Path, runtime: str) -> Iterator[Container]:
    """A container of a runtime whose exec knows no --cgroup."""
    wrapper = short_tmp / f"old-{runtime}"
    wrapper.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'"exec --help") {which(runtime)} exec --help | grep -v cgroup; exit;;\n'
        '*exec*--cgroup=*) echo "flag provided but not defined: -cgroup" >&2; exit 1;;\n'
        "esac\n"
        f'exec {which(runtime)} "$@"\n'
    )
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    container = started(engine, busybox_rootfs, SLEEP, name="box", runtime=str(wrapper))
    yield container
    container.remove(force=True, missing_ok=True)


def kills(box: Container) -> Callable[[], object]:
    process = box.popen(["sh", "-c", ESCAPES + "exec sleep 7007"])
    assert process.stdout is not None
    assert process.stdout.readline() == b"so far\n"

    def kill() -> None:
        with process:
            process.kill()
        assert process.returncode == 137

    return kill


def test_exec_tree_kill_without_a_cgroup(old: Container) -> None:
    box = old
    assert not list(Path("/sys/fs/cgroup").glob("**/exec-*"))
    box.exec(["sh", "-c", "sleep 5001 &"])
    done = out_of_time(box, GRACE + 0.5)
    assert done.exit.usage.memory_peak is None
    kills(box)()
    is_untouched(box, "5001")


def test_exec_tree_kill_without_a_cgroup_and_environment(old: Container) -> None:
    """Who throws its environment away is found by its parent."""
    process = old.popen(["sh", "-c", "env -i setsid sleep 7001 & echo ready; sleep 7002"])
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        eventually(lambda: sleepers(old) == ["7001", "7002"])
        process.kill()
    is_untouched(old)


def test_sigkill_of_the_caller_without_a_cgroup(old: Container) -> None:
    orphaned(old)
    assert old.exec(["true"]).exit.ok
    is_untouched(old)


def test_leftovers_without_a_cgroup(old: Container) -> None:
    done = old.exec(["sh", "-c", "sleep 5001 & echo begun; exit 4"])
    assert (done.stdout, done.exit.code) == (b"begun\n", 4)
    is_untouched(old, "5001")
    with pytest.raises(LongshoreError):
        old.exec(["nope"])
    is_untouched(old, "5001")
