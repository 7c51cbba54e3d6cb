"""monitor/rotation.py: files move aside in order, and what somebody reads is kept for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.models import LogRecord
from longshore.monitor import rotation
from longshore.monitor.logs import follow
from longshore.monitor.rotation import (
    ask_to_reopen,
    is_still_to_be_asked,
    looks_after_itself,
    move_aside,
    throw_away,
)
from peers.k8slog import render


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "ctr.log"


def names(log: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(log.parent.iterdir())}


def fill(log: Path, *numbers: int) -> None:
    for number in numbers:
        path = log.with_name(f"ctr.log.{number}") if number else log
        path.write_text(str(number))


def test_each_file_gets_the_next_number(log: Path) -> None:
    fill(log, 0, 1, 2, 4, 10)
    log.with_name("ctr.log.tmp").write_text("x")
    log.with_name("ctr.log.old").write_text("x")
    move_aside(str(log))
    assert names(log) == {
        "ctr.log.1": "0", "ctr.log.2": "1", "ctr.log.3": "2", "ctr.log.5": "4",
        "ctr.log.11": "10", "ctr.log.tmp": "x", "ctr.log.old": "x",
    }  # fmt: skip
    move_aside(str(log))  # and without the log itself
    assert names(log)["ctr.log.2"] == "0"


@pytest.mark.parametrize(("keep", "left"), [(0, {0, 1}), (1, {0, 1}), (2, {0, 1, 2}), (9, None)])
def test_the_oldest_go(log: Path, keep: int, left: set[int] | None) -> None:
    fill(log, 0, 1, 2, 4, 10)
    throw_away(str(log), keep + 1)
    numbers = {0, 1, 2, 4, 10} if left is None else left
    assert {*names(log).values()} == {str(n) for n in numbers}


def test_the_only_file_stays(log: Path) -> None:
    fill(log, 1, 2)
    throw_away(str(log), 0)
    assert names(log) == {"ctr.log.1": "1"}


def record(n: int) -> LogRecord:
    return LogRecord(stream="stdout", time_ns=n, data=b"%d\n" % n)


class Writer:
    """Writes records and rotates, keeping one old file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.path = str(log)
        log.touch()

    def write(self, n: int) -> None:
        with self.log.open("ab") as file:
            file.write(render([record(n)]))

    def rotate(self, keep: int = 1) -> None:
        move_aside(self.path)
        self.log.touch()
        throw_away(self.path, keep + 1)

    def files(self) -> int:
        return len(names(self.log))

    def reader(self) -> Iterator[LogRecord]:
        return follow(self.path, ended=lambda: True)


@pytest.fixture
def writer(log: Path) -> Writer:
    return Writer(log)


def test_what_a_follower_has_to_read_is_kept(writer: Writer) -> None:
    writer.write(0)
    reader = writer.reader()
    assert next(reader) == record(0)
    for n in range(1, 30):
        writer.rotate()
        writer.write(n)
    assert writer.files() == 30
    assert [next(reader) for _ in range(10)] == [record(n) for n in range(1, 11)]
    throw_away(writer.path, 2)
    assert writer.files() == 20  # the file that is read, and what is younger
    assert [*reader] == [record(n) for n in range(11, 30)]
    throw_away(writer.path, 2)
    assert writer.files() == 2


def test_it_is_not_kept_for_ever(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(render([record(10**9)]))
    monkeypatch.setattr(rotation, "SPARE", 5 * size)
    base = 10**9
    writer.write(base)
    reader = writer.reader()
    assert next(reader) == record(base)
    for n in range(1, 30):
        writer.rotate()
        writer.write(base + n)
        assert writer.files() == (n + 1 if n <= 6 else 2)  # who is too far behind keeps nothing
    found = [*reader]
    assert found[0].gap and not any(r.gap for r in found[1:])
    assert found[1:] == [record(base + n) for n in range(28, 30)]


def test_two_followers_and_one_that_left(writer: Writer) -> None:
    writer.write(0)
    first, second, gone = writer.reader(), writer.reader(), writer.reader()
    for reader in (first, second, gone):
        assert next(reader) == record(0)
    gone.close()  # type: ignore[attr-defined]
    writer.rotate(0)
    writer.write(1)
    assert [*first] == [record(1)]
    writer.rotate(0)
    assert writer.files() == 3
    assert [*second] == [record(1)]
    throw_away(writer.path, 0)
    assert writer.files() == 2


def test_a_fork_does_not_keep_what_its_parent_has_read(writer: Writer) -> None:
    writer.write(0)
    reader = writer.reader()
    assert next(reader) == record(0)
    held, let_go = os.pipe()
    child = os.fork()
    if not child:
        os.close(let_go)
        os.read(held, 1)
        os._exit(0)
    os.close(held)
    assert [*reader] == []
    writer.rotate(0)
    writer.rotate(0)
    assert writer.files() == 2
    os.close(let_go)
    os.waitpid(child, 0)


# --- conmon's ctl fifo -----------------------------------------------------------------------


@pytest.fixture
def ctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    path = str(tmp_path_factory.mktemp("bundle") / "ctl")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # as conmon has both ends
    yield path, fd
    os.close(fd)


def test_it_is_asked_by_its_fifo(ctl: tuple[str, int], tmp_path: Path) -> None:
    path, fd = ctl
    assert ask_to_reopen(path)
    assert os.read(fd, 100) == b"2 0 0\n"
    assert not ask_to_reopen(str(tmp_path / "no"))
    os.mkfifo(tmp_path / "unheard")
    assert not ask_to_reopen(str(tmp_path / "unheard"))
    while True:  # nobody reads
        try:
            os.write(fd, bytes(4096))
        except BlockingIOError:
            break
    assert not ask_to_reopen(path)


def test_a_question_is_asked_once(ctl: tuple[str, int], log: Path) -> None:
    path, fd = ctl
    own = os.getpid()
    fill(log, 1, 2)
    assert not is_still_to_be_asked(str(log), path, own)  # it has let go of the old file
    with log.with_name("ctr.log.1").open("ab"):
        assert is_still_to_be_asked(str(log), path, own)
        ask_to_reopen(path)
        assert not is_still_to_be_asked(str(log), path, own)
        os.read(fd, 100)
        assert is_still_to_be_asked(str(log), path, own)
        fill(log, 0)
        assert not is_still_to_be_asked(str(log), path, own)
    assert not is_still_to_be_asked(str(log), path + "-", own)


def test_who_looks_after_itself() -> None:
    assert not looks_after_itself(os.getpid())
    assert not looks_after_itself(2**22 + 1)
