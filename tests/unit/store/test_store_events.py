"""store/events.py: numbers, segments, torn lines, gaps, and many processes at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from hostkit import ROOT
from longshore.models import Event, Gap
from longshore.store import events
from longshore.store.events import KEPT, LONGEST, SEGMENT, EventLog

FIELDS: dict[str, object] = {"type": "container", "action": "start", "id": "a" * 64}
KEEP_ALL = 1_000_000


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(f"{tmp_path}/events", segment=1000, kept=3)


def put(log: EventLog, name: str, time_ns: int = 0) -> int:
    return log.append(time_ns, {**FIELDS, "name": name})


def all_of(log: EventLog, since: int | None = 0, **how: int) -> list[Event | Gap]:
    found: list[Event | Gap] = []
    with log.reader(since, **how) as reader:
        while some := reader.read():
            found += some
    return found


def names(found: list[Event | Gap]) -> list[str | Gap]:
    return [one if isinstance(one, Gap) else one.name for one in found]


def segment_paths(log: EventLog) -> list[str]:
    return [f"{log.directory}/{name}" for _, name in log.segments()]


# --- what an event is -------------------------------------------------------------------------


def test_an_event_is_read_as_it_was_written(log: EventLog) -> None:
    fields = {
        **FIELDS,
        "name": "bóx \udcff\n",
        "image": "img",
        "exit_code": 3,
        "labels": {"a": "\n\t\u2028", "": ""},
        "attributes": {"reason": "exited"},
    }
    seq = log.append(123, fields)
    log.append(456, {**FIELDS, "name": "second"})
    assert all_of(log) == [
        Event.from_json({"seq": seq, "time_ns": 123, **fields}),
        Event(seq=all_of(log)[-1].seq, time_ns=456, type="container", action="start",  # type: ignore[union-attr]
              id="a" * 64, name="second"),
    ]  # fmt: skip
    assert all_of(log)[0].time.isoformat() == "1970-01-01T00:00:00+00:00"  # type: ignore[union-attr]


def test_it_is_one_line_of_json_that_other_programs_can_read(log: EventLog) -> None:
    seq = put(log, "box")
    (path,) = segment_paths(log)
    text = Path(path).read_text()
    assert [json.loads(line)["name"] for line in text.splitlines() if line] == ["box"]
    assert text[seq] == "{"
    assert os.path.basename(path).startswith("0" * 20)


def test_the_first_number_is_above_0(log: EventLog) -> None:
    assert all_of(log) == []
    assert log.end() == 0
    assert put(log, "a") == 1


def test_what_a_newer_version_says_is_kept(log: EventLog) -> None:
    log.append(1, {**FIELDS, "name": "a", "mood": "good"})
    (event,) = all_of(log)
    assert isinstance(event, Event)
    assert event.to_json()["mood"] == "good"


def test_labels_that_are_too_long_are_left_out(log: EventLog) -> None:
    long = {"a": "x" * LONGEST}
    log.append(1, {**FIELDS, "name": "a", "labels": long})
    (event,) = all_of(log)
    assert isinstance(event, Event)
    assert (event.name, event.labels) == ("a", {})
    # one that is so long all the same is passed over, and costs no memory
    log.append(2, {**FIELDS, "name": "x" * 3 * LONGEST})
    put(log, "c")
    assert names(all_of(log))[-1] == "c"


def test_files_are_ours_alone(log: EventLog) -> None:
    put(log, "a")
    assert os.stat(log.directory).st_mode & 0o777 == 0o700
    for path in [*segment_paths(log), f"{log.directory}/first"]:
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_the_directory_is_made_when_it_is_missing_but_not_the_root(tmp_path: Path) -> None:
    put(EventLog(f"{tmp_path}/new"), "a")
    with pytest.raises(FileNotFoundError):
        put(EventLog(f"{tmp_path}/no/new"), "a")


# --- numbers, segments, gaps ------------------------------------------------------------------


def test_segments_are_bounded_and_what_is_gone_is_a_gap(log: EventLog) -> None:
    numbers = [put(log, str(n)) for n in range(100)]
    assert numbers == sorted(set(numbers))
    assert len(segment_paths(log)) == 3
    found = all_of(log)
    gap = found[0]
    oldest = min(index for index, _ in log.segments()) * 1000
    assert gap == Gap(start=0, end=oldest)
    assert [one.seq for one in found[1:] if isinstance(one, Event)] == [
        n for n in numbers if n > oldest
    ]
    assert all_of(log, oldest) == found[1:]
    assert all_of(log, None) == []


def test_the_real_sizes_keep_what_is_promised(tmp_path: Path) -> None:
    log = EventLog(f"{tmp_path}/events")
    labels = {"a": "x" * 60_000}
    while len(segment_paths(log)) <= KEPT - 1 or log.segments()[0][0] == 0:
        log.append(1, {**FIELDS, "name": "a", "labels": labels})
    size = sum(os.path.getsize(path) for path in segment_paths(log))
    assert (KEPT - 1) * SEGMENT < size < KEPT * SEGMENT
    assert (KEPT - 1) * SEGMENT == 12 << 20  # what Engine.events promises


def test_a_reader_keeps_what_it_has_open(log: EventLog) -> None:
    first = [put(log, f"{n}") for n in range(3)]
    with log.reader(0) as reader:
        assert len(reader.read()) == 3
        count = 3
        while len(log.segments()) < 3 or log.segments()[0][0] <= 1:
            put(log, f"{count}")
            count += 1
        found = []
        while some := reader.read():
            found += some
        gaps = [one for one in found if isinstance(one, Gap)]
        seen = [one.name for one in found if isinstance(one, Event)]
        assert len(gaps) == 1
        assert gaps[0].start < 1000 < gaps[0].end, "all of the segment that was open came first"
        assert seen[0] == "3"
        assert seen[-1] == f"{count - 1}"
        assert found.index(gaps[0]) > 1
        assert first[-1] < gaps[0].start


def test_a_number_beyond_the_end_says_that_the_log_is_another(log: EventLog) -> None:
    put(log, "a")
    end = log.end()
    with log.reader(5000) as reader:
        assert reader.read() == [Gap(start=5000, end=end)]
        put(log, "b")
        assert names(reader.read()) == ["b"]


@settings(max_examples=effort(60, 20), deadline=None)
@given(
    lengths=st.lists(st.integers(0, 120), max_size=40),
    segment=st.integers(2, 700),
    data=st.data(),
)
def test_any_number_resumes_in_order(lengths: list[int], segment: int, data: st.DataObject) -> None:
    """Each event once, in the order of writing, from any number: also from one inside of a line."""
    with tempfile.TemporaryDirectory() as directory:
        log = EventLog(f"{directory}/events", segment=segment, kept=KEEP_ALL)
        numbers = [put(log, str(n) + "x" * length) for n, length in enumerate(lengths)]
        assert numbers == sorted(set(numbers))
        since = data.draw(st.integers(0, log.end()))
        found = all_of(log, since)
        assert [one.seq for one in found if isinstance(one, Event)] == [
            n for n in numbers if n > since
        ]
        assert not any(isinstance(one, Gap) for one in found)
        # and so does whoever stops anywhere and begins again there
        with log.reader(0) as reader:
            seen = reader.read() if data.draw(st.booleans()) else []
            position = reader.seq
        seen = seen + all_of(log, position)
        assert [one.seq for one in seen if isinstance(one, Event)] == numbers


TORN = st.sampled_from(
    [
        b"\n", b"\n\n\n", b"\0" * 50, b"\n" + b"\0" * 300 + b"\n", b"garbage", b'\n{"next": "',
        b'\n{"next": "0"}\n', b'\n{"time_ns": 1, "type": "container", "acti', b"\n[]\n", b'\n"\n',
        b'\n{"time_ns": "1", "type": 3}\n', b"\n" + b"[" * 5000 + b"\n", b'\n{"seq": 1}\n',
        b'\n{"time_ns": ,', b"\xff\xfe\n",
    ]
)  # fmt: skip


@settings(max_examples=effort(60, 20), deadline=None)
@given(steps=st.lists(st.one_of(st.none(), TORN), max_size=40), segment=st.integers(100, 900))
def test_torn_lines_spoil_no_other(steps: list[bytes | None], segment: int) -> None:
    """What a power cut, a full disk or a SIGKILL leaves at the end is passed over."""
    with tempfile.TemporaryDirectory() as directory:
        log = EventLog(f"{directory}/events", segment=segment, kept=KEEP_ALL)
        numbers = []
        for n, torn in enumerate(steps):
            if torn is None:
                numbers.append(put(log, str(n)))
            elif numbers:
                with open(segment_paths(log)[-1], "ab") as file:
                    file.write(torn)
        assert [one.seq for one in all_of(log) if isinstance(one, Event)] == numbers
        assert all_of(log, since_ns=1) == []


def test_a_write_that_is_cut_short_is_an_error_and_no_event(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(log, "a")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="No space left"):
            put(log, "lost")
    put(log, "b")
    assert names(all_of(log)) == ["a", "b"]


def test_a_proposal_that_is_cut_short_names_nothing(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def short(fd: int, data: bytes) -> int:
        return write(fd, data[:-3] if b"next" in data else data)

    while log.end() < 1000:
        put(log, "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space left"):
            put(log, "lost")
    put(log, "b")
    assert names(all_of(log))[-1] == "b"
    assert "lost" not in names(all_of(log))


def test_a_successor_that_somebody_else_removed_is_made_again(log: EventLog) -> None:
    """Nobody may remove a segment by hand, but it does not end the events for ever."""
    while len(log.segments()) < 3:
        put(log, "a")
    put(log, "a")
    with log.reader(None) as reader:
        os.unlink(segment_paths(log)[-1])
        put(log, "b")
        put(log, "c")
        assert names(all_of(log))[-2:] == ["b", "c"]
        while reader.read():
            pass
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(log.reader(0))
        while waiting.read():
            pass
        assert waiting.seq >= 1000


def test_an_end_that_a_power_cut_took_is_a_gap(log: EventLog) -> None:
    numbers = [put(log, str(n)) for n in range(20)]
    second = segment_paths(log)[1]
    inside = [n for n in numbers if 1000 <= n < 2000]
    os.truncate(second, inside[2] - 1000)
    found = all_of(log)
    gap = next(one for one in found if isinstance(one, Gap))
    assert gap.start < inside[2]
    assert gap.end == 2000
    assert [one.seq for one in found if isinstance(one, Event)] == [
        n for n in numbers if n not in inside[2:]
    ]


def test_leftovers_are_no_segments(log: EventLog) -> None:
    """What was proposed by a process that was killed then is empty, and goes with its like."""
    put(log, "a")
    for index in (0, 1, 7):
        Path(log.directory, f"{index * 1000:020d}-{'0' * 16}.jsonl").touch()
    Path(log.directory, "notes").touch()
    for n in range(60):
        put(log, str(n))
    assert [one for one in names(all_of(log)) if one == "59"] == ["59"]
    left = {os.path.basename(path) for path in segment_paths(log) if "0" * 16 + "." in path}
    assert left <= {f"{7 * 1000:020d}-{'0' * 16}.jsonl"}


# --- moments ----------------------------------------------------------------------------------


def test_since_a_moment(log: EventLog) -> None:
    begin, step = time.time_ns(), 100 * 10**9
    numbers = [put(log, str(n), begin + n * step) for n in range(20)]
    for index, name in log.segments():
        last = max(n for n, number in enumerate(numbers) if number // 1000 == index)
        os.utime(f"{log.directory}/{name}", ns=(0, begin + last * step))
    for moment in range(20):
        since, whole = log.since(begin + moment * step)
        assert whole
        assert names(all_of(log, since, since_ns=begin + moment * step)) == [
            str(n) for n in range(20) if n >= moment
        ]
    assert log.since(begin + 19 * step)[0] == 2000, "what is older is not even opened"
    assert log.since(begin + 20 * step) == (log.end(), True)


def test_since_a_moment_that_is_not_kept_any_more(log: EventLog) -> None:
    begin = time.time_ns() - 1000
    for n in range(100):
        put(log, str(n), begin + n)
    oldest = names(all_of(log, log.since(0)[0]))[0]
    assert isinstance(oldest, str)
    assert log.since(begin)[1] is False
    assert log.since(begin + int(oldest))[1] is False, "those at the same moment may be gone"
    assert log.since(begin + int(oldest) + 1)[1] is True


def test_an_empty_log_has_no_moments(log: EventLog) -> None:
    assert log.since(0) == (0, True)


# --- many processes ---------------------------------------------------------------------------

WRITER = """
import os, random, sys, time
from longshore.store.events import EventLog
directory, segment, kept, who, count = sys.argv[1:]
log = EventLog(directory, segment=int(segment), kept=int(kept))
told = open(f"{os.path.dirname(directory)}/told.{who}", "w", buffering=1)
for n in range(int(count)):
    fields = {"type": "t", "action": "a", "id": f"{who}-{n}", "name": "x" * random.randrange(60)}
    told.write(f"{log.append(time.time_ns(), fields)} {who}-{n}\\n")
"""


class Writers:
    """Processes that write events, and what they say of them."""

    def __init__(self, log: EventLog, count: int, events_each: int) -> None:
        self.log = log
        self.top = Path(log.directory).parent
        argv = [log.directory, str(log.segment), str(log.kept)]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.running = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", WRITER, *argv, str(who), str(events_each)], env=env
            )
            for who in range(count)
        ]
        self._all = [*self.running]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
                process.wait()

    def alive(self) -> bool:
        self.running = [process for process in self.running if process.poll() is None]
        return bool(self.running)

    def codes(self) -> set[int]:
        return {process.wait(60) for process in self._all}

    def told(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for path in self.top.glob("told.*"):
            last = -1
            for line in path.read_text().splitlines():
                seq, ident = line.split()
                assert int(seq) > last, "each process's events are in its own order"
                assert int(seq) not in found, "a number is given once"
                last = int(seq)
                found[last] = ident
        return found


def follow(writers: Writers, disturb: object = None) -> Iterator[list[Event | Gap]]:
    """Read while they write, to the last event."""
    with writers.log.reader(0) as reader:
        while True:
            alive = writers.alive()
            while some := reader.read():
                yield some
            if not alive:
                return
            if callable(disturb):
                disturb()


def check(seen: list[Event | Gap]) -> dict[int, str]:
    """Return the events by number; numbers rise strictly, across gaps too."""
    last, by_number = -1, {}
    for one in seen:
        if isinstance(one, Gap):
            assert one.start >= last
            last = one.end - 1
        else:
            assert one.seq > last
            last = one.seq
            by_number[one.seq] = one.id
    assert len(set(by_number.values())) == len(by_number), "no event twice"
    return by_number


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """8 processes × 2,000 events: each exactly once, in order; who follows meanwhile sees all."""
    each = effort(2000, 400)
    log = EventLog(f"{tmp_path}/events", segment=1 << 16, kept=KEEP_ALL)
    with Writers(log, 8, each) as writers:
        seen = [one for some in follow(writers) for one in some]
        assert writers.codes() == {0}
        told = writers.told()
    assert len(told) == 8 * each
    assert check(seen) == told
    assert check(all_of(log)) == told
    assert not any(isinstance(one, Gap) for one in seen)
    assert len(segment_paths(log)) > each // 100, "there were many switches"


@pytest.mark.parametrize(("segment", "kept"), [(150, 2), (700, 1), (4096, 3)])
def test_writers_that_stop_anywhere(tmp_path: Path, segment: int, kept: int) -> None:
    """Stopped for as long as others fill and remove many segments, they neither lose an event nor
    give a number twice; what a reader was too slow for is a gap."""
    log = EventLog(f"{tmp_path}/events", segment=segment, kept=kept)
    chance = random.Random(segment)
    each = effort(600, 120)

    with Writers(log, 6, each) as writers:

        def disturb() -> None:
            victim = chance.choice(writers.running)
            victim.send_signal(signal.SIGSTOP)
            time.sleep(chance.random() * 0.003)
            victim.send_signal(signal.SIGCONT)

        seen = [one for some in follow(writers, disturb) for one in some]
        assert writers.codes() == {0}
        told = writers.told()
    assert len(told) == 6 * each
    by_number = check(seen)
    gaps = [one for one in seen if isinstance(one, Gap)]
    assert by_number.items() <= told.items()
    for seq in told.keys() - by_number.keys():
        assert any(gap.start < seq < gap.end for gap in gaps), f"{seq} was lost silently"
    assert len(segment_paths(log)) <= kept + 1


def test_writers_that_are_killed_anywhere(tmp_path: Path) -> None:
    count = effort(12, 6)
    log = EventLog(f"{tmp_path}/events", segment=500, kept=KEEP_ALL)
    chance = random.Random(1)
    with Writers(log, count, 100_000) as writers:
        seen = []
        time.sleep(0.3)

        def disturb() -> None:
            time.sleep(chance.random() * 0.02)
            chance.choice(writers.running).kill()

        for some in follow(writers, disturb):
            seen += some
        told = writers.told()
    put(log, "after")
    by_number = check(seen)
    assert told.items() <= by_number.items()
    # one event at most of each was written and not told any more
    assert len(by_number) <= len(told) + count
    assert names(all_of(log))[-1] == "after"


def test_a_full_segment_is_left_even_if_nobody_could_name_the_next(log: EventLog) -> None:
    """Killed between the proposal's file and its line: the next writer proposes another."""
    while log.end() < 1000:
        put(log, "a")
    Path(log.directory, f"{1000:020d}-{'f' * 16}.jsonl").touch()
    assert put(log, "b") == 1001
    assert names(all_of(log))[-1] == "b"
    with log.newest(os.O_RDONLY) as newest:
        assert newest.index == 1
    assert events.FIRST in os.listdir(log.directory)
