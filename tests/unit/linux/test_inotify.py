"""linux/inotify.py against the kernel; no test here depends on how long something takes."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from effort import effort
from hostlife import asleep, eventually
from longshore.errors import HostUnsupported
from longshore.linux import inotify as inotify_module
from longshore.linux import libc
from longshore.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Watch,
    descriptor,
    dispatch,
    poll,
)

LONG = 30.0  # seconds; only a failure waits that long
PACKAGE = str(Path(inotify_module.__file__).parents[2])


def soon() -> float:
    return time.monotonic() + LONG


def kernel_watches() -> int:
    """Return how many files the kernel watches for this process."""
    return Path(f"/proc/self/fdinfo/{descriptor()}").read_text().count("inotify wd")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does with its watches, all of them and their descriptors are gone then."""
    descriptor()
    dispatch()  # what tests elsewhere have left unread
    fds = set(os.listdir("/proc/self/fd"))
    yield
    dispatch()
    assert inotify_module._instance.told == {}
    assert inotify_module._instance.watchers == {}
    assert kernel_watches() == 0
    assert set(os.listdir("/proc/self/fd")) == fds


def test_it_tells_what_has_happened_once(tmp_path: Path) -> None:
    with Watch() as watch:
        assert watch.take() == 0
        watch.add(str(tmp_path), IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO)
        (tmp_path / "file").write_bytes(b"1")
        assert watch.take() == IN_CREATE | IN_CLOSE_WRITE
        assert watch.take() == 0
        (tmp_path / "file").rename(tmp_path / "other")
        assert watch.take() == IN_MOVED_TO


def test_it_is_readable_until_it_was_taken(tmp_path: Path) -> None:
    with Watch() as watch:
        watch.add(str(tmp_path), IN_CREATE)
        fds = [watch.fileno()]
        assert poll(fds, 0.0) == []
        (tmp_path / "a").touch()
        assert poll(fds, soon()) == poll(fds, None) == fds
        assert watch.take()
        assert poll(fds, 0.0) == []


def test_names_of_any_bytes(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü b\n", os.fsdecode(b"\xff\xfe")):
        directory = tmp_path / name
        directory.mkdir()
        with Watch() as watch:
            watch.add(str(directory), IN_CREATE)
            (directory / name).touch()
            assert watch.take() == IN_CREATE


def test_a_descriptor_is_watched_though_its_name_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file, Watch() as watch:
        watch.add(file.fileno(), IN_MODIFY)
        path.unlink()
        file.write(b"more")
        assert watch.take() == IN_MODIFY


def test_one_watch_of_many_files(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.touch()
    b.touch()
    with Watch() as watch:
        first, second = watch.add(str(a), IN_MODIFY), watch.add(str(b), IN_MODIFY)
        assert first != second
        watch.remove(first)
        watch.remove(first)
        a.write_bytes(b"x")
        assert watch.take() == 0
        b.write_bytes(b"x")
        assert watch.take() == IN_MODIFY


def test_the_masks_of_one_file_are_united(tmp_path: Path) -> None:
    with Watch() as watch:
        number = watch.add(str(tmp_path), IN_CREATE)
        assert watch.add(f"{tmp_path}/.", IN_MOVED_FROM) == number
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(tmp_path / "b")
        assert watch.take() == IN_CREATE | IN_MOVED_FROM


def test_many_watch_one_file_and_each_is_told_what_it_asked_for(tmp_path: Path) -> None:
    with Watch() as creates, Watch() as also, Watch() as renames:
        creates.add(str(tmp_path), IN_CREATE)
        renames.add(str(tmp_path), IN_MOVED_TO)
        also.add(str(tmp_path), IN_CREATE)
        assert kernel_watches() == 1
        (tmp_path / "a").touch()
        assert [watch.take() for watch in (creates, also, renames)] == [IN_CREATE, IN_CREATE, 0]
        also.close()
        creates.close()
        assert kernel_watches() == 1
        (tmp_path / "a").rename(tmp_path / "b")
        assert renames.take() == IN_MOVED_TO


def test_what_is_watched_again_is_watched(tmp_path: Path) -> None:
    """That the first watch has ended may be told only after the second has begun."""
    for number in range(20):
        with Watch() as watch:
            watch.add(str(tmp_path), IN_CREATE)
            (tmp_path / f"{number}").touch()
            if number % 2:
                assert watch.take() == IN_CREATE
    assert kernel_watches() == 0


def test_deleting_what_is_watched_ends_the_watch(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    with Watch() as first, Watch() as second:
        number = first.add(str(directory), IN_DELETE_SELF | IN_ONLYDIR)
        second.add(str(directory), IN_CREATE)
        directory.rmdir()
        assert first.take() == IN_DELETE_SELF | IN_IGNORED
        assert second.take() == IN_IGNORED  # not asked for, and it must be known
        first.remove(number)
        directory.mkdir()
        assert first.add(str(directory), IN_CREATE) != number


def test_a_watch_that_ended_unread_can_be_removed(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    with Watch() as watch:
        watch.add(str(directory), IN_DELETE_SELF)
        directory.rmdir()


@pytest.mark.parametrize(("name", "number"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_what_cannot_be_watched_is_named(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "file").touch()
    with Watch() as watch, pytest.raises(OSError) as caught:
        watch.add(str(tmp_path / name), IN_CREATE | IN_ONLYDIR)
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / name)


def test_a_descriptor_that_is_not_open_is_named_too() -> None:
    with Watch() as watch, pytest.raises(FileNotFoundError, match="/proc/self/fd/987654"):
        watch.add(987654, IN_MODIFY)


def test_an_overflow_is_told_to_everybody(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    a, b = tmp_path / "a", tmp_path / "b"
    a.touch()
    with Watch() as watch, Watch() as idle:
        watch.add(str(tmp_path), IN_MOVED_TO)
        for _ in range(limit // 2 + 2):
            a.rename(b)
            b.rename(a)
        assert poll([idle.fileno()], soon()) == [idle.fileno()]
        assert idle.take() == IN_Q_OVERFLOW
        assert watch.take() == IN_MOVED_TO | IN_Q_OVERFLOW
        assert poll([idle.fileno(), watch.fileno()], 0.0) == []


def test_more_than_one_reading(tmp_path: Path) -> None:
    late = tmp_path / "late"
    late.mkdir()
    with Watch() as watch, Watch() as last:
        watch.add(str(tmp_path), IN_CREATE)
        last.add(str(late), IN_CREATE)
        for number in range(2000):
            (tmp_path / f"{number:0200}").touch()
        (late / "file").touch()
        dispatch()
        assert last.take() == watch.take() == IN_CREATE


def test_a_process_has_one_instance(tmp_path: Path) -> None:
    watches = [Watch() for _ in range(300)]
    for number, watch in enumerate(watches):
        (tmp_path / f"{number}").touch()
        watch.add(str(tmp_path / f"{number}"), IN_MODIFY)
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert links.count(Path("anon_inode:inotify")) == 1
    for watch in watches:
        watch.close()


def test_descriptors_are_not_inherited_and_do_not_block() -> None:
    with Watch() as watch:
        for fd in (watch.fileno(), descriptor()):
            assert not os.get_inheritable(fd)
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_closed_watch_says_so(tmp_path: Path) -> None:
    watch = Watch()
    watch.close()
    watch.close()
    for use in (watch.fileno, watch.take, lambda: watch.add(str(tmp_path), IN_CREATE)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_forgotten_watch_warns_and_is_closed(tmp_path: Path) -> None:
    forgotten = [Watch()]
    forgotten[0].add(str(tmp_path), IN_CREATE)
    with pytest.warns(ResourceWarning, match="unclosed"):
        forgotten.clear()


@pytest.mark.parametrize(
    ("number", "sysctl"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
    ],
)
def test_a_limit_names_its_sysctl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sysctl: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify_module, "call", refuse)
    if number == errno.EMFILE:
        monkeypatch.setattr(inotify_module, "_instance", inotify_module._Instance())
    with pytest.raises(HostUnsupported) as caught, Watch() as watch:
        watch.add(str(tmp_path), IN_CREATE)
    assert caught.value.hint == f"allow more of them: sysctl {sysctl}=8192"
    current = Path("/proc/sys", *sysctl.split(".")).read_text().strip()
    assert f"{sysctl} = {current}" in caught.value.found


def test_the_slow_way_into_libc_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "_fast", lambda name: None)
    with Watch() as watch:
        watch.add(str(tmp_path), IN_CREATE)
        (tmp_path / "file").touch()
        assert watch.take() == IN_CREATE
        with pytest.raises(FileNotFoundError):
            watch.add("/nonexistent", IN_CREATE)


# --- sleeping --------------------------------------------------------------------------------


def test_the_deadline_is_kept() -> None:
    with Watch() as watch:
        deadline = time.monotonic() + 0.05
        assert poll([watch.fileno()], deadline) == []
        assert time.monotonic() >= deadline


def test_other_descriptors_beside_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with Watch() as watch:
        watch.add(str(tmp_path), IN_CREATE)
        fds = [reader, watch.fileno(), reader]
        assert poll(fds, 0.0) == []
        os.close(writer)
        assert poll(fds, soon()) == [reader, reader]
        (tmp_path / "a").touch()
        assert poll(fds, soon()) == fds
        watch.take()
        assert poll([reader], soon()) == [reader]
    os.close(reader)


def test_sleeping_works_with_descriptors_beyond_1024(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        if hard != resource.RLIM_INFINITY and hard < 1200:
            pytest.skip(f"needs 1200 descriptors; found: {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Watch() as watch:
            assert watch.fileno() > 1024
            watch.add(str(tmp_path), IN_CREATE)
            (tmp_path / "file").touch()
            assert poll([watch.fileno()], soon())
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Sleeper(threading.Thread):
    """Sleeps on a file of its own until that changes, or the deadline comes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.woken = False
        self.watch = Watch()
        path.touch()
        self.watch.add(str(path), IN_MODIFY)

    def run(self) -> None:
        with self.watch:
            self.woken = poll([self.watch.fileno()], soon()) != []


def test_only_those_wake_whom_it_concerns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    real = inotify_module._Instance.dispatch

    def counted(self: inotify_module._Instance) -> None:
        nonlocal readings
        readings += 1
        real(self)

    sleepers = [Sleeper(tmp_path / f"{number}") for number in range(200)]
    monkeypatch.setattr(inotify_module._Instance, "dispatch", counted)
    for sleeper in sleepers:
        sleeper.start()
    eventually(lambda: all(asleep(sleeper) for sleeper in sleepers))
    used = [time.process_time()]
    while len(used) < 2 or used[-1] - used[-2] > 0.005:  # until nothing is done any more
        time.sleep(0.2)
        used.append(time.process_time())
    assert readings == 0
    for turn, sleeper in enumerate(reversed(sleepers[-20:]), 1):
        sleeper.path.write_bytes(b"x")
        sleeper.join()
        assert sleeper.woken
        # One reads for all, the other is told. How many are woken before the first has read depends
        # on how busy the machine is; it is not everybody.
        assert readings <= 20 * turn
    for sleeper in sleepers[:-20]:
        sleeper.path.write_bytes(b"x")
    for sleeper in sleepers[:-20]:
        sleeper.join()
    assert all(sleeper.woken for sleeper in sleepers)


def test_who_is_not_asleep_is_in_nobodys_way(tmp_path: Path) -> None:
    """Watches that nobody sleeps on, before and after one that somebody does."""
    with Watch() as first:
        first.add(str(tmp_path), IN_CREATE)
        sleeper = Sleeper(tmp_path / "file")
        with Watch() as last:
            last.add(str(tmp_path), IN_CREATE)
            sleeper.start()
            (tmp_path / "other").touch()
            sleeper.path.write_bytes(b"x")
            sleeper.join()
            assert sleeper.woken
            assert first.take() == IN_CREATE
            assert last.take() == IN_CREATE


def test_an_event_loop_beside_threads(tmp_path: Path) -> None:
    """A loop has `descriptor` among its own; one that is stuck delays no thread."""
    sleeper = Sleeper(tmp_path / "theirs")
    sleeper.start()
    own = Sleeper(tmp_path / "own")  # never started: the loop's
    with own.watch, select.epoll() as loop:
        loop.register(descriptor(), select.EPOLLIN)
        loop.register(own.watch.fileno(), select.EPOLLIN)
        sleeper.path.write_bytes(b"x")
        sleeper.join()
        assert sleeper.woken
        own.path.write_bytes(b"x")
        while own.watch.fileno() not in (ready := dict(loop.poll(LONG))):
            assert ready
            dispatch()
        assert own.watch.take() == IN_MODIFY


def test_many_threads_at_once(tmp_path: Path) -> None:
    """64 threads watch files of their own and one of all, and come and go all the time."""
    shared = tmp_path / "shared"
    shared.mkdir()
    failures: list[str] = []
    calm = threading.Event()

    def work(number: int) -> None:
        own = tmp_path / f"{number}"
        own.mkdir()
        for turn in range(effort(20, 4)):
            with Watch() as mine, Watch() as ours:
                mine.add(str(own), IN_CREATE)
                ours.add(str(shared), IN_CREATE)
                (own / f"{turn}").touch()
                if poll([mine.fileno()], soon()) != [mine.fileno()] or mine.take() != IN_CREATE:
                    failures.append(f"own {number} {turn}")
                (shared / f"{number}.{turn}").touch()
                if poll([ours.fileno()], soon()) != [ours.fileno()] or ours.take() != IN_CREATE:
                    failures.append(f"shared {number} {turn}")
        calm.set()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert calm.is_set()


# --- interruptions: a garbage collection, a signal handler, Ctrl-C -----------------------------


def test_a_watch_that_is_closed_while_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = [Watch() for _ in range(3)]
    for watch in watches:
        watch.add(str(tmp_path), IN_CREATE)
    ring = os.eventfd_write

    def interrupted(bell: int, value: int) -> None:
        ring(bell, value)
        watches[1].close()

    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "eventfd_write", interrupted)
        dispatch()
    assert [watches[0].take(), watches[2].take()] == [IN_CREATE, IN_CREATE]
    for watch in watches:
        watch.close()


def test_the_last_other_watch_of_a_file_that_is_closed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Watch()
    other.add(str(tmp_path), IN_CREATE)
    real = libc.call

    def interrupted(name: str, *arguments: int | bytes | None) -> int:
        result = real(name, *arguments)
        if name == "inotify_add_watch":
            other.close()
        return result

    with Watch() as watch:
        with monkeypatch.context() as patch:
            patch.setattr(inotify_module, "call", interrupted)
            watch.add(str(tmp_path), IN_CREATE)
        dispatch()
        watch.take()  # that the first one has ended
        (tmp_path / "file").touch()
        assert watch.take() == IN_CREATE


def test_ctrl_c_loses_nothing_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = inotify_module._Instance._ring
    interrupts = [KeyboardInterrupt()]

    def interrupted(self: inotify_module._Instance, bells: object, mask: int) -> None:
        if interrupts:
            raise interrupts.pop()
        ring(self, bells, mask)  # type: ignore[arg-type]

    with Watch() as watch, Watch() as other:
        other.add(str(tmp_path), IN_CREATE)
        (tmp_path / "file").touch()
        monkeypatch.setattr(inotify_module._Instance, "_ring", interrupted)
        with pytest.raises(KeyboardInterrupt):
            poll([watch.fileno()], soon())
        assert other.take() == IN_Q_OVERFLOW  # whatever it was: look at everything


# --- fork and the end of the interpreter -------------------------------------------------------

PRELUDE = f"""
import atexit, os, sys, threading, time
sys.path.insert(0, {PACKAGE!r})
from longshore.linux import inotify
from longshore.linux.inotify import *
from longshore.linux.inotify import IN_CREATE, Watch, poll
top = sys.argv[1]
def instances():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    return links.count("anon_inode:inotify"), links.count("anon_inode:[eventfd]")
def soon():
    return time.monotonic() + {LONG}
def touch(name):
    os.close(os.open(top + "/" + name, os.O_CREAT | os.O_WRONLY))
"""


def program(code: str, top: Path) -> str:
    """Run a program that forks as it likes, because this one may have threads."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", PRELUDE + code, str(top)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_child_of_fork_has_an_instance_of_its_own(tmp_path: Path) -> None:
    code = """
watch = Watch()
watch.add(top, IN_CREATE)
number = watch.fileno()
child = os.fork()
if child == 0:
    assert instances() == (0, 0), instances()
    with Watch() as own:
        assert own.fileno() == number  # the very number that the parent's has there
        own.add(top, IN_CREATE)
        for use in (watch.fileno, watch.take, lambda: watch.add(top, IN_CREATE)):
            try:
                use()
            except ValueError:
                continue
            os._exit(3)
        watch.close()
        touch("childs")
        assert poll([own.fileno()], soon()) == [own.fileno()]
        assert own.take() == IN_CREATE
        assert instances() == (1, 1), instances()
    del watch
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert watch.take() == IN_CREATE  # the child has read nothing of it
touch("parents")
assert poll([watch.fileno()], soon()) == [watch.fileno()]
watch.close()
print("done")
"""
    assert program(code, tmp_path) == "done\n"


def test_forks_while_threads_wait(tmp_path: Path) -> None:
    code = """
done = threading.Event()
turns = [0] * 8
def work(number):
    name = f"{number}"
    os.mkdir(top + "/" + name)
    while not done.is_set():
        with Watch() as watch:
            watch.add(top + "/" + name, IN_CREATE)
            turns[number] += 1
            touch(f"{name}/{turns[number]}")
            assert poll([watch.fileno()], soon())
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for turn in range(40):
    child = os.fork()
    if child == 0:
        os.mkdir(f"{top}/child{turn}")
        with Watch() as watch:
            watch.add(f"{top}/child{turn}", IN_CREATE)
            touch(f"child{turn}/x")
            assert poll([watch.fileno()], soon())
            assert instances()[0] == 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
for thread in threads:
    thread.join()
print(all(turns), inotify._instance.told, inotify._instance.watchers)
"""
    if sys.version_info >= (3, 12):
        code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + code
    assert program(code, tmp_path) == "True {} {}\n"


def test_waiting_when_the_interpreter_ends(tmp_path: Path) -> None:
    """No thread can be started any more then (3.12), and those that sleep do so to the end."""
    code = """
def sleep():
    with Watch() as watch:
        watch.add(top, IN_CREATE)
        ready.set()
        while True:
            poll([watch.fileno()], None)
            watch.take()
for _ in range(3):
    ready = threading.Event()
    threading.Thread(target=sleep, daemon=True).start()
    ready.wait()
@atexit.register
def last():
    with Watch() as watch:
        watch.add(top, IN_CREATE)
        assert poll([watch.fileno()], time.monotonic() + 0.01) == []
        touch("late")
        assert poll([watch.fileno()], soon())
        print("told")
"""
    assert program(code, tmp_path) == "told\n"


def test_a_process_that_never_waits_has_no_instance(tmp_path: Path) -> None:
    assert program("print(instances())", tmp_path) == "(0, 0)\n"
