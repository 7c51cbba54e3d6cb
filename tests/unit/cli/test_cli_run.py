"""`run`: what is asked of the engine, what is shown, what it ends with."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_standin import NOW, ended, inspection

from longshore.engine.trace import UNTRACED
from longshore.errors import ProgramNotFound
from longshore.linux.files import write_all
from longshore.models import ExitReason, LogRecord

if TYPE_CHECKING:
    from conftest import Outcome, Shell

ROOT = ("--rootfs", "/:O")


def verbs(shell: Shell) -> list[object]:
    return [what[0] for what in shell.engine.asked]


def test_attached(shell: Shell) -> None:
    shell.engine.records = [
        LogRecord(stream="stdout", time_ns=NOW, data=b"a\n"),
        LogRecord(stream="stderr", time_ns=NOW, data=b"b\n"),
        LogRecord(stream="stdout", time_ns=NOW, data=b"c", partial=True),
    ]
    done = shell("run", "--name", "box", *ROOT, "sh")
    assert (done.code, done.out, done.err) == (7, "a\nc", "b\n")
    assert verbs(shell) == ["create", "attend", "start", "wait", "leave"]


def test_detached(shell: Shell) -> None:
    done = shell("run", "-d", "--name", "box", *ROOT, "sh")
    assert (done.code, done.out) == (0, shell.engine.found["box"].id + "\n")
    assert verbs(shell) == ["create", "start"]


def fed(shell: Shell, data: bytes, *words: str) -> Outcome:
    """Run a command line whose standard input is a pipe with some data."""
    reader, writer = os.pipe()
    saved = os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        os.write(writer, data)
        os.close(writer)
        return shell(*words)
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def test_standard_input_is_passed_on_only_when_asked(shell: Shell) -> None:
    shell.engine.endless = True
    fed(shell, b"\x10\x11", "run", "-i", "--name", "box", *ROOT, "sh")
    assert ("write", "box", b"\x10\x11") in shell.engine.asked  # no detach keys in a pipe
    assert ("close_stdin", "box") in shell.engine.asked
    shell.engine.asked.clear()
    shell.engine.endless = False
    fed(shell, b"data", "run", *ROOT, "sh")
    assert not {"attach", "write", "close_stdin"} & {*verbs(shell)}


@pytest.mark.parametrize("flag", ["--log-driver=none", "--log-opt=max-size=1m", "-t"])
def test_where_more_is_to_be_done_it_is_attached(shell: Shell, flag: str) -> None:
    shell.engine.records = [LogRecord(stream="stdout", time_ns=NOW, data=b"a\n")]
    done = shell("run", flag, *ROOT, "sh")
    assert (done.code, done.out) == (7, "a\n")
    assert verbs(shell) == ["create", "attend", "start", "attach", "wait", "leave"]
    (asked,) = [what for what in shell.engine.asked if what[0] == "attach"]
    assert asked[2:] == (False, {"when_full": "block", "console_size": None, "trace": UNTRACED})


def test_a_failed_start_of_an_attached_one(shell: Shell) -> None:
    shell.engine.failure = ProgramNotFound("no such program")
    assert shell("run", "-t", "--rm", "--name", "gone", *ROOT, "sh").code == 127
    assert shell("run", "-t", "--name", "kept", *ROOT, "sh").code == 127
    assert "gone" not in shell.engine.found
    assert "kept" in shell.engine.found


def test_start_attached(shell: Shell) -> None:
    shell("create", "--name", "box", *ROOT, "sh")
    assert shell("start", "-a", "box").code == 7
    assert verbs(shell) == ["create", "attend", "start", "attach", "wait", "leave"]


def test_attach(shell: Shell) -> None:
    shell.engine.found["box"] = inspection("box", interactive=True)
    shell.engine.records = [LogRecord(stream="stderr", time_ns=NOW, data=b"a\n")]
    shell.engine.dropped_bytes = 5
    done = shell("attach", "--no-stdin", "box")
    assert (done.code, done.out) == (7, "")
    assert done.err.startswith("a\nlongshore: warning: 5 bytes that box printed are not shown")
    shell.engine.endless = True
    fed(shell, b"hi", "attach", "-l")
    asked = [what for what in shell.engine.asked if what[0] == "attach"]
    assert [what[2] for what in asked] == [False, True]
    assert ("write", "box", b"hi") in shell.engine.asked


@pytest.mark.parametrize("detached", [[], ["-d"]])
def test_a_failed_start(shell: Shell, detached: list[str]) -> None:
    shell.engine.failure = ProgramNotFound("no such program", hint="look")
    done = shell("run", *detached, "--name", "kept", *ROOT, "sh")
    assert (done.code, done.out) == (127, "")
    assert done.err == "Error: no such program\nhint: look\n"
    assert "kept" in shell.engine.found
    assert shell("run", *detached, "--rm", "--name", "gone", *ROOT, "sh").code == 127
    assert "gone" not in shell.engine.found


def test_an_exit_that_is_not_known(shell: Shell) -> None:
    shell.engine.exit = ended(-1, ExitReason.MONITOR_LOST)
    done = shell("run", *ROOT, "sh")
    assert done.code == 125
    assert "the exit code of the container is not known: monitor_lost" in done.err


def test_trace(shell: Shell) -> None:
    table = shell("run", "--trace", *ROOT, "sh").err.splitlines()
    assert [line.split()[0] for line in table] == ["settings", "create", "run", "clean", "total"]
    phases = json.loads(shell("run", "--trace=json", *ROOT, "sh").err)
    assert [each["phase"] for each in phases] == ["settings", "create", "run", "clean up"]
    assert shell("create", "--trace", *ROOT, "sh").err.startswith("create ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_go_to_the_container(shell: Shell, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    shell.engine.until = threading.Event()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    done = shell("run", "--name", "box", *ROOT, "sh")
    timer.join()
    assert done.code == 7
    assert ("kill", "box", number) in shell.engine.asked
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("number", "sent"), [(signal.SIGINT, signal.SIGKILL), (signal.SIGUSR1, signal.SIGUSR1)]
)
def test_a_signal_that_ends_elsewhere_ends_a_deaf_container(
    shell: Shell, number: signal.Signals, sent: signal.Signals
) -> None:
    shell.engine.until = threading.Event()
    shell.engine.dropped = {number}
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    shell("run", "--name", "box", *ROOT, "sh")
    timer.join()
    assert ("kill", "box", sent) in shell.engine.asked


def test_signals_that_were_ignored_stay_so(shell: Shell) -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        shell.engine.until = threading.Event()
        own = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR2))
        other = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        own.start()
        other.start()
        shell("run", "--name", "box", *ROOT, "sh")
        own.join()
        other.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert [what for what in shell.engine.asked if what[0] == "kill"] == [
        ("kill", "box", signal.SIGUSR1)
    ]


def test_bytes_arrive_whole_on_a_slow_descriptor(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = os.urandom(1 << 20)
    got: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(read, 9999):
            got.append(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    write_all(write, data)
    os.close(write)
    reader.join(20)
    os.close(read)
    assert b"".join(got) == data
