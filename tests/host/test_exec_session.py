"""Exec sessions: under a monitor of their own, found again by any process (exec_reattach)."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostlife import (
    SLEEP,
    await_end,
    count_calls,
    eventually,
    fatal_call,
    in_fork,
    kill_init,
    started,
)
from longshore import Container, Engine, Event
from longshore.engine import sessionexit, sessions, sessionstart
from longshore.engine.process import Process
from longshore.errors import (
    InvalidArgument,
    LongshoreError,
    NoSuchContainer,
    NoSuchExec,
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    WrongState,
)
from longshore.linux.cgroups import Cgroup
from longshore.models import ExitReason
from longshore.store.sessions import KEPT_SESSIONS

# Its program waits for none of the others: on cgroup v1, they are killed one after the other, and
# who had seen its children go might end by itself just before its turn.
TREE = "sleep 1001 & setsid sleep 1002 & (sleep 1003 & exec sleep 1004) & echo ready; "
TREE += "exec sleep 1005"


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    made = started(engine, busybox_rootfs, SLEEP, name="box", init=False)
    yield made
    made.remove(force=True, missing_ok=True)


def run(box: Container, script: str, **options: Any) -> Process[bytes]:
    return box.popen(["sh", "-c", script], detach=True, **options)


def until(process: Process[bytes], word: bytes) -> None:
    """Read output up to a word."""
    assert process.stdout is not None
    found = b""
    while word not in found:
        data = process.stdout.read1()  # type: ignore[attr-defined]
        assert data, f"it ended after {found!r}"
        found += data


def live_directories(box: Container) -> list[str]:
    path = box._machinery.paths(box.id).live_execs
    return os.listdir(path) if os.path.isdir(path) else []


def cgroup(process: Process[bytes], box: Container) -> Path:
    assert process.id
    record = sessions.store_of(box._machinery, box.id).peek(process.id)
    layout = box._machinery.cgroup_layout
    return Path(layout.hierarchies[0].mount + record.cgroup)


def pids_in(directory: Path) -> set[int]:
    return {int(pid) for pid in (directory / "cgroup.procs").read_text().split()}


def others(box: Container, code: str) -> Any:
    """Run code in another process, with ``box`` and ``sys.argv``; return what it prints as JSON."""
    engine = box._machinery
    head = (
        "import sys, json, os\nfrom longshore import Engine\n"
        f"engine = Engine(root={engine.settings.root!r}, run_root={engine.settings.run_root!r})\n"
        f"box = engine.get({box.id!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + code],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    return json.loads(done.stdout)


# --- its life --------------------------------------------------------------------------------


def test_a_session_from_beginning_to_end(box: Container) -> None:
    process = run(box, "echo out; echo err >&2; exit 3")
    info = process.wait(30)
    assert (info.code, info.reason) == (3, ExitReason.EXITED)
    assert process.communicate() == (b"out\n", b"err\n")
    assert info.started_ns and info.finished_ns and info.usage.cpu_system is not None
    assert process.poll() == process.exit == info
    assert process.pid is None
    assert live_directories(box) == []
    assert not cgroup(process, box).exists()
    process.kill()  # what has ended is fine
    process.send_signal("TERM")
    assert [one.id for one in box.execs()] == [process.id]


def test_an_end_is_told_though_nobody_looks(engine: Engine, box: Container) -> None:
    """A follower of events sees it, and no more is left to do."""
    process = box.popen(["sh", "-c", "read go; exit 6"], stdin=True, detach=True)
    assert process.stdin is not None
    with engine.events(actions=["exec_died"]) as events:
        process.stdin.write(b"go\n")
        died = next(events)
    assert isinstance(died, Event)
    assert (died.attributes["execID"], died.exit_code) == (process.id, 6)
    assert process.id is not None
    session = box._machinery.paths(box.id).session(process.id)
    eventually(lambda: not os.path.exists(session.run))
    info = process.wait(60)
    assert (info.code, info.reason) == (6, ExitReason.EXITED)
    assert info.usage.cpu_user is not None


def test_what_cannot_be_run_is_raised_and_leaves_nothing(box: Container) -> None:
    for tty in (False, True):
        options: dict[str, Any] = {"detach": True, "tty": tty}
        with pytest.raises(ProgramNotFound, match=r"cannot run a process in container box: .*nope"):
            box.popen(["/nope"], **options)
        with pytest.raises(ProgramNotExecutable, match="passwd"):
            box.popen(["/etc/passwd"], **options)
        with pytest.raises(LongshoreError, match="/nodir"):
            box.popen(["true"], workdir="/nodir", **options)
    assert box.execs() == []
    assert live_directories(box) == []


def test_what_the_kernel_does_not_execute_shows_at_the_end(
    box: Container, busybox_rootfs: Path
) -> None:
    """The runtime has said that all is well by then; its words come in the program's place."""
    for name, text in (("nothing", ""), ("script", "#!/nope\n"), ("junk", "\x7fELF junk")):
        path = busybox_rootfs / name
        path.write_text(text)
        path.chmod(0o755)
        for tty in (False, True):
            with contextlib.ExitStack() as stack:
                stack.enter_context(pytest.raises((ProgramNotFound, ProgramNotExecutable)))
                box.popen([f"/{name}"], detach=True, tty=tty).wait(10)
    for one in box.execs():
        info = one.poll()
        assert info is not None and info.reason is ExitReason.START_FAILED
        assert info.code in (126, 127)
        assert "cannot run a process in container box" in info.message
    honest = run(box, "echo 'exec /bin/true: permission denied' >&2; exit 1")
    assert honest.wait(10).code == 1


def test_a_container_that_does_not_run(box: Container) -> None:
    box.pause()
    with pytest.raises(WrongState, match="paused") as caught:
        run(box, "true")
    assert "unpause" in (caught.value.hint or "")
    box.stop(0)
    with pytest.raises(WrongState):
        run(box, "true")
    box.remove()
    for ask in (lambda: run(box, "true"), box.execs, lambda: box.get_exec("a")):
        with pytest.raises(NoSuchContainer):
            ask()


def test_options_reach_the_process(box: Container, busybox_rootfs: Path) -> None:
    busybox_rootfs.chmod(0o755)
    process = box.popen(
        ["sh", "-c", "echo $A; pwd; id -u; id -g"],
        detach=True,
        env={"A": "x y"},
        workdir="/tmp",
        user="user",
        text=True,
    )
    assert process.communicate()[0] == "x y\n/tmp\n1000\n1000\n"


def test_descriptors_are_not_for_sessions(box: Container) -> None:
    for name in ("stdin", "stdout", "stderr"):
        with pytest.raises(InvalidArgument, match=name):
            run(box, "true", **{name: 1})
    with pytest.raises(InvalidArgument, match="preserve_fds"):
        run(box, "true", preserve_fds=[1])


def test_output_is_there_for_every_reader(box: Container) -> None:
    process = run(box, "seq 1 20000; echo end >&2")
    expected = b"".join(b"%d\n" % n for n in range(1, 20001))
    assert process.stdout is not None and process.stderr is not None
    assert process.stderr.read() == b"end\n"  # nobody has read stdout yet
    assert process.stdout.read() == expected
    assert process.id
    again = box.get_exec(process.id)
    assert again.stdout is not None
    assert again.stdout.read() == expected
    assert box.get_exec(process.id[:8], text=True).communicate()[1] == "end\n"
    merged = run(box, "echo a; echo b >&2; echo c", stderr="stdout")
    out, err = merged.communicate()
    assert out is not None and sorted(out.split()) == [b"a", b"b", b"c"]
    assert err is None


def test_input_of_any_size_and_its_end(box: Container) -> None:
    data = os.urandom(1 << 20) * 3
    process = run(box, "sha256sum; echo rest; cat", stdin=True)
    out, _ = process.communicate(data, timeout=60)
    import hashlib

    assert out == hashlib.sha256(data).hexdigest().encode() + b"  -\nrest\n"
    closed = run(box, "cat; echo over", stdin=True)
    assert closed.stdin is not None
    closed.stdin.write(b"")  # is nothing
    closed.stdin.write(b"one ")
    closed.stdin.write(b"two ")
    closed.stdin.close()
    assert closed.communicate() == (b"one two over\n", b"")
    ended = run(box, "true", stdin=True)
    ended.wait(30)
    assert ended.stdin is not None
    with pytest.raises(BrokenPipeError):
        ended.stdin.write(b"x")


def test_a_context_waits_or_kills(box: Container) -> None:
    with run(box, "cat; exit 4", stdin=True) as process:
        assert process.stdin is not None
        process.stdin.write(b"x")
    assert process.returncode == 4
    with contextlib.suppress(ZeroDivisionError), run(box, SLEEP) as process:
        raise ZeroDivisionError
    assert process.exit is not None and process.exit.reason is ExitReason.KILLED


# --- signals, trees, terminals ---------------------------------------------------------------


def test_kill_ends_the_whole_tree_and_nothing_else(box: Container) -> None:
    other = run(box, TREE)
    until(other, b"ready")
    took: list[float] = []
    while not took or (min(took) >= 1 and len(took) < 5):  # times; the machine may be busy
        process = run(box, TREE)
        until(process, b"ready")
        before = cgroup(process, box)
        eventually(lambda before=before: len(pids_in(before)) == 5)  # type: ignore[misc]
        pids = pids_in(before)
        begun = time.monotonic()
        process.kill()
        info = process.wait(30)
        took.append(time.monotonic() - begun)
        assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.KILLED)
        for pid in pids:
            await_end(pid)
        assert not before.exists()
        assert other.poll() is None
    assert min(took) < 1
    eventually(lambda: len(pids_in(cgroup(other, box))) == 5)
    other.kill()


def test_kill_in_a_paused_container(box: Container) -> None:
    process = run(box, TREE)
    until(process, b"ready")
    box.pause()
    process.kill()
    assert process.wait(10).reason is ExitReason.KILLED
    assert box.status.value == "paused"
    box.unpause()


def test_a_signal_goes_to_the_program(box: Container) -> None:
    process = run(box, "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.01; done")
    until(process, b"ready")
    process.terminate()
    info = process.wait(10)
    assert (info.code, info.reason) == (9, ExitReason.EXITED)
    process = run(box, "echo ready; " + SLEEP)
    until(process, b"ready")
    process.send_signal("HUP")
    info = process.wait(10)
    assert (info.code, info.signal, info.reason) == (129, 1, ExitReason.KILLED)
    process = run(box, "kill -9 $$")
    assert process.wait(10).reason is ExitReason.SIGNALED


def test_what_it_leaves_running_is_the_containers(box: Container) -> None:
    process = run(box, "sleep 1001 & setsid sleep 1002 & echo $! ; exit 0")
    assert process.wait(10).code == 0
    eventually(lambda: not cgroup(process, box).exists())
    names = box.popen(["ps", "-o", "args"]).communicate()[0]
    assert names is not None
    assert b"sleep 1001" in names and b"sleep 1002" in names


def test_a_terminal_has_its_size_at_once_and_can_be_resized(box: Container) -> None:
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    process = run(box, script, tty=True, console_size=(31, 71))
    until(process, b"ready")
    process.resize(32, 72)
    until(process, b"32 72")
    assert process.id
    box.get_exec(process.id).resize(33, 73)
    until(process, b"33 73")
    process.kill()
    out, err = process.communicate()
    assert out is not None and out.startswith(b"31 71\r\n")
    assert err is None
    process.resize(1, 1)  # has ended
    with run(box, "sleep 1") as plain, pytest.raises(InvalidArgument, match="no terminal"):
        plain.resize(1, 1)


def test_a_terminal_takes_many_writers(box: Container) -> None:
    process = box.popen(["cat"], tty=True)
    assert process.id and process.stdin is not None
    for number in (1, 2):
        other = box.get_exec(process.id)
        assert other.stdin is not None
        other.stdin.write(b"line %d\n" % number)
        del other
        until(process, b"line %d" % number)
    process.stdin.close()  # the key for it
    assert process.wait(10).code == 0


# --- another process (exec_reattach) ---------------------------------------------------------


def test_exec_reattach(box: Container) -> None:
    process = run(box, "echo first; while read x; do echo got $x; done; echo over", stdin=True)
    until(process, b"first")
    code = f"""
p = box.get_exec({process.id!r}, text=True)
alive = p.poll() is None and p.pid
lines = [p.stdout.readline()]
p.stdin.write("one\\n")
lines.append(p.stdout.readline())
p.stdin.close()
info = p.wait(30)
lines += p.stdout.readlines()
print(json.dumps([alive, lines, info.code, [e.id for e in box.execs()]]))
"""
    pid = process.pid
    alive, lines, exit_code, ids = others(box, code)
    assert alive == pid
    assert lines == ["first\n", "got one\n", "over\n"]
    assert exit_code == 0
    assert ids == [process.id]
    assert process.wait(10).code == 0


def test_another_process_kills_and_resizes(box: Container) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    process = run(box, script, tty=True)
    until(process, b"ready")
    find = f"p = box.get_exec({process.id!r})\n"
    others(box, find + "p.resize(40, 90); print(1)")
    until(process, b"40 90")
    reason = others(box, find + "p.kill(); print(json.dumps(p.wait(9).reason.value))")
    assert reason == "killed"
    assert process.wait(9).reason is ExitReason.KILLED


def test_looking_at_a_session_does_not_end_its_input(box: Container) -> None:
    process = run(box, "cat; echo over", stdin=True)
    find = f"p = box.get_exec({process.id!r})\n"
    assert others(box, find + "print(json.dumps(p.poll()))") is None
    with pytest.raises(OperationTimeout):
        box.get_exec(process.id or "").communicate(timeout=0.2)
    assert process.communicate(b"still there ") == (b"still there over\n", b"")


def test_a_killed_starter_is_no_loss(box: Container) -> None:
    def start() -> None:
        run(box, "echo ready; read x; echo $x; exit 6", stdin=True)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_fork(start) == -signal.SIGKILL
    (process,) = box.execs()
    until(process, b"ready")
    assert process.stdin is not None
    process.stdin.write(b"hello\n")
    assert process.wait(10).code == 6
    assert process.id and box.inspect().exec_ids == ()
    assert box.get_exec(process.id).communicate()[0] == b"ready\nhello\n"


def test_waiters_in_many_threads_and_processes_agree(box: Container) -> None:
    process = run(box, "sleep 0.3; exit 5")
    code = f"print(json.dumps(box.get_exec({process.id!r}).wait(30).to_json()))"
    found: list[object] = []

    def wait() -> None:
        found.append(box.get_exec(process.id or "").wait(30).to_json())

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    found.append(others(box, code))
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(one == process.wait(1).to_json() for one in found)


# --- crashes ---------------------------------------------------------------------------------


def test_sigkill_of_the_starter_at_every_step(box: Container) -> None:
    """What a start that was cut short leaves is gone after the next one; it never was a session."""

    def start() -> None:
        run(box, SLEEP)

    total = count_calls(start)
    box.stop(0)
    box.start()
    killed = 0
    for number in range(1, total, max(1, total // 40)):

        def body(number: int = number) -> None:
            fatal_call(number)
            start()

        killed += in_fork(body) == -signal.SIGKILL
        alive = box.inspect().exec_ids
        assert run(box, "true").wait(20).code == 0
        assert sorted(live_directories(box)) == sorted(alive), number
        for session_id in alive:  # it was whole, and nobody had been told yet
            process = box.get_exec(session_id)
            process.kill()
            assert process.wait(10).reason is ExitReason.KILLED
    assert killed > 30
    box.stop(0)
    eventually(lambda: not live_directories(box))


@pytest.mark.parametrize("paused", [False, True])
def test_sigkill_of_a_killer_that_has_frozen_it(box: Container, paused: bool) -> None:
    """Whoever looks next ends what is frozen: nobody else would, and it would not end by itself."""
    process = run(box, TREE)
    until(process, b"ready")
    if paused:
        box.pause()

    def kill() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Cgroup, "kill", lambda _: os.kill(os.getpid(), signal.SIGKILL))
            box.get_exec(process.id or "").kill()

    assert in_fork(kill) == -signal.SIGKILL
    assert process.wait(10).reason is ExitReason.KILLED
    assert not cgroup(process, box).exists()
    assert box.status.value == ("paused" if paused else "running")


def test_a_lost_monitor(box: Container) -> None:
    process = run(box, TREE)
    until(process, b"ready")
    assert process.id
    store = sessions.store_of(box._machinery, box.id)
    monitor = store.peek(process.id).monitor
    assert monitor is not None
    os.kill(monitor.pid, signal.SIGKILL)
    await_end(monitor.pid)
    assert process.poll() is None  # its program goes on
    assert box.inspect().exec_ids == (process.id,)
    with pytest.raises(OperationTimeout, match="not ended within"):
        process.wait(0.1)
    process.kill()
    info = process.wait(10)
    assert (info.code, info.reason) == (-1, ExitReason.MONITOR_LOST)
    assert "conmon" in info.message
    assert not cgroup(process, box).exists()


@pytest.fixture
def held_back(box: Container, short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exit commands of conmon's make DIR/begun first, and go on when DIR/go is there."""
    directory = short_tmp / "held"
    directory.mkdir()
    script = directory / "python"
    script.write_text(
        f"#!/bin/sh\n: >{directory}/begun\n"
        f"while ! test -e {directory}/go; do sleep 0.02; done\n"
        f'exec {box._machinery.python} "$@"\n'
    )
    script.chmod(0o755)
    command = sessionexit.command
    monkeypatch.setattr(sessionexit, "command", lambda *a: (str(script), *command(*a)[1:]))
    return directory


def test_a_conmon_that_cannot_write_its_exit_file(box: Container, held_back: Path) -> None:
    """It runs its exit command all the same, and waits for that: neither waits for the other."""
    process = run(box, SLEEP)
    pid = process.pid
    assert process.id and pid
    store = sessions.store_of(box._machinery, box.id)
    home, monitor = Path(store.paths(process.id).home), store.peek(process.id).monitor
    assert monitor is not None
    elsewhere = home.with_name(f".{home.name}")
    home.rename(elsewhere)
    os.kill(pid, signal.SIGKILL)
    eventually((held_back / "begun").exists)
    elsewhere.rename(home)
    (held_back / "go").touch()
    await_end(monitor.pid)
    written = store.peek(process.id).exit
    assert written is not None and written.reason is ExitReason.MONITOR_LOST
    assert process.wait(10) == written
    assert live_directories(box) == []


@contextlib.contextmanager
def before_it_is_saved(body: Callable[[Path], None]) -> Iterator[None]:
    """Call something with the path of conmon's pidfile when a start is all but written down."""
    real = sessionstart.read_file

    def read(path: str) -> bytes | None:
        if path.endswith("/conmon.pid"):
            body(Path(path))
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessionstart, "read_file", read)
        yield


def test_what_is_readable_at_the_end_waits_for_no_exit_command(
    box: Container, held_back: Path
) -> None:
    process = run(box, "read x; exit 3", stdin=True)
    assert process.id
    monitor = sessions.store_of(box._machinery, box.id).peek(process.id).monitor
    assert monitor is not None
    with process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        poller = select.poll()
        poller.register(process.fileno(), select.POLLIN)
        assert poller.poll(10_000)
        info = process.poll()  # in the same moment
        assert info is not None and info.code == 3
    assert live_directories(box) == []
    (held_back / "go").touch()
    await_end(monitor.pid)


def test_an_exit_command_before_its_start_is_written_down(box: Container, held_back: Path) -> None:
    """It waits for the starter: else nobody would tell of the end before somebody looks."""

    def meanwhile(pidfile: Path) -> None:
        eventually((held_back / "begun").exists)
        (held_back / "go").touch()
        with contextlib.suppress(AssertionError):  # one that does not wait ends, conmon with it
            await_end(int(pidfile.read_bytes()), 1.0)

    with before_it_is_saved(meanwhile):
        process = run(box, "exit 7")
    assert process.id
    store = sessions.store_of(box._machinery, box.id)
    eventually(lambda: store.peek(process.id or "").exit is not None)
    assert process.wait(1).code == 7
    eventually(lambda: not live_directories(box))


def test_an_exit_command_takes_back_what_its_starter_left(box: Container, held_back: Path) -> None:
    """It ends conmon, in whose process group it was, and goes on to the end."""

    def meanwhile(pidfile: Path) -> None:
        del pidfile
        eventually((held_back / "begun").exists)
        os.kill(os.getpid(), signal.SIGKILL)

    def start() -> None:
        with before_it_is_saved(meanwhile):
            run(box, "true")

    assert in_fork(start) == -signal.SIGKILL
    store = sessions.store_of(box._machinery, box.id)
    (session_id,) = store.ids()
    directory = Path(store.paths(session_id).home)
    (held_back / "go").touch()
    eventually(lambda: not directory.exists())
    assert live_directories(box) == []


def test_the_containers_end_is_that_of_its_sessions(box: Container) -> None:
    handles = [run(box, TREE) for _ in range(4)]
    for process in handles:
        until(process, b"ready")
    handles[0].kill()
    box.stop(0)
    eventually(lambda: not live_directories(box))
    reasons = [(p.wait(5).reason, p.wait(5).message) for p in handles]
    assert reasons[0] == (ExitReason.KILLED, "")
    assert reasons[1:] == [(ExitReason.KILLED, "its container ended")] * 3
    box.start()
    assert len(box.execs()) == 4  # they are kept until the container is removed
    assert handles[0].communicate()[0] == b"ready\n"
    run(box, SLEEP)
    kill_init(box)
    last = box.execs()[-1]
    assert last.wait(10).message == "its container ended"
    box.wait(10)
    box.remove(force=True)
    for process in handles:  # beyond the container
        assert process.wait(1).reason is ExitReason.KILLED
    assert last.wait(1).code == 137


def test_a_wait_outlives_the_containers_removal(box: Container) -> None:
    process = run(box, SLEEP)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(process.wait(30)))
    thread.start()
    time.sleep(0.1)
    box.remove(force=True)
    thread.join()
    assert found and found[0] == process.exit
    with pytest.raises(NoSuchContainer):
        box.get_exec(process.id or "")


def test_a_start_while_the_container_ends(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    """Either there is a session, with an end, or an error; never anything left."""
    host = hostkit.Host()
    for attempt in range(6):
        box = started(engine, busybox_rootfs, SLEEP)
        outcomes: list[object] = []

        def begin(box: Container = box, outcomes: list[object] = outcomes) -> None:
            try:
                outcomes.append(run(box, SLEEP).wait(20).reason)
            except Exception as error:
                outcomes.append(error)

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.01 * attempt)
        if attempt % 2:
            box.remove(force=True)
        else:
            box.stop(0)
            box.remove()
        for thread in threads:
            thread.join()
        for outcome in outcomes:
            expected = isinstance(outcome, (WrongState, NoSuchContainer, NoSuchExec))
            assert expected or outcome is ExitReason.KILLED, outcomes
        assert len(outcomes) == 4
    left = host.left_after(hostkit.PATIENCE)
    assert not left
    assert not hostkit._files(*dirs)


def test_a_reboot(box: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    process = run(box, SLEEP)
    ended = run(box, "exit 3")
    store = sessions.store_of(box._machinery, box.id)
    assert ended.id and process.id
    path = store.paths(ended.id).exit_file
    eventually(lambda: os.path.exists(path))
    monkeypatch.setattr(sessions, "boot_id", lambda: "another")
    assert box.get_exec(ended.id).wait(1).code == 3  # conmon's word lies beside the record
    info = box.get_exec(process.id).wait(1)
    assert (info.reason, info.message) == (ExitReason.MONITOR_LOST, "the host was rebooted")
    monkeypatch.undo()


def test_a_damaged_record_disables_one_session(box: Container) -> None:
    good, bad = run(box, SLEEP), run(box, SLEEP)
    assert good.id and bad.id
    store = sessions.store_of(box._machinery, box.id)
    Path(store.paths(bad.id).record).write_bytes(b"{")
    assert [one.id for one in box.execs()] == [good.id]
    assert box.inspect().exec_ids == (good.id,)
    assert run(box, "exit 2").wait(10).code == 2
    good.kill()
    box.stop(0)
    eventually(lambda: not live_directories(box))


def test_the_last_ended_ones_are_kept(box: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_SESSIONS == 100
    monkeypatch.setattr("longshore.store.sessions.KEPT_SESSIONS", 3)
    handles = []
    for number in range(6):  # one after the other: what ends last is what began last
        handles.append(run(box, f"exit {number}"))
        handles[-1].wait(60)
        time.sleep(0.02)  # the time of a file has the kernel's tick
    run(box, "true").wait(10)
    ids = [one.id for one in box.execs()]
    assert [handle.id for handle in handles][-3:] == ids[:3]
    for number, process in enumerate(handles):  # their exits are known all the same
        assert box._machinery.store.exit_record(process.id or "") is not None or number > 2
    with pytest.raises(NoSuchExec):
        box.get_exec(handles[0].id or "")


# --- what is shown ---------------------------------------------------------------------------


def test_inspect_has_the_ids_of_those_that_run(box: Container, cli: hostkit.Cli) -> None:
    process = run(box, SLEEP)
    ended = run(box, "true")
    ended.wait(10)
    assert box.inspect().exec_ids == (process.id,)
    shown = json.loads(cli("inspect", box.id).stdout)
    assert shown[0]["ExecIDs"] == [process.id]
    process.kill()
    assert box.inspect().exec_ids == ()


def test_side_by_side(box: Container) -> None:
    starts = [functools.partial(run, box, f"echo {n}; exit {n}") for n in range(24)]
    found: list[Process[bytes]] = []
    threads = [threading.Thread(target=lambda s=s: found.append(s())) for s in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(process.wait(30).code for process in found) == [*range(24)]
    for process in found:
        assert process.communicate()[0] == b"%d\n" % process.wait(1).code
