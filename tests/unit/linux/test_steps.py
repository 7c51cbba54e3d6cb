"""linux/steps.py: the same steps, taken by a thread and by an event loop."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from longshore.linux import inotify
from longshore.linux.inotify import IN_Q_OVERFLOW, Watch
from longshore.linux.steps import Sleep, appear_steps, run, slept

LONG = 30.0  # seconds; only a failure waits that long
T = TypeVar("T")


def soon() -> float:
    return time.monotonic() + LONG


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    inotify.descriptor()
    fds = set(os.listdir("/proc/self/fd"))
    yield
    inotify.dispatch()
    assert inotify._instance.told == inotify._instance.watchers == {}
    assert set(os.listdir("/proc/self/fd")) == fds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


# --- taking steps ----------------------------------------------------------------------------


def test_run_sleeps_where_it_is_told_to(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    before = time.monotonic()

    def steps() -> Generator[Sleep, None, str]:
        yield Sleep(fds=(reader,), deadline=before + 0.02)
        assert time.monotonic() >= before + 0.02
        os.write(writer, b"x")
        yield Sleep(fds=(reader,))
        return "end"

    assert run(steps()) == "end"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_interrupts_a_sleep_ends_the_steps(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    closed = []

    def steps() -> Generator[Sleep, None, None]:
        try:
            yield Sleep(fds=())
        except GeneratorExit:
            closed.append(True)
            raise

    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr("longshore.linux.steps.poll", interrupted)
    with pytest.raises(error):
        run(steps())
    assert closed == [True]
    with pytest.raises(error):
        list(slept(steps()))
    assert closed == [True, True]


def test_an_error_of_the_steps_comes_through() -> None:
    def steps() -> Generator[Sleep, None, None]:
        yield Sleep(fds=(), deadline=0.0)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        run(steps())


def test_slept_yields_what_was_found(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    closed = []

    def steps() -> Generator[Sleep | int]:
        try:
            yield 1
            yield Sleep(fds=(reader,))
            yield 2
            yield 3
        finally:
            closed.append(True)

    found = slept(steps())
    assert next(found) == 1
    os.write(writer, b"x")
    assert next(found) == 2
    assert closed == []
    found.close()  # type: ignore[attr-defined]  # a generator
    assert closed == [True]


# --- a path that appears -----------------------------------------------------------------------


def wait_for(path: Path | str, deadline: float | None, also_fds: tuple[int, ...] = ()) -> bool:
    return run(appear_steps(str(path), deadline=deadline, also_fds=also_fds))


def test_a_path_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    steps = appear_steps(str(tmp_path / "link"), deadline=0)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is True


@pytest.mark.parametrize("seconds", [-1.0, 0.05])
def test_time_is_over(tmp_path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    assert not wait_for(tmp_path / "none", deadline)
    assert time.monotonic() >= deadline


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
        assert wait_for(wanted, soon())
    finally:
        timer.join()


def test_nothing_is_missed_between_the_look_and_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "id"
    add = Watch.add

    def late(self: Watch, path: str | int, mask: int) -> int:
        wanted.touch()  # after the first look, before the watch
        return add(self, path, mask)

    monkeypatch.setattr(Watch, "add", late)
    assert wait_for(wanted, soon())


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
        assert wait_for(wanted, None, (read_end,)) is made
    finally:
        timer.join()
        os.close(read_end)


def test_the_directory_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wait_for(tmp_path / "exits" / "id", None)


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_the_directory_must_stay(tmp_path: Path, how: str) -> None:
    directory = tmp_path / "exits"
    directory.mkdir()
    end = directory.rmdir if how == "removed" else lambda: directory.rename(tmp_path / "moved")
    timer = threading.Timer(0.05, end)
    timer.start()
    try:
        with pytest.raises(FileNotFoundError):
            wait_for(directory / "id", soon())
    finally:
        timer.join()


def test_an_overflow_may_have_hidden_that_the_directory_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "exits"
    directory.mkdir()
    steps = appear_steps(str(directory / "id"), deadline=None)
    next(steps)
    directory.rmdir()
    monkeypatch.setattr(Watch, "take", lambda self: IN_Q_OVERFLOW)
    with pytest.raises(FileNotFoundError):
        next(steps)


# --- in an event loop ----------------------------------------------------------------------------


async def awaited(steps: Generator[Sleep, None, T]) -> T:
    """Take steps in an event loop, as the module says it can be done."""
    loop = asyncio.get_running_loop()
    loop.add_reader(inotify.descriptor(), inotify.dispatch)
    try:
        while True:
            sleep = next(steps)
            woken = asyncio.Event()
            late = None
            if sleep.deadline is not None:
                late = loop.call_later(max(0.0, sleep.deadline - time.monotonic()), woken.set)
            for fd in sleep.fds:
                loop.add_reader(fd, woken.set)
            try:
                await woken.wait()
            finally:
                for fd in sleep.fds:
                    loop.remove_reader(fd)
                if late is not None:
                    late.cancel()
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def test_a_thousand_wait_in_one_thread(tmp_path: Path) -> None:
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    paths = [tmp_path / f"{n}" / "exit" for n in range(1000 if room >= 2000 else room // 2)]
    for path in paths:
        path.parent.mkdir()
    threads = threading.active_count()

    async def all_of_them() -> list[bool]:
        tasks = [
            asyncio.ensure_future(awaited(appear_steps(str(path), deadline=None))) for path in paths
        ]
        late = asyncio.ensure_future(
            awaited(appear_steps(str(tmp_path / "never"), deadline=time.monotonic() + 0.05))
        )
        assert await late is False
        used = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - used < 0.1
        assert threading.active_count() == threads
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert links.count(Path("anon_inode:inotify")) == 1
        tasks[7].cancel()
        for path in paths:
            path.touch()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done.pop(7), asyncio.CancelledError)
        return [result is True for result in done]

    assert asyncio.run(all_of_them()) == [True] * (len(paths) - 1)
