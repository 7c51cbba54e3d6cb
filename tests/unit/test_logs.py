"""monitor/logformat.py and monitor/logs.py: parsing, reading, tails, rotated files."""

from __future__ import annotations

import itertools
import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.models import LogRecord
from longshore.monitor import logfiles, logs
from longshore.monitor.logformat import LogParser, OutputParser
from longshore.monitor.logs import capture, read_log
from peers.k8slog import READ, records_of, render, stamp

# As conmon 2.1.6 wrote it for: printf 'hi\n'; printf 'a\0b\r\n\n' >&2; printf 'no'; printf 'nl'
CAPTURED = (
    b"2026-11-23T22:43:52.331253555+00:00 stdout F hi\n"
    b"2026-11-23T22:43:52.340000001+00:00 stderr F a\0b\r\n"
    b"2026-11-23T22:43:52.340000001+00:00 stderr F \n"
    b"2026-11-23T22:43:52.413034030+00:00 stdout P no\n"
    b"2026-11-23T22:43:52.500000000+00:00 stdout P nl\n"
)
SECOND = 10**9
T0 = 1795473832 * SECOND  # 2026-11-23T22:43:52Z

# From 1971, so that the local date of every zone has a year of four digits after 1970, to 2200.
times = st.integers(min_value=365 * 86400 * SECOND, max_value=7_258_118_400 * SECOND)
zones = st.integers(min_value=-14 * 60, max_value=14 * 60)
payload = st.binary(max_size=40) | st.text("a\n\r\0 ", max_size=20).map(str.encode)


@st.composite
def record(draw: st.DrawFn) -> LogRecord:
    partial = draw(st.booleans())
    data = draw(payload).replace(b"\n", b"")
    return LogRecord(
        stream=draw(st.sampled_from(["stdout", "stderr"])),
        time_ns=draw(times),
        data=data if partial else data + b"\n",
        partial=partial,
    )


def line(n: int, stream: str = "stdout", *, partial: bool = False) -> LogRecord:
    data = b"%d" % n if partial else b"%d\n" % n
    return LogRecord(stream=stream, time_ns=T0 + n * SECOND, data=data, partial=partial)


def joined(records: list[LogRecord]) -> tuple[bytes, bytes]:
    out = b"".join(r.data for r in records if r.stream == "stdout")
    return out, b"".join(r.data for r in records if r.stream == "stderr")


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


# --- the format ------------------------------------------------------------------------------


def test_what_conmon_wrote() -> None:
    records = LogParser().feed(CAPTURED)
    assert [(r.stream, r.data, r.partial) for r in records] == [
        ("stdout", b"hi\n", False),
        ("stderr", b"a\0b\r\n", False),
        ("stderr", b"\n", False),
        ("stdout", b"no", True),
        ("stdout", b"nl", True),
    ]
    assert records[0].time_ns == T0 + 331253555
    assert joined(records) == (b"hi\nnonl", b"a\0b\r\n\n")


@given(st.lists(record(), max_size=20), zones, st.lists(st.integers(0, 2000), max_size=10))
def test_records_survive_the_log_in_any_chunks(
    records: list[LogRecord], zone: int, cuts: list[int]
) -> None:
    parser = LogParser()
    found = [r for chunk in in_chunks(render(records, zone), cuts) for r in parser.feed(chunk)]
    assert found + parser.finish() == records


writes = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), times, payload | st.just(b"x" * (READ + 1))),
    max_size=10,
)


@given(writes, st.lists(st.integers(0, 3000), max_size=10))
def test_output_is_exactly_what_was_written(
    written: list[tuple[str, int, bytes]], cuts: list[int]
) -> None:
    parser = OutputParser()
    got: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for chunk in in_chunks(render(records_of(written)), cuts):
        for stream, data in parser.feed(chunk):
            got[stream] += data
    assert parser.finish() == []
    for stream, data in got.items():
        assert data == b"".join(d for s, _, d in written if s == stream)


@given(st.binary(max_size=300) | st.lists(record(), max_size=4).map(render), st.binary(max_size=99))
def test_no_bytes_make_it_fail_and_both_parsers_agree(data: bytes, more: bytes) -> None:
    slow, fast = LogParser(), OutputParser()
    records = slow.feed(data) + slow.feed(more) + slow.finish()
    outputs = fast.feed(data) + fast.feed(more) + fast.finish()
    assert joined(records) == (
        b"".join(d for s, d in outputs if s == "stdout"),
        b"".join(d for s, d in outputs if s == "stderr"),
    )


@given(times, zones)
def test_times_of_all_zones(time_ns: int, zone: int) -> None:
    text = stamp(time_ns, zone)
    (found,) = LogParser().feed(text + b" stdout F \n")
    assert found.time_ns == time_ns
    seconds = datetime.fromisoformat(text.decode()).timestamp()
    assert int(seconds) == time_ns // SECOND


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"not a log",
        b"2026-11-23T22:43:52.331253555Z stdout F short zone",
        b"2026-11-23T22:43:52.331253555+00:00 stdin  F x",
        b"2026-11-23T22:43:52.331253555+00:00 stdout X x",
        b"2026-11-23T22:43:52.331253555+00:00 stdout F",
    ],
)
def test_a_strange_line_is_a_line_of_stdout(strange: bytes) -> None:
    first, found, last = LogParser().feed(CAPTURED[:48] + strange + b"\n" + CAPTURED[:48])
    assert found == LogRecord(stream="stdout", time_ns=first.time_ns, data=strange + b"\n")
    assert last == first


def test_a_time_that_is_none_is_the_one_before() -> None:
    bad = CAPTURED[:48].replace(b"2026", b"20x6")
    first, second = LogParser().feed(CAPTURED[:48] + bad)
    assert (second.time_ns, second.data) == (first.time_ns, b"hi\n")
    assert LogParser().feed(bad)[0].time_ns == 0


@pytest.mark.parametrize("cut", range(49))
def test_a_write_that_was_cut_short(cut: int) -> None:
    parser, fast = LogParser(), OutputParser()
    assert parser.feed(CAPTURED[:cut]) == ([] if cut < 48 else [*parser.feed(b""), *ONE])
    fast.feed(CAPTURED[:cut])
    rest = parser.finish()
    assert fast.finish() == [(r.stream, r.data) for r in rest]
    if 45 < cut < 48:
        assert rest == [ONE[0].replace(data=b"hi"[: cut - 45], partial=True)]
    else:
        assert rest == []


ONE = LogParser().feed(CAPTURED[:48])


def test_records_are_the_value_type_that_users_know() -> None:
    (found,) = LogParser().feed(CAPTURED[:48])
    assert found == LogRecord(stream="stdout", time_ns=T0 + 331253555, data=b"hi\n")
    assert found.replace(partial=True).partial
    assert found.time.year == 2026


# --- files -----------------------------------------------------------------------------------


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    missing = str(tmp_path / "no" / "ctr.log")
    assert capture(missing) == (b"", b"")
    assert list(read_log(missing)) == []
    assert list(read_log(missing, tail=3)) == []


def test_capture_and_read_agree(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(CAPTURED + CAPTURED[:47])
    assert capture(str(log)) == (b"hi\nnonlhi", b"a\0b\r\n\n")
    assert joined(list(read_log(str(log)))) == capture(str(log))


def test_a_large_log_is_exact(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    log = tmp_path / "ctr.log"
    half = [
        ("stdout", T0 + n, data[at : at + 65536]) for n, at in enumerate(range(0, 3 << 20, 65536))
    ]
    log.write_bytes(render(records_of(half)))
    assert capture(str(log)) == (data, b"")
    assert joined(list(read_log(str(log)))) == (data, b"")


def test_rotated_files_come_first_and_the_oldest_of_them_foremost(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(render([line(12)]))
    for age in range(1, 12):
        (tmp_path / f"ctr.log.{age}").write_bytes(render([line(12 - age)]))
    for other in (
        "ctr.log.tmp",
        "ctr.log.0",
        "ctr.log.01",
        "ctr.log.1.gz",
        "xctr.log.1",
        "ctr.log.",
    ):
        (tmp_path / other).write_bytes(render([line(99)]))
    assert list(read_log(str(log))) == [line(n) for n in range(1, 13)]
    assert capture(str(log))[0] == b"".join(b"%d\n" % n for n in range(1, 13))
    assert list(read_log(str(log), tail=3)) == [line(10), line(11), line(12)]


def test_a_line_may_go_on_in_the_next_file(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    (tmp_path / "ctr.log.1").write_bytes(render([line(1), line(2, partial=True)]))
    log.write_bytes(render([line(3), line(4)]))
    assert capture(str(log)) == (b"1\n23\n4\n", b"")
    assert list(read_log(str(log), tail=2)) == [line(2, partial=True), line(3), line(4)]


def test_a_write_cut_short_in_an_old_file_stays_apart(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    (tmp_path / "ctr.log.1").write_bytes(render([line(1)])[:-1])
    log.write_bytes(render([line(2)]))
    assert capture(str(log)) == (b"12\n", b"")
    assert list(read_log(str(log))) == [line(1, partial=True), line(2)]
    assert list(read_log(str(log), tail=9)) == [line(1, partial=True), line(2)]


def test_a_rotation_while_opening_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ctr.log"
    (tmp_path / "ctr.log.1").write_bytes(render([line(1)]))
    log.write_bytes(render([line(2)]))
    listdir = os.listdir

    def rotating(path: str) -> list[str]:
        if log.read_bytes() == render([line(2)]):
            (tmp_path / "ctr.log.1").rename(tmp_path / "ctr.log.2")
            log.rename(tmp_path / "ctr.log.1")
            log.write_bytes(render([line(3)]))
        return listdir(path)

    monkeypatch.setattr(logfiles.os, "listdir", rotating)
    assert list(read_log(str(log))) == [line(1), line(2), line(3)]


def test_a_listing_in_the_middle_of_a_rotation_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, one, two, three = (tmp_path / f"ctr.log{end}" for end in ("", ".1", ".2", ".3"))
    for n, path in enumerate((two, one, log), 1):
        path.write_bytes(render([line(n)]))
    listdir = os.listdir

    def rotating(path: str) -> list[str]:
        if three.exists():
            return listdir(path)
        two.rename(three)
        names = listdir(path)  # a gap where the second file will be
        one.rename(two)
        log.rename(one)
        log.write_bytes(render([line(4)]))
        return names

    monkeypatch.setattr(logfiles.os, "listdir", rotating)
    assert list(read_log(str(log))) == [line(n) for n in range(1, 5)]


def test_a_log_that_never_holds_still_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(render([line(1)]))
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(logfiles, "_names", lambda path: {})
    assert list(read_log(str(log))) == [line(1)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_since_and_until_are_inclusive(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(render([line(n) for n in range(10)], zone_minutes=-330))
    since, until = T0 + 3 * SECOND, T0 + 6 * SECOND
    expected = [line(n) for n in range(3, 7)]
    assert list(read_log(str(log), since_ns=since, until_ns=until)) == expected
    assert list(read_log(str(log), since_ns=since, until_ns=until, tail=99)) == expected
    assert list(read_log(str(log), since_ns=since, until_ns=until, tail=2)) == expected[2:]
    assert list(read_log(str(log), since_ns=until + 1, until_ns=since)) == []


def test_reading_ends_where_the_log_ended_when_it_was_opened(tmp_path: Path) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(render([line(1), line(2)]))
    reader = read_log(str(log))
    assert next(reader) == line(1)
    with log.open("ab") as file:
        file.write(render([line(3)]))
    assert list(reader) == [line(2)]


# --- tail ------------------------------------------------------------------------------------


def lines_of(records: list[LogRecord]) -> list[list[int]]:
    """Say which records make up each line, the lines in the order of their ends: the plain way."""
    open_lines: dict[str, list[int]] = {}
    lines: list[list[int]] = []
    for index, found in enumerate(records):
        open_lines.setdefault(found.stream, []).append(index)
        if not found.partial:
            lines.append(open_lines.pop(found.stream))
    return lines + sorted(open_lines.values(), key=lambda indexes: indexes[-1])


@given(st.lists(record(), max_size=15), st.integers(0, 6), st.integers(1, 200))
def test_tail_counts_lines_not_records(records: list[LogRecord], count: int, block: int) -> None:
    import tempfile

    lines = lines_of(records)
    # Unfinished lines count from the place of their last piece.
    lines.sort(key=lambda indexes: indexes[-1])
    wanted = sorted(i for indexes in lines[len(lines) - min(count, len(lines)) :] for i in indexes)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_BLOCK", block)
        log = Path(directory, "ctr.log")
        log.write_bytes(render(records))
        assert list(read_log(str(log), tail=count)) == [records[i] for i in wanted]


def test_tail_reads_the_end_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "ctr.log"
    log.write_bytes(render([line(n) for n in range(50_000)]))
    read = 0
    pread = os.pread

    def counting(fd: int, size: int, at: int) -> bytes:
        nonlocal read
        read += size
        return pread(fd, size, at)

    monkeypatch.setattr(logs.os, "pread", counting)
    assert list(read_log(str(log), tail=2)) == [line(49_998), line(49_999)]
    assert read < 200_000 < log.stat().st_size


def test_tail_does_not_look_for_the_first_piece_of_a_line_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SEARCH", 1000)
    log = tmp_path / "ctr.log"
    records = [line(0, "stderr", partial=True), *(line(n) for n in range(1, 200))]
    log.write_bytes(render([*records, line(200, "stderr")]))
    assert list(read_log(str(log), tail=1)) == [line(200, "stderr")]
    monkeypatch.setattr(logs, "_SEARCH", 100_000)
    assert list(read_log(str(log), tail=1)) == [records[0], line(200, "stderr")]
