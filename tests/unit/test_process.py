"""Process, its streams and its capture, over a process of this machine instead of a container's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore.engine import capture as capture_module
from longshore.engine.capture import Capture, Stream
from longshore.engine.process import Process
from longshore.errors import InvalidArgument, LongshoreError, OperationTimeout, ProgramNotFound
from longshore.linux.procs import poll_until
from longshore.models import ExitInfo, ExitReason


class Local:
    """A way that leads nowhere: a shell here."""

    def __init__(self, script: str, *, stdin: bool = False, merged: bool = False) -> None:
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(
            ["sh", "-c", script],
            stdin=pipe if stdin else subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.STDOUT if merged else pipe,
            process_group=0,
        )
        ends = (self.child.stdin, self.child.stdout, self.child.stderr)
        self.stdin, self.stdout, self.stderr = (
            -1 if end is None else os.dup(end.fileno()) for end in ends
        )
        for end in ends:
            if end is not None:
                end.close()
        self.pidfd = os.pidfd_open(self.child.pid)
        self.words = b""
        self.error: LongshoreError | None = None
        self.info: ExitInfo | None = None
        self.genuine = True
        self.asked: list[bytes] = []
        self.sent: list[int] = []
        self.program: Callable[[], int | None] = lambda: None
        self.freed = 0

    def fileno(self) -> int:
        return self.pidfd

    def ended(self, deadline: float | None = None) -> bool:
        until = time.monotonic() if deadline is None else deadline
        return self.info is not None or bool(poll_until([self.pidfd], until))

    def pid(self) -> int | None:
        return self.child.pid

    def open_program(self) -> int | None:
        return self.program()

    def send(self, number: int) -> None:
        self.sent.append(number)
        self.child.send_signal(number)

    def resize(self, rows: int, columns: int) -> None:
        raise InvalidArgument("no terminal")

    def kill(self, intent: str = "kill", *, drain: Callable[[float], bool] | None = None) -> None:
        if self.info is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            poll_until([self.pidfd], None)

    def is_genuine(self, words: bytes) -> bool:
        self.asked.append(words)
        return self.genuine

    def free_runtime(self) -> None:
        self.freed += 1
        os.killpg(self.child.pid, signal.SIGKILL)

    def exit(self) -> ExitInfo:
        if self.info is None:
            code = self.child.wait()
            code = code if code >= 0 else 128 - code
            self.info = ExitInfo(code=code, reason=ExitReason.EXITED)
        return self.info

    def close(self) -> None:
        for name in ("stdin", "stdout", "stderr", "pidfd"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


@pytest.fixture
def ways() -> Iterator[list[Local]]:
    made: list[Local] = []
    yield made
    for way in made:
        if way.pidfd >= 0:
            way.kill()
            way.exit()
            way.close()


def until(path: Path) -> str:
    """Return a script that waits for a file: nobody has to be as fast as a `sleep`."""
    return f"until [ -e {path} ]; do sleep 0.01; done"


def process(script: str, ways: list[Local], **options: Any) -> Process[Any]:
    ends = {key: options.pop(key) for key in ("stdin", "merged") if key in options}
    way = Local(script, **ends)
    ways.append(way)
    return Process(way, ("sh", "-c", script), merged=ends.get("merged", False), **options)


# --- a stream that is kept -----------------------------------------------------------------------


def test_a_stream_without_a_limit() -> None:
    stream = Stream(None)
    assert (stream.data, stream.dropped, stream.words, stream.empty) == (b"", 0, b"", True)
    stream.add(b"one")
    stream.add(b"two")
    assert (stream.data, stream.words, stream.empty) == (b"onetwo", b"onetwo", False)


def test_a_stream_with_a_limit() -> None:
    for limit, kept, dropped in ((0, b"", 6), (2, b"on", 4), (4, b"onet", 2), (6, b"onetwo", 0)):
        stream = Stream(limit)
        stream.add(b"one")
        stream.add(b"two")
        assert (stream.data, stream.dropped) == (kept, dropped)
        # what a runtime has said is known all the same
        assert stream.words == b"onetwo"


def test_much_is_no_words() -> None:
    stream = Stream(None)
    stream.add(b"x" * 4096)
    assert len(stream.words) == 4096
    stream.add(b"x")
    assert stream.words == b""
    assert not stream.empty


# --- capture -------------------------------------------------------------------------------------


def captured(script: str, data: bytes = b"", **options: Any) -> Capture:
    way = Local(script, stdin=bool(data))
    try:
        capture = Capture(way, data, **options)
        assert capture.run(time.monotonic() + 60)
        assert way.exit().code == 0
        assert (way.stdin, way.stdout, way.stderr) == (-1, -1, -1)
        return capture
    finally:
        way.close()


def test_capture_of_all_three_at_once() -> None:
    data = os.urandom(3 << 20)
    capture = captured("tee /dev/stderr", data)
    assert capture.stdout.data == capture.stderr.data == data


def test_capture_of_what_reads_nothing() -> None:
    assert captured("exec 0<&-; echo fine", b"x" * (1 << 20)).stdout.data == b"fine\n"


def test_capture_of_what_closes_its_streams() -> None:
    assert captured("echo fine; exec >&- 2>&-; sleep 0.1").stdout.data == b"fine\n"


def test_capture_does_not_wait_for_others() -> None:
    way = Local("(sleep 1000; echo late) & head -c 200000 /dev/zero; echo end >&2")
    try:
        capture = Capture(way)
        assert capture.run(time.monotonic() + 60)
        assert len(capture.stdout.data) == 200000
        assert capture.stderr.data == b"end\n"
    finally:
        os.killpg(way.child.pid, signal.SIGKILL)
        way.exit()
        way.close()


def test_capture_goes_on_after_its_deadline(ways: list[Local], tmp_path: Path) -> None:
    go = tmp_path / "go"
    way = Local(f"echo one; {until(go)}; echo two; cat", stdin=True)
    ways.append(way)
    capture = Capture(way, b"in")
    while not capture.stdout.data:
        assert not capture.run(time.monotonic() + 0.1)
    assert capture.stdout.data == b"one\n"
    assert not capture.run(time.monotonic())
    go.touch()
    assert capture.run()
    assert capture.stdout.data == b"one\ntwo\nin"


def test_words_are_told_when_there_is_nothing_else() -> None:
    for script, words in (
        ("echo words >&2", b"words\n"),
        ("echo words >&2; echo out", b""),
        ("head -c 5000 /dev/zero >&2", b""),
    ):
        way = Local(script)
        try:
            assert Capture(way).run()
            assert way.words == words
            way.exit()
        finally:
            way.close()


def test_a_runtime_that_waits_for_others_is_freed(
    ways: list[Local], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child stands for the runtime, ``program`` for the program that it has run."""
    monkeypatch.setattr(capture_module, "_QUIET", 0.05)
    way = Local("echo all of it; sleep 1000")
    ways.append(way)
    with subprocess.Popen(["sleep", "1000"]) as program:
        way.program = lambda: os.pidfd_open(program.pid)
        capture = Capture(way)
        while not capture.stdout.data:
            assert not capture.run(time.monotonic() + 0.1)
        timer = threading.Timer(0.3, program.kill)
        timer.start()
        assert capture.run(time.monotonic() + 60)
        assert program.poll() is not None, "it is freed when the program has ended"
        timer.join()
    assert way.freed >= 1  # again, where it takes its time to die
    assert capture.stdout.data == b"all of it\n"


def test_a_program_that_has_ended_before_anybody_looked(
    ways: list[Local], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_module, "_QUIET", 0.02)
    way = Local("sleep 60")
    ways.append(way)
    answers = iter([None, None, -1])
    way.program = lambda: next(answers)
    assert Capture(way).run()
    assert way.freed >= 1


# --- Process -------------------------------------------------------------------------------------


def test_streams_are_file_objects(ways: list[Local]) -> None:
    with process("cat; echo err >&2", ways, stdin=True) as live:
        assert isinstance(live.stdout, io.BufferedReader)
        assert isinstance(live.stdin, io.BufferedIOBase)
        assert live.stdin.writable() and not live.stdin.readable()
        assert live.stdout.readable() and not live.stdout.writable()
        assert live.stdin.fileno() == ways[0].stdin
        live.stdin.write(memoryview(b"line\n"))
        live.stdin.writelines([b"a", b"b\n"])
        assert live.stdout.readline() == b"line\n"
        live.stdin.close()
        live.stdin.close()
        assert live.stdout.read() == b"ab\n"
        assert live.stderr.read() == b"err\n"
        with pytest.raises(ValueError, match="closed"):
            live.stdin.write(b"x")
    assert live.stdout.closed and live.stderr.closed
    with pytest.raises(ValueError, match="closed"):
        live.stdout.read()


def test_without_a_buffer(ways: list[Local]) -> None:
    with process("echo one; read go; echo two", ways, bufsize=0, stdin=True) as live:
        assert isinstance(live.stdout, io.RawIOBase)
        assert live.stdout.read(100) == b"one\n"
        live.stdin.write(b"go\n")
        assert live.stdout.read(100) == b"two\n"
        assert live.stdout.read(100) == b""


def test_words_of_the_runtime_are_not_shown(ways: list[Local]) -> None:
    for options in ({}, {"text": ("utf-8", "strict")}, {"bufsize": 0}):
        live = process("echo words of the runtime >&2; exit 1", ways, **options)
        ways[-1].genuine = False
        with live:
            assert not live.stderr.read()
            assert ways[-1].asked == [b"words of the runtime\n"]
            assert not live.stdout.read()


def test_words_are_looked_at_once_and_only_where_they_can_come(ways: list[Local]) -> None:
    with process("echo one; echo two", ways) as live:
        assert live.stdout.readlines() == [b"one\n", b"two\n"]
    assert ways[-1].asked == []
    with process("echo one; read go; echo two", ways, merged=True, stdin=True) as live:
        assert live.stdout.readline() == b"one\n"
        live.stdin.write(b"go\n")
        assert live.stdout.readlines() == [b"two\n"]
    assert ways[-1].asked == [b"one\n"]


def test_an_error_is_raised_by_all_who_wait(ways: list[Local]) -> None:
    def broken() -> Process[Any]:
        live = process("exit 1", ways)
        ways[-1].error = ProgramNotFound("nope")
        return live

    live = broken()
    for wait in (live.wait, live.wait, live.communicate):
        with pytest.raises(ProgramNotFound):
            wait()
    assert live.poll() is not None
    live._close()
    with pytest.raises(ProgramNotFound), broken():
        pass
    # an exception of the body's own goes first
    with pytest.raises(ZeroDivisionError), broken():
        raise ZeroDivisionError


def test_leaving_reads_what_nobody_has_read(ways: list[Local]) -> None:
    with process("head -c 1000000 /dev/zero; exit 4", ways) as live:
        live.stdout.read(10)
    assert live.returncode == 4


def test_leaving_after_an_interrupted_communicate(ways: list[Local], tmp_path: Path) -> None:
    go = tmp_path / "go"
    with process(f"{until(go)}; echo end", ways) as live:
        with pytest.raises(OperationTimeout):
            live.communicate(timeout=0.05)
        go.touch()
    assert live.returncode == 0


def test_signals_by_name_and_number(ways: list[Local]) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    with process(script, ways) as live:
        assert live.stdout.readline() == b"ready\n"
        live.send_signal("CONT")
        live.send_signal(18)
        with pytest.raises(InvalidArgument, match="not a signal"):
            live.send_signal("NOPE")
        live.terminate()
        assert live.wait(20).code == 5
    assert ways[-1].sent == [18, 18, 15]


def test_input_of_the_wrong_kind(ways: list[Local]) -> None:
    with process("cat", ways, stdin=True) as live, pytest.raises(InvalidArgument, match="bytes"):
        live.communicate("text")
    with (
        process("cat", ways, stdin=True, text=("utf-8", "strict")) as live,
        pytest.raises(InvalidArgument, match="text"),
    ):
        live.communicate(b"bytes")


def test_it_can_be_subscripted() -> None:
    """In annotations that are evaluated."""
    assert Process[bytes] is Process


def test_who_forgets_it_is_warned(ways: list[Local]) -> None:
    live = process("sleep 60", ways)
    way = ways[-1]
    with pytest.warns(ResourceWarning, match="is still running"):
        del live
    assert way.info is not None and way.info.code == 137
    assert way.pidfd == way.stdout == way.stderr == -1


def test_what_runs_a_command_knows_nothing_of_sessions_and_monitors() -> None:
    """Each import is paid for by every `longshore exec`."""
    code = "import sys, longshore.engine.execs, longshore.engine.process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    wrong = [
        name
        for name in done
        if name.startswith(("longshore.monitor", "longshore.engine.session", "longshore.cli"))
        or name in ("longshore.store.sessions", "subprocess", "threading", "ctypes", "typing")
    ]
    assert not wrong
