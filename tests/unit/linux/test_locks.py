"""linux/locks.py between threads and between processes; nothing here depends on how long it takes.

What needs fork runs in a program of its own, because this one may have threads.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from effort import effort
from longshore.linux import inotify, locks
from longshore.linux.locks import FileLock, Lease, LockBusy, is_locked

LONG = 30.0  # seconds; only a failure waits that long
PACKAGE = str(Path(locks.__file__).parents[2])
PRELUDE = f"""
import os, sys, time, signal, threading
sys.path.insert(0, {PACKAGE!r})
from longshore.linux import locks
from longshore.linux.locks import FileLock, Lease, LockBusy, is_locked
path = sys.argv[1]
def say(word):
    os.write(1, word.encode() + b"\\n")
"""
Program = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "lock"
    file.touch()
    return str(file)


@pytest.fixture
def program(path: str) -> Iterator[Program]:
    """Start a program that has the lock's path, and says `ready` when it is."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PRELUDE + code, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


HOLD = "with FileLock(path, purpose='hold'): say('ready'); sys.stdin.read(1)"


def _soon() -> float:
    return time.monotonic() + LONG


def test_exclusion_of_threads(path: str) -> None:
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(25):
            with FileLock(path, purpose="work", deadline=_soon()):
                inside += 1
                most = max(most, inside)
                entered += 1
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, entered) == (1, 200)


def test_exclusion_of_processes(path: str, tmp_path: Path) -> None:
    """Each adds one to a number in a file, reading and writing it in two steps."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = f"""
for _ in range(100):
    with FileLock(path, purpose="count", deadline=time.monotonic() + {LONG}):
        value = int(open({str(counter)!r}).read())
        open({str(counter)!r}, "w").write(str(value + 1))
"""
    processes = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", PRELUDE + code, path]) for _ in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    assert counter.read_text() == "400"


def test_a_refusal_says_who_holds_it(path: str) -> None:
    before = time.time()
    with FileLock(path, purpose="remove it all"):
        with pytest.raises(LockBusy) as caught, FileLock(path, purpose="x", deadline=0.0):
            pass
        assert is_locked(path)
    pid, since, purpose = str(caught.value).split(" ", 2)
    assert (int(pid), purpose) == (os.getpid(), "remove it all")
    assert before - 0.001 <= float(since) <= time.time() + 0.001  # it is rounded
    assert not is_locked(path)


def test_the_deadline_is_kept(path: str) -> None:
    with FileLock(path, purpose="hold"):
        deadline = time.monotonic() + 0.05
        with pytest.raises(LockBusy), FileLock(path, purpose="x", deadline=deadline):
            pass
        assert time.monotonic() >= deadline


def test_the_note_of_a_longer_purpose_leaves_nothing(path: str) -> None:
    with FileLock(path, purpose="long " * 20):
        pass
    with FileLock(path, purpose="short"):
        assert Path(path).read_text().endswith(" short")


def test_a_waiter_wakes_when_the_holder_unlocks(path: str, program: Program) -> None:
    for _ in range(5):
        holder = program(HOLD)
        release = threading.Timer(0.01, lambda p=holder: p.stdin.write(b"x"))
        release.start()
        with FileLock(path, purpose="wait", deadline=_soon()):
            pass
        release.join()
        assert holder.wait() == 0


def test_a_waiter_wakes_when_a_holder_only_closes(path: str) -> None:
    """As a program does that knows flock(2) and not our manners, or that ends."""
    for _ in range(20):
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Unlocked as our own do: a bare close in this process has nobody who could be watched
        # for its end.
        release = threading.Timer(0.001, locks._unlock, [fd])
        release.start()
        with FileLock(path, purpose="wait", deadline=_soon()):
            pass
        release.join()


_KILLED = f"""
say("ready")
for round in range({effort(150, 30)}):
    told, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        lock = FileLock(path, purpose="die with it")
        lock.__enter__()
        os.write(tell, b"x")
        while True:
            signal.pause()
    os.read(told, 1)
    waiter = os.fork()
    if waiter == 0:
        try:
            with FileLock(path, purpose="wait", deadline=time.monotonic() + {LONG}):
                os._exit(0)
        except LockBusy:
            os._exit(7)
    # Now and then before it waits, mostly while it does, at every step of it.
    time.sleep(round % 30 * 0.0001)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    code = os.waitstatus_to_exitcode(os.waitpid(waiter, 0)[1])
    os.close(told); os.close(tell)
    if code:
        say(f"round {{round}}: {{code}}")
        break
else:
    say("all woke")
"""


def test_a_waiter_always_wakes_when_the_holder_is_killed(program: Program) -> None:
    """The kernel reports the close before it drops the lock: see locks.py."""
    process = program(_KILLED)
    assert process.stdout is not None
    assert process.stdout.readline() == b"all woke\n"


_CHAIN = f"""
say("ready")
def work(n):
    for _ in range(30):
        with FileLock(path, purpose=str(n), deadline=time.monotonic() + {LONG}):
            if n % 2:
                os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)
pids = []
for n in range(12):
    pid = os.fork()
    if pid == 0:
        work(n)
    pids.append(pid)
codes = sorted(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids)
say(repr(codes))
"""


def test_a_waiter_wakes_where_selinux_refuses_to_watch_readers(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = inotify.Watch.add

    def refusing(self: inotify.Watch, what: int, mask: int) -> int:
        if mask & inotify.IN_CLOSE_NOWRITE:
            raise PermissionError(13, "Permission denied")
        return add(self, what, mask)

    monkeypatch.setattr(inotify.Watch, "add", refusing)
    first = FileLock(path, purpose="hold")
    first.__enter__()
    timer = threading.Timer(0.1, first.__exit__)
    timer.start()
    with FileLock(path, purpose="wait", deadline=time.monotonic() + LONG):
        pass
    timer.join()


def test_many_waiters_of_which_half_are_killed_while_they_hold_it(program: Program) -> None:
    process = program(_CHAIN)
    assert process.stdout is not None
    assert process.stdout.readline().decode().strip() == repr([-9] * 6 + [0] * 6)


def test_the_lock_of_a_file_that_is_gone(path: str) -> None:
    os.unlink(path)
    with pytest.raises(FileNotFoundError), FileLock(path, purpose="x"):
        pass
    assert not is_locked(path)


def test_a_file_that_is_removed_while_it_is_waited_for(path: str) -> None:
    """The container was removed; another of the same path is not what was meant."""
    caught: list[BaseException] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        try:
            with FileLock(path, purpose="wait", deadline=_soon()):
                pass
        except OSError as err:
            caught.append(err)

    waiter = threading.Thread(target=wait)
    with FileLock(path, purpose="remove"):
        waiter.start()
        waiting.wait()
        time.sleep(0.02)
        os.unlink(path)
        Path(path).touch()
    waiter.join()
    assert [type(error) for error in caught] == [FileNotFoundError]
    assert not is_locked(path)


def test_an_error_inside_lets_go(path: str) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(path, purpose="x"):
        _ = 1 / 0
    assert not is_locked(path)


def test_no_descriptor_is_left(path: str) -> None:
    inotify.descriptor()  # one a process, kept for good
    before = set(os.listdir("/proc/self/fd"))
    for deadline in (0.0, time.monotonic() + 0.02):
        with FileLock(path, purpose="x"), pytest.raises(LockBusy):
            FileLock(path, purpose="y", deadline=deadline).__enter__()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not locks._held


def test_a_wait_in_steps_that_is_given_up(path: str) -> None:
    """As an event loop waits: the steps say on what, and leave nothing when they are closed."""
    inotify.descriptor()
    before = set(os.listdir("/proc/self/fd"))
    with FileLock(path, purpose="hold"):
        steps = FileLock(path, purpose="give up").take_steps()
        sleep = next(steps)
        assert sleep.deadline is None
        assert inotify.poll(sleep.fds, 0.0) == []
        next(steps)  # too early does no harm
        steps.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not locks._held


def test_a_wait_in_steps_that_comes_to_its_end(path: str) -> None:
    second = FileLock(path, purpose="second")
    steps = second.take_steps()
    with FileLock(path, purpose="first"):
        sleep = next(steps)
    assert inotify.poll(sleep.fds, None)
    assert list(steps) == []
    with second:
        assert is_locked(path)
    assert not is_locked(path)


_FORK = """
lock = FileLock(path, purpose="mine").__enter__()
lease = Lease(os.path.dirname(path))
directory = os.path.dirname(path)
told, tell = os.pipe()
def other_thread():
    pid = os.fork()
    if pid == 0:
        # let go, and the parent's are not touched by any of this
        lock.__exit__()
        lease.release()
        os.write(tell, repr(sorted(locks._held)).encode())
        signal.pause()
    pids.append(pid)
pids = []
thread = threading.Thread(target=other_thread); thread.start(); thread.join()
assert os.read(told, 100) == b"[]"
assert is_locked(path)
import fcntl
def exclusive():
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
assert not exclusive()
lock.__exit__()
lease.release()
assert not is_locked(path), "the child has carried the lock on"
assert exclusive(), "the child has carried the lease on"
say("ready")
os.kill(pids[0], signal.SIGKILL)
os.waitpid(pids[0], 0)
"""


_FORK_WHILE_WAITING = """
holder = FileLock(path, purpose="hold").__enter__()
def wait():
    with FileLock(path, purpose="wait"):
        pass
thread = threading.Thread(target=wait, daemon=True); thread.start()
while len(locks._held) < 2:
    time.sleep(0.001)
pid = os.fork()
if pid == 0:
    for fd in range(1000):
        try:
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                os._exit(3)
        except OSError:
            continue
    # The parent's lock, closed here, may have given its number to one of our own.
    other = path + ".other"
    os.close(os.open(other, os.O_CREAT))
    with FileLock(other, purpose="own") as own:
        if own._fd != holder._fd:
            os._exit(4)
        holder.__exit__()
        os._exit(0 if is_locked(other) else 5)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert code == 0, code
holder.__exit__()
thread.join()
say("ready")
"""


def test_a_fork_while_a_thread_waits(program: Program) -> None:
    assert program(_FORK_WHILE_WAITING).wait() == 0


def test_a_fork_in_another_thread_does_not_carry_the_lock_on(program: Program) -> None:
    assert program(_FORK).wait() == 0


def test_a_program_does_not_inherit_the_lock(path: str) -> None:
    lock = FileLock(path, purpose="x").__enter__()
    lease = Lease(os.path.dirname(path))
    process = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        lock.__exit__()
        lease.release()
        assert not is_locked(path)
        assert _flock(os.path.dirname(path), "-x")
    finally:
        process.kill()
        process.wait()


# --- leases, against flock(1) ------------------------------------------------------------------


def _flock(directory: str, kind: str) -> bool:
    """Whether flock(1), as the exit command uses it, gets the lock at once."""
    script = 'exec 9<"$1" && flock -n "$2" 9'
    return subprocess.run(["sh", "-c", script, "sh", directory, kind], check=False).returncode == 0


def test_a_lease_is_shared(tmp_path: Path) -> None:
    top = str(tmp_path)
    first, second = Lease(top), Lease(top)
    assert (_flock(top, "-s"), _flock(top, "-x")) == (True, False)
    first.release()
    assert not _flock(top, "-x")
    second.release()
    second.release()
    assert _flock(top, "-x")


def test_a_lease_of_a_directory_that_is_not_there(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Lease(str(tmp_path / "no"))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Lease(str(tmp_path / "file"))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_lease_goes_with_its_holder(tmp_path: Path, program: Program) -> None:
    holder = program("lease = Lease(os.path.dirname(path)); say('ready'); sys.stdin.read(1)")
    assert not _flock(str(tmp_path), "-x")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert _flock(str(tmp_path), "-x")


def test_a_lease_survives_the_removal_of_its_directory(tmp_path: Path) -> None:
    """A clean-up removes the run directory under its own lease; a new run makes another."""
    (tmp_path / "run").mkdir()
    lease = Lease(str(tmp_path / "run"))
    (tmp_path / "run").rmdir()
    (tmp_path / "run").mkdir()
    assert _flock(str(tmp_path / "run"), "-x")
    lease.release()


def test_who_holds_a_lock() -> None:
    busy = LockBusy("4711 1700000000.250 remove it all")
    assert busy.holder == "process 4711 (remove it all)"
    assert busy.since.startswith("2023-11-1")
    for note in ("", "x", "1 y z", "\0\0"):
        assert (LockBusy(note).holder, LockBusy(note).since) == ("another process", "a moment ago")


def test_a_full_disk_keeps_nobody_from_locking(tmp_path: Path) -> None:
    """/dev/full stands for it: what is written there is refused with ENOSPC by the kernel."""
    with (
        FileLock("/dev/full", purpose="x", deadline=0.0),
        pytest.raises(LockBusy),
        FileLock("/dev/full", purpose="y", deadline=0.0),
    ):
        pass
    with FileLock("/dev/full", purpose="z", deadline=0.0):
        pass
