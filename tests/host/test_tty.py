"""tty: a program's terminal: its size from the first instruction on, its keys, its signals."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from hostlife import eventually, kill_monitor, make, started
from longshore import Attachment, Engine, InvalidArgument, MonitorGone, Status, WrongState

REPORT = """
for fd in 0 1 2; do test -t $fd && echo terminal $fd; done
echo TERM $TERM
trap 'echo SIGWINCH; stty size' WINCH
trap 'echo SIGINT' INT
stty size; echo ready
while :; do read line || continue; echo "read $line"; test "$line" != end || exit 7; done
"""


def until(attached: Attachment, wanted: bytes) -> bytes:
    """Read until something was printed; return all up to it."""
    seen = b""
    for stream, data in attached:
        assert stream == "stdout"  # a terminal has one
        seen += data
        if wanted in seen:
            return seen
    raise AssertionError(f"{wanted!r} did not come: {seen!r}")


def sizes_seen(engine: Engine, rootfs: Path, count: int) -> list[bytes]:
    """Start a container ``count`` times, each with another size; return what was wrong."""
    box = engine.create(command=["stty", "size"], rootfs=rootfs, tty=True)
    wrong = []
    for number in range(count):
        rows, columns = 10 + number % 90, 20 + number % 700
        with box.attended(), box.attach(start=True, console_size=(rows, columns)) as attached:
            seen = b"".join(data for _, data in attached)
        if seen != b"%d %d\r\n" % (rows, columns):
            wrong.append(seen)
    box.remove(force=True)
    return wrong


def test_size_at_the_first_instruction(engine: Engine, busybox_rootfs: Path) -> None:
    assert sizes_seen(engine, busybox_rootfs, 30) == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_size_at_the_first_instruction_of_a_thousand(engine: Engine, busybox_rootfs: Path) -> None:
    assert sizes_seen(engine, busybox_rootfs, 1000) == []


def test_what_the_program_sees(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, REPORT, tty=True, interactive=True)
    with box.attach(start=True, stdin=True, console_size=(33, 101)) as attached:
        seen = until(attached, b"ready\r\n")
        expected = b"terminal 0\r\nterminal 1\r\nterminal 2\r\nTERM xterm\r\n33 101\r\nready\r\n"
        assert seen == expected
        attached.write(b"hello\n")
        assert until(attached, b"read hello\r\n") == b"hello\r\nread hello\r\n"  # and its echo
        attached.write(b"\x03")  # Ctrl-C
        until(attached, b"SIGINT\r\n")
        attached.resize(44, 122)
        assert until(attached, b"122\r\n").endswith(b"SIGWINCH\r\n44 122\r\n")
        box.resize(45, 123)
        assert until(attached, b"123\r\n").endswith(b"SIGWINCH\r\n45 123\r\n")
        attached.write(b"end\n")
        until(attached, b"read end\r\n")
        assert list(attached) == []
    assert box.wait(10).code == 7


def test_a_start_without_a_size_has_none_of_the_last(engine: Engine, busybox_rootfs: Path) -> None:
    box = engine.create(command=["sh", "-c", "stty size; echo $?"], rootfs=busybox_rootfs, tty=True)
    seen = []
    for size in ((50, 60), None):
        with box.attach(start=True, console_size=size) as attached:
            seen.append(b"".join(data for _, data in attached))
        box.wait(10)
    assert seen[0] == b"50 60\r\n0\r\n"
    assert b"50 60" not in seen[1]


def test_of_many_sizes_the_last_one_stays(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, REPORT, tty=True, interactive=True)
    with box.attach(start=True, stdin=True) as attached:
        until(attached, b"ready\r\n")
        for number in range(5):
            many = [
                threading.Thread(target=box.resize, args=(20, 30 + other)) for other in range(4)
            ]
            for thread in many:
                thread.start()
            for thread in many:
                thread.join()
            box.resize(40, 100 + number)
            until(attached, b"40 %d\r\n" % (100 + number))
        attached.write(b"end\n")
        until(attached, b"read end")
    box.wait(10)


def test_who_leaves_a_terminal_ends_nothing(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, REPORT, tty=True, interactive=True)
    eventually(lambda: any(b"ready" in record.data for record in box.logs()))
    for number in range(3):
        with box.attach(stdin=True) as one, box.attach(stdin=True) as other:
            one.write(b"one %d\n" % number)
            until(one, b"read one %d\r\n" % number)
            other.write(b"other\n")
            until(other, b"read other\r\n")
    with box.attach(stdin=True) as last:
        last.write(b"end\n")
        until(last, b"read end\r\n")
    assert box.wait(10).code == 7


def test_the_end_of_input_is_a_key(engine: Engine, busybox_rootfs: Path) -> None:
    for last in (b"", b"a line\n", b"within a line"):
        box = make(engine, busybox_rootfs, "cat; echo over", tty=True, interactive=True)
        with box.attach(start=True, stdin=True) as attached:
            attached.write(last)
            attached.close_stdin()
            assert b"".join(d for _, d in attached).endswith(b"over\r\n"), last
        assert box.wait(10).ok
    result = engine.run(command=["cat"], rootfs=busybox_rootfs, tty=True, input=b"some", timeout=20)
    assert result.stdout == b"somesome"
    assert result.exit.ok


def test_from_one_terminal_to_the_next(engine: Engine, busybox_rootfs: Path) -> None:
    """What is not attached to is kept, and what was printed before is there when asked for."""
    box = started(engine, busybox_rootfs, REPORT, tty=True, interactive=True)
    eventually(lambda: any(b"ready" in record.data for record in box.logs()))
    with box.attach(logs=True) as attached:
        assert b"terminal 0" in until(attached, b"ready\r\n")
    with box.attach(stdin=True) as attached:
        attached.write(b"end\n")
        assert until(attached, b"read end") == b"end\r\nread end\r\n"
    box.wait(10)


def test_what_makes_no_sense(engine: Engine, busybox_rootfs: Path) -> None:
    plain = make(engine, busybox_rootfs, "sleep 1000")
    box = make(engine, busybox_rootfs, "sleep 1000", tty=True)
    with pytest.raises(InvalidArgument, match="has no terminal"):
        plain.start(console_size=(1, 1))
    for size in ((1,), (-1, 1), (1, "x"), (1, 1 << 20), "ab"):
        with pytest.raises(InvalidArgument, match="console_size"):
            box.start(console_size=size)  # type: ignore[arg-type]
    assert plain.status is box.status is Status.CREATED
    with pytest.raises(WrongState, match="cannot attach"):
        box.resize(1, 1)
    with pytest.raises(WrongState, match="cannot attach"):
        box.attach()
    plain.start()
    with pytest.raises(InvalidArgument, match="has no terminal"):
        plain.resize(1, 1)
    box.start(console_size=(0, 0))
    box.pause()
    box.resize(20, 20)
    box.unpause()
    kill_monitor(box)
    with pytest.raises(MonitorGone, match="does not listen"):
        box.resize(30, 30)
    for one in (plain, box):
        one.remove(force=True)


def test_nothing_is_printed_for_us(
    engine: Engine, busybox_rootfs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    box = make(engine, busybox_rootfs, "echo out; echo err >&2", tty=True)
    with box.attach(start=True) as attached:
        assert b"".join(data for _, data in attached) == b"out\r\nerr\r\n"
    assert box.wait(10).ok
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", ["long", "missing"])
def test_any_place_for_temporary_files(
    engine: Engine,
    busybox_rootfs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """conmon takes the terminal over through a socket below TMPDIR."""
    directory = tmp_path / ("x" * 90 if place == "long" else "x")
    if place == "long":
        directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    before = {name for name in os.listdir("/tmp") if name.startswith("conmon-term")}
    box = make(engine, busybox_rootfs, "tty", tty=True)
    with box.attach(start=True) as attached:
        assert re.fullmatch(rb"/dev/(pts/0|console)\r\n", b"".join(d for _, d in attached))
    assert box.wait(10).ok
    assert {name for name in os.listdir("/tmp") if name.startswith("conmon-term")} <= before
