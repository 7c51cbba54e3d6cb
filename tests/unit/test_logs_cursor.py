"""Cursors of log records: reading goes on exactly behind one, in any process, across rotations."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from longshore.errors import InvalidArgument
from longshore.models import LogRecord
from longshore.monitor import rotation
from longshore.monitor.logs import follow, read_log
from peers.k8slog import render

SECOND = 10**9
T0 = 1795473832 * SECOND


class Log:
    """A log that is written and rotated by hand."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ctr.log"
        self.path.touch()
        self._count = itertools.count()
        self.written: list[LogRecord] = []

    def write(self, count: int = 1, *, partial: bool = False) -> None:
        for _ in range(count):
            n = next(self._count)
            data = b"%d" % n if partial else b"%d\n" % n
            stream = ("stdout", "stderr")[n % 3 == 0]
            time_ns = T0 + n // 4 * SECOND  # several of one read have one time
            record = LogRecord(stream=stream, time_ns=time_ns, data=data, partial=partial)
            self.written.append(record)
            with self.path.open("ab") as file:
                file.write(render([record]))

    def rotate(self, keep: int = 99) -> None:
        rotation.move_aside(str(self.path))
        self.path.touch()
        rotation.throw_away(str(self.path), keep + 1)

    def read(self, **options: object) -> list[LogRecord]:
        return [*read_log(str(self.path), **options)]  # type: ignore[arg-type]

    def follow(self, **options: object) -> list[LogRecord]:
        return [*follow(str(self.path), ended=lambda: True, **options)]  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_each_record_has_its_own(log: Log) -> None:
    for count in (3, 0, 2, 4):
        log.write(count)
        log.rotate()
    log.write(2, partial=True)
    found = log.read()
    assert found == log.written == log.follow()
    cursors = [r.cursor for r in found]
    assert len({*cursors}) == len(cursors)
    assert [r.cursor for r in log.follow()] == cursors
    assert [r.cursor for r in log.read(tail=99)] == cursors
    assert [r.cursor for r in log.follow(tail=99)] == cursors
    for number, cursor in enumerate(cursors, 1):
        for behind in (log.read(after=cursor), log.follow(after=cursor)):
            assert behind == found[number:]
            assert [r.cursor for r in behind] == cursors[number:]


def test_a_cursor_is_no_part_of_what_a_record_says(log: Log) -> None:
    log.write()
    (found,) = log.read()
    plain = LogRecord(stream="stderr", time_ns=T0, data=b"0\n")
    assert found == plain and hash(found) == hash(plain)
    assert plain.cursor == ""
    assert "_file" not in repr(found)
    assert found.to_json().keys() == plain.to_json().keys()
    assert pickle.loads(pickle.dumps(found)).cursor == found.cursor


@settings(deadline=None, max_examples=effort(60, 20))
@given(st.lists(st.tuples(st.sampled_from("wwwprR"), st.integers(1, 5)), max_size=25))
def test_reading_in_pieces_gives_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    got: list[LogRecord] = []
    cursor = ""
    for step, count in steps:
        if step == "w":
            log.write(count)
        elif step == "p":
            log.write(partial=True)
        elif step == "r":
            log.rotate()
        else:
            part = log.read(after=cursor)[:count]
            got += part
            cursor = part[-1].cursor if part else cursor
    got += log.follow(after=cursor)
    assert got == log.written


def test_what_was_thrown_away_is_said(log: Log) -> None:
    log.write(3)
    cursors = [r.cursor for r in log.read()]
    log.rotate()
    log.write(2)
    assert log.read(after=cursors[1]) == log.written[2:]
    log.rotate(keep=1)
    log.write(1)
    for found in (log.read(after=cursors[1]), log.follow(after=cursors[1])):
        assert found[0].gap and not found[0].data and not found[0].cursor
        assert found[1:] == log.written[3:]
    since = log.read(after=cursors[1], since_ns=T0 + 99 * SECOND)
    assert len(since) == 1 and since[0].gap, "a gap is no matter of time"
    log.path.unlink()
    assert [r.gap for r in log.read(after=cursors[1])] == [True, False, False]


def test_a_log_that_was_emptied_or_is_another_one(log: Log) -> None:
    log.write(3)
    cursor = log.read()[1].cursor
    log.path.write_bytes(b"")  # the same inode
    log.write(1)
    found = log.read(after=cursor)
    assert [r.gap for r in found] == [True, False]


def test_a_line_that_was_cut_short_and_went_on(log: Log) -> None:
    log.write(2)
    whole = render([LogRecord(stream="stderr", time_ns=T0, data=b"one two\n")])
    with log.path.open("ab") as file:
        file.write(whole[:-5])
    cut = log.read()[-1]
    assert (cut.data, cut.partial) == (b"one", True)
    assert log.read(after=cut.cursor) == [] == log.follow(after=cut.cursor)
    with log.path.open("ab") as file:
        file.write(whole[-5:])
    log.write()
    for found in (log.read(after=cut.cursor), log.follow(after=cut.cursor)):
        assert [(r.stream, r.time_ns, r.data) for r in found[:1]] == [("stderr", T0, b" two\n")]
        assert found[1:] == log.written[2:]


@pytest.mark.parametrize("cursor", ["x", "1.2", "1.2.", "1.2.-3", "1.2.3.4", "1.2.²", "1..9" * 9])
def test_what_is_no_cursor(log: Log, cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="not a place in a log"):
        log.read(after=cursor)
    with pytest.raises(InvalidArgument, match="not a place in a log"):
        log.follow(after=cursor)


def test_a_cursor_and_a_tail(log: Log) -> None:
    log.write()
    with pytest.raises(InvalidArgument, match="not both"):
        log.read(after=log.read()[0].cursor, tail=1)
