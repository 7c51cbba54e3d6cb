"""`run`: what is asked of the engine, what is shown, what it ends with."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_standin import NOW, ended

from longshore.cli.run import write_all
from longshore.errors import ProgramNotFound
from longshore.models import ExitReason, LogRecord

if TYPE_CHECKING:
    from conftest import Shell

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


def test_standard_input_is_fed_only_when_asked(shell: Shell) -> None:
    shell("run", *ROOT, "sh")
    assert "feed" not in verbs(shell)
    shell("run", "-i", *ROOT, "sh")
    for thread in threading.enumerate():
        if thread.name == "stdin":
            thread.join(10)
    assert ("feed", "new", 0) in shell.engine.asked


def test_no_log_is_no_output(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.engine.records = [LogRecord(stream="stdout", time_ns=NOW, data=b"a\n")]
    assert shell("run", "--log-driver=none", *ROOT, "sh").out == ""


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
