"""linux/inotify.py against the kernel; no test here depends on how long something takes."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from longshore.errors import HostUnsupported
from longshore.linux import inotify as inotify_module
from longshore.linux import libc
from longshore.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Event,
    Inotify,
    settle,
    wait_for,
)
from longshore.linux.procs import poll_until


def _names(inotify: Inotify, mask: int) -> list[str]:
    return [event.name for event in inotify.read() if event.mask & mask]


def test_events_of_a_directory_come_with_their_names(tmp_path: Path) -> None:
    with Inotify() as inotify:
        wd = inotify.add(str(tmp_path), IN_CREATE | IN_CLOSE_WRITE)
        (tmp_path / "file").write_bytes(b"1")
        (tmp_path / "sub").mkdir()
        assert inotify.read() == [
            Event(wd=wd, mask=IN_CREATE, name="file"),
            Event(wd=wd, mask=IN_CLOSE_WRITE, name="file"),
            Event(wd=wd, mask=IN_CREATE | IN_ISDIR, name="sub"),
        ]
        assert inotify.read() == []


def test_a_rename_is_a_pair_with_one_cookie(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with Inotify() as inotify:
        inotify.add(str(tmp_path), IN_MOVED_FROM | IN_MOVED_TO)
        (tmp_path / "a").rename(tmp_path / "b")
        gone, come = inotify.read()
    assert (gone.name, come.name) == ("a", "b")
    assert gone.cookie == come.cookie != 0


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = ["x" * 255, "ü b\n", os.fsdecode(b"\xff\xfe")]
    with Inotify() as inotify:
        inotify.add(str(tmp_path), IN_CREATE)
        for name in names:
            (tmp_path / name).touch()
        assert _names(inotify, IN_CREATE) == names


def test_a_descriptor_is_watched_though_its_name_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file, Inotify() as inotify:
        inotify.add(file.fileno(), IN_MODIFY)
        path.unlink()
        file.write(b"more")
        assert [event.mask for event in inotify.read()] == [IN_MODIFY]


def test_removing_a_watch_twice_is_fine(tmp_path: Path) -> None:
    with Inotify() as inotify:
        wd = inotify.add(str(tmp_path), IN_CREATE)
        inotify.remove(wd)
        inotify.remove(wd)
        assert [event.mask for event in inotify.read()] == [IN_IGNORED]


def test_deleting_what_is_watched_ends_the_watch(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    with Inotify() as inotify:
        inotify.add(str(directory), IN_DELETE_SELF | IN_ONLYDIR)
        directory.rmdir()
        assert [event.mask for event in inotify.read()] == [IN_DELETE_SELF, IN_IGNORED]


@pytest.mark.parametrize(("name", "number"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_what_cannot_be_watched_is_named(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "file").touch()
    with Inotify() as inotify, pytest.raises(OSError) as caught:
        inotify.add(str(tmp_path / name), IN_CREATE | IN_ONLYDIR)
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / name)


def test_an_overflow_is_an_event(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    a, b = tmp_path / "a", tmp_path / "b"
    a.touch()
    events: list[Event] = []
    with Inotify() as inotify:
        inotify.add(str(tmp_path), IN_MOVED_TO)
        for _ in range(limit // 2 + 2):
            a.rename(b)
            b.rename(a)
        while more := inotify.read():
            events += more
    assert events[-1] == Event(wd=-1, mask=IN_Q_OVERFLOW)
    assert events[-1].overflow
    assert not events[0].overflow


def test_drain_forgets(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.drain()
        inotify.add(str(tmp_path), IN_CREATE)
        for n in range(3000):
            (tmp_path / f"{n:0100}").touch()
        inotify.drain()
        assert inotify.read() == []


def test_the_descriptor_is_not_inherited_and_does_not_block() -> None:
    with Inotify() as inotify:
        assert not os.get_inheritable(inotify.fileno())
        assert fcntl.fcntl(inotify.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    with pytest.raises(ValueError, match="closed"):
        inotify.fileno()
    inotify.close()


def test_a_forgotten_instance_warns() -> None:
    forgotten = [Inotify()]
    with pytest.warns(ResourceWarning, match="unclosed"):
        forgotten.clear()


def test_closed_instances_are_soon_gone_and_never_in_the_way() -> None:
    settle()
    before = set(os.listdir("/proc/self/fd"))
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    for _ in range(min(limit, 1000) + 10):
        Inotify().close()
    settle()
    assert set(os.listdir("/proc/self/fd")) == before


def test_closing_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(inotify_module._thread, "start_new_thread", refuse)
    settle()
    before = set(os.listdir("/proc/self/fd"))
    Inotify().close()
    assert set(os.listdir("/proc/self/fd")) == before
    settle()


def test_a_child_of_fork_can_close_too() -> None:
    inotify = Inotify()
    Inotify().close()
    child = os.fork()
    if child == 0:
        inotify.close()
        settle()
        with Inotify() as another:
            another.fileno()
        settle()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    inotify.close()


@pytest.mark.parametrize(
    ("number", "sysctl"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
    ],
)
def test_a_limit_names_its_sysctl(
    monkeypatch: pytest.MonkeyPatch, number: int, sysctl: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify_module, "call", refuse)
    with pytest.raises(HostUnsupported) as caught:
        Inotify()
    assert caught.value.hint == f"allow more of them: sysctl {sysctl}=8192"
    current = Path("/proc/sys", *sysctl.split(".")).read_text().strip()
    assert f"{sysctl} = {current}" in caught.value.found


def test_the_slow_way_into_libc_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "_fast", lambda name: None)
    with Inotify() as inotify:
        inotify.add(str(tmp_path), IN_CREATE)
        (tmp_path / "file").touch()
        assert _names(inotify, IN_CREATE) == ["file"]
        with pytest.raises(FileNotFoundError):
            inotify.add("/nonexistent", IN_CREATE)


# --- wait_for --------------------------------------------------------------------------------


def test_a_path_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert wait_for(str(tmp_path / "link"), deadline=0)


def test_time_is_over(tmp_path: Path) -> None:
    before = time.monotonic()
    assert not wait_for(str(tmp_path / "none"), deadline=before + 0.05)
    assert time.monotonic() >= before + 0.05


@pytest.mark.parametrize("how", ["create", "rename", "link"])
def test_it_wakes_for_every_way_to_make_a_file(tmp_path: Path, how: str) -> None:
    wanted = tmp_path / "exits" / "id"
    wanted.parent.mkdir()
    other = tmp_path / "other"
    other.touch()

    def make() -> None:
        (wanted.parent / "another").touch()
        if how == "create":
            wanted.touch()
        elif how == "rename":
            other.rename(wanted)
        else:
            wanted.hardlink_to(other)

    timer = threading.Timer(0.05, make)
    timer.start()
    try:
        assert wait_for(str(wanted), deadline=time.monotonic() + 30)
    finally:
        timer.join()


def test_nothing_is_missed_between_the_look_and_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "id"
    add = Inotify.add

    def late(self: Inotify, path: str | int, mask: int) -> int:
        wanted.touch()  # after the first look, before the watch
        return add(self, path, mask)

    monkeypatch.setattr(Inotify, "add", late)
    assert wait_for(str(wanted), deadline=time.monotonic() + 30)


@pytest.mark.parametrize("made", [True, False])
def test_a_descriptor_ends_the_wait(tmp_path: Path, made: bool) -> None:
    wanted = tmp_path / "id"
    read_end, write_end = os.pipe()

    def end() -> None:
        if made:
            wanted.touch()
        os.close(write_end)

    timer = threading.Timer(0.05, end)
    timer.start()
    try:
        assert wait_for(str(wanted), deadline=None, also_fds=[read_end]) is made
    finally:
        timer.join()
        os.close(read_end)


def test_the_directory_must_be_there_and_stay(tmp_path: Path) -> None:
    directory = tmp_path / "exits"
    with pytest.raises(FileNotFoundError):
        wait_for(str(directory / "id"), deadline=None)
    directory.mkdir()
    timer = threading.Timer(0.05, directory.rmdir)
    timer.start()
    try:
        with pytest.raises(FileNotFoundError):
            wait_for(str(directory / "id"), deadline=time.monotonic() + 30)
    finally:
        timer.join()


def test_waiting_works_with_descriptors_beyond_1024(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        if hard != resource.RLIM_INFINITY and hard < 1200:
            pytest.skip(f"needs 1200 descriptors; found: {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Inotify() as inotify:
            assert inotify.fileno() > 1024
            inotify.add(str(tmp_path), IN_CREATE)
            (tmp_path / "file").touch()
            assert poll_until([inotify.fileno()], time.monotonic() + 30)
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
