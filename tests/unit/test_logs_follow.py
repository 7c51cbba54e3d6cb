"""Following a log: nothing lost, nothing twice, and an end. A writer here does what conmon does."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore.linux import inotify
from longshore.linux.inotify import Watch
from longshore.linux.steps import Sleep
from longshore.models import LogRecord
from longshore.monitor import logfiles
from longshore.monitor.logs import follow, follow_output, follow_steps
from peers.k8slog import render

SECOND = 10**9
T0 = 1795473832 * SECOND


def line(n: int, stream: str = "stdout", *, partial: bool = False) -> LogRecord:
    data = b"%d" % n if partial else b"%d\n" % n
    return LogRecord(stream=stream, time_ns=T0 + n * SECOND, data=data, partial=partial)


class Monitor:
    """A conmon's log: appended to, rotated, truncated; its end is a pipe that closes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("ab", buffering=0)
        self.over = False
        self.wake, self._held = os.pipe()

    def write(self, *records: LogRecord) -> None:
        self.file.write(render(records))

    def reopen(self) -> None:
        """What the ctl fifo's ``2 0 0`` and ``--log-size-max`` do: a new file under the name."""
        self.file.close()
        temporary = self.path.with_name(self.path.name + ".tmp")
        self.file = temporary.open("wb", buffering=0)
        temporary.rename(self.path)

    def rotate(self) -> None:
        """Move the log aside as ctr.log.1, and those before it one further; then reopen."""
        ages = [int(p.suffix[1:]) for p in self.path.parent.glob("ctr.log.[0-9]*")]
        for age in sorted(ages, reverse=True):
            self.path.with_name(f"ctr.log.{age}").rename(self.path.with_name(f"ctr.log.{age + 1}"))
        self.path.rename(self.path.with_name("ctr.log.1"))
        self.reopen()

    def end(self) -> None:
        self.file.close()
        self.over = True
        os.close(self._held)

    def close(self) -> None:
        if not self.over:
            self.end()
        os.close(self.wake)

    def ended(self) -> bool:
        return self.over


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    made = Monitor(tmp_path / "ctr.log")
    yield made
    made.close()


def following(monitor: Monitor, **options: int) -> Iterator[LogRecord]:
    return follow(str(monitor.path), ended=monitor.ended, wake_fds=[monitor.wake], **options)


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_log_that_is_complete_is_read_and_left(monitor: Monitor) -> None:
    monitor.write(line(1), line(2, "stderr", partial=True))
    monitor.end()
    assert list(following(monitor)) == [line(1), line(2, "stderr", partial=True)]
    chunks = follow_output(str(monitor.path), ended=monitor.ended)
    assert list(chunks) == [("stdout", b"1\n"), ("stderr", b"2")]


def test_records_come_one_by_one(monitor: Monitor) -> None:
    records = following(monitor)
    for n in range(5):
        monitor.write(line(n))
        assert next(records) == line(n)
    monitor.end()
    assert list(records) == []


def test_half_a_line_waits_for_its_other_half(monitor: Monitor) -> None:
    text = render([line(1), line(2)])
    monitor.file.write(text[:-3])
    records = following(monitor)
    assert next(records) == line(1)
    thread = in_background(lambda: (time.sleep(0.05), monitor.file.write(text[-3:]))[0])
    assert next(records) == line(2)
    thread.join()


def test_a_line_cut_short_for_good_is_the_last_record(monitor: Monitor) -> None:
    monitor.file.write(render([line(1), line(2345)])[:-3])
    monitor.end()
    assert [r.data for r in following(monitor)] == [b"1\n", b"23"]


@pytest.mark.parametrize("rotated", [False, True])
def test_a_log_that_is_not_there_yet(tmp_path: Path, rotated: bool) -> None:
    path = tmp_path / "ctr.log"
    got: list[LogRecord] = []
    over = False
    wake, held = os.pipe()

    def read() -> None:
        got.extend(follow(str(path), ended=lambda: over, wake_fds=[wake]))

    thread = in_background(read)
    time.sleep(0.05)
    monitor = Monitor(path)
    monitor.write(line(1))
    if rotated:
        monitor.rotate()
    monitor.write(line(2))
    over = True
    os.close(held)
    thread.join()
    os.close(wake)
    monitor.close()
    assert got == [line(1), line(2)]


def test_a_log_that_never_comes(tmp_path: Path) -> None:
    assert list(follow(str(tmp_path / "ctr.log"), ended=lambda: True)) == []
    with pytest.raises(FileNotFoundError):
        list(follow(str(tmp_path / "no" / "ctr.log"), ended=lambda: True))


def test_rotations_lose_nothing_and_give_nothing_twice(monitor: Monitor) -> None:
    records = following(monitor)
    expected = []
    for n in range(0, 40, 4):
        monitor.write(line(n))
        if n % 3 == 0:
            monitor.rotate()
        monitor.write(line(n + 1))
        if n % 5 == 0:
            monitor.rotate()
            monitor.write(line(n + 2))
            monitor.rotate()
            monitor.rotate()
        else:
            monitor.write(line(n + 2))
        monitor.write(line(n + 3, partial=True))
        expected += [line(n), line(n + 1), line(n + 2), line(n + 3, partial=True)]
        if n % 8 == 0:  # sometimes the reader is behind by many files
            assert [next(records) for _ in expected] == expected
            expected = []
    monitor.end()
    assert list(records) == expected


def test_what_is_written_between_the_rename_and_the_reopening(monitor: Monitor) -> None:
    records = following(monitor)
    monitor.write(line(1))
    assert next(records) == line(1)
    monitor.path.rename(monitor.path.with_name("ctr.log.1"))
    monitor.write(line(2))
    assert next(records) == line(2)
    monitor.write(line(3))
    monitor.reopen()
    monitor.write(line(4))
    assert [next(records), next(records)] == [line(3), line(4)]
    monitor.end()
    assert list(records) == []


def test_a_log_moved_elsewhere_does_not_lead_back_to_older_files(monitor: Monitor) -> None:
    monitor.write(line(1))
    monitor.rotate()
    monitor.write(line(2))
    records = following(monitor)
    assert [next(records), next(records)] == [line(1), line(2)]
    monitor.path.rename(monitor.path.with_name("saved"))
    monitor.write(line(3))
    assert next(records) == line(3)
    monitor.reopen()
    monitor.write(line(4))
    assert next(records) == line(4)


def test_log_size_max_keeps_the_reader_going(monitor: Monitor) -> None:
    records = following(monitor)
    for n in range(20):
        monitor.write(line(n))
        if n % 3 == 1:
            assert next(records).gap  # what else was thrown away nobody knows
        assert next(records) == line(n)
        if n % 3 == 0:
            monitor.reopen()
    monitor.write(line(20))
    monitor.reopen()  # what was not read yet of a file that is open is not lost either
    monitor.write(line(21))
    assert next(records) == line(20)
    assert next(records).gap
    assert next(records) == line(21)


def test_a_log_emptied_in_place_begins_again(monitor: Monitor) -> None:
    monitor.write(line(1), line(2))
    records = following(monitor)
    assert [next(records), next(records)] == [line(1), line(2)]
    os.truncate(monitor.path, 0)
    monitor.write(line(3))
    assert next(records).gap
    assert next(records) == line(3)


@pytest.mark.parametrize("tail", [0, 1, 2, 99])
def test_tail_then_what_comes(monitor: Monitor, tail: int) -> None:
    monitor.write(line(1))
    monitor.rotate()
    monitor.write(line(2), line(3))
    monitor.file.write(render([line(4)])[:-1])  # being written
    records = following(monitor, tail=tail)
    begin = [line(1), line(2), line(3)][3 - min(tail, 3) :]
    assert [next(records) for _ in begin] == begin
    thread = in_background(lambda: (time.sleep(0.02), monitor.file.write(b"\n"))[0])
    assert next(records) == line(4)
    thread.join()
    monitor.rotate()
    monitor.write(line(5))
    monitor.end()
    assert list(records) == [line(5)]


def test_what_comes_while_the_tail_is_being_handed_out(monitor: Monitor) -> None:
    monitor.write(line(1), line(2))
    records = following(monitor, tail=2)
    assert next(records) == line(1)
    monitor.write(line(3))
    monitor.rotate()
    monitor.write(line(4))
    monitor.end()
    assert list(records) == [line(2), line(3), line(4)]


def test_since_and_until(monitor: Monitor) -> None:
    monitor.write(*(line(n) for n in range(9)))
    until = T0 + 6 * SECOND  # in the past when this was written or not: it ends by itself
    if until > time.time_ns():
        monitor.end()
    found = list(following(monitor, since_ns=T0 + 3 * SECOND, until_ns=until))
    assert found == [line(3), line(4), line(5), line(6)]


def test_until_ends_a_log_that_does_not(monitor: Monitor) -> None:
    now = time.time_ns()
    monitor.write(line(1).replace(time_ns=now))
    found = list(following(monitor, until_ns=now + SECOND // 20))
    assert [r.data for r in found] == [b"1\n"]
    assert time.time_ns() >= now + SECOND // 20


def test_a_wake_that_ended_takes_out_is_not_looked_at_any_more(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    always, writer = os.pipe()
    os.close(writer)  # readable for ever, as the pidfd of a process that has ended

    def ended() -> bool:
        nonlocal asked
        asked += 1
        if always in wakes:
            wakes.remove(always)
        return monitor.over

    def finish() -> None:
        time.sleep(0.2)
        monitor.write(line(1))
        monitor.end()

    wakes = [always, monitor.wake]
    thread = in_background(finish)
    found = list(follow(str(monitor.path), ended=ended, wake_fds=wakes))
    thread.join()
    os.close(always)
    assert found == [line(1)]
    assert asked < 10


def test_a_wake_that_ended_empties_is_listened_to_again(monitor: Monitor) -> None:
    bell, ring = os.pipe2(os.O_NONBLOCK)
    heard = 0

    def ended() -> bool:
        nonlocal heard
        try:
            heard += len(os.read(bell, 1))
        except BlockingIOError:
            pass
        return heard == 3

    def rings() -> None:
        for _ in range(3):
            time.sleep(0.02)
            os.write(ring, b"!")

    thread = in_background(rings)
    assert list(follow(str(monitor.path), ended=ended, wake_fds=[bell])) == []
    thread.join()
    os.close(bell)
    os.close(ring)


def test_an_overflow_of_the_queue_is_harmless(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    records = following(monitor)
    monitor.write(line(1))
    assert next(records) == line(1)
    a, b = monitor.path.with_name("a"), monitor.path.with_name("b")
    a.touch()
    for _ in range(limit // 2 + 2):
        a.rename(b)
        b.rename(a)
    monitor.write(line(2))
    assert next(records) == line(2)


@pytest.mark.parametrize("begun", [False, True])
def test_leaving_early_closes_everything(monitor: Monitor, begun: bool) -> None:
    inotify.descriptor()  # one a process, kept for good
    before = set(os.listdir("/proc/self/fd"))
    records = following(monitor)
    if begun:
        monitor.write(line(1))
        assert next(records) == line(1)
        assert set(os.listdir("/proc/self/fd")) > before
    records.close()  # type: ignore[attr-defined]
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_failed_watch_leaves_nothing_open(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    inotify.descriptor()  # one a process, kept for good
    before = set(os.listdir("/proc/self/fd"))

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Watch, "add", refuse)
    with pytest.raises(PermissionError):
        next(following(monitor))
    assert set(os.listdir("/proc/self/fd")) == before


def test_it_waits_with_poll(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "select", None)
    thread = in_background(lambda: (time.sleep(0.05), monitor.write(line(1)))[0])
    assert next(following(monitor)) == line(1)
    thread.join()


def test_it_can_be_followed_in_steps(monitor: Monitor) -> None:
    """As an event loop does: it never sleeps by itself, and says what it waits for."""
    monitor.write(line(1), line(2))
    steps = follow_steps(str(monitor.path), ended=monitor.ended, wake_fds=[monitor.wake])
    assert next(steps) == [line(1), line(2)]
    for n in (3, 4):
        sleep = next(steps)
        assert isinstance(sleep, Sleep)
        assert monitor.wake in sleep.fds
        assert sleep.deadline is None
        assert inotify.poll(sleep.fds, 0.0) == []
        monitor.write(line(n))
        assert inotify.poll(sleep.fds, None) == [sleep.fds[0]]
        found = next(steps)
        if isinstance(found, Sleep):  # that was quick: there may be more in a moment
            assert found.fds == ()
            assert found.deadline is not None
            found = next(steps)
        assert found == [line(n)]
    assert isinstance(next(steps), Sleep)
    monitor.end()
    assert [found for found in steps if found and not isinstance(found, Sleep)] == []


@pytest.mark.parametrize("size", [1, 4096])
def test_a_writer_in_another_thread_is_followed_exactly(
    monitor: Monitor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfiles, "CHUNK", 1000)
    sent = [line(n, ("stdout", "stderr")[n % 2], partial=n % 5 == 0) for n in range(3000)]

    def write() -> None:
        text = render(sent)
        rotations = iter(range(20_000, len(text), 20_000))
        turn = next(rotations)
        at = 0
        while at < len(text):
            # a rotation comes between two lines, as with conmon
            if at >= turn:
                turn = next(rotations, len(text))
                whole = text.index(b"\n", at) + 1
                monitor.file.write(text[at:whole])
                at = whole
                monitor.rotate()
            monitor.file.write(text[at : at + size * 100])
            at += size * 100
        monitor.end()

    thread = in_background(write)
    output: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for stream, data in follow_output(
        str(monitor.path), ended=monitor.ended, wake_fds=[monitor.wake]
    ):
        output[stream] += data
    thread.join()
    for stream, data in output.items():
        assert data == b"".join(r.data for r in sent if r.stream == stream)
