"""never_reading_client: who does not read what a container prints delays nothing of it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlife import eventually, make, printed, ready
from longshore import Container, Engine

SIZE = 5_000_000
PRINTS = f"yes 0123456789 | head -c {SIZE}; exit 3"
FOR_EVER = "yes 0123456789"
PATIENCE = 2.0  # seconds by which a reader may seem to delay something
TRIES = 5  # of which one shows that: on a busy machine others come between

BLOCKS = ("blocking", "exit")
# How one is attached that never reads. Without a log a blocking one holds up what is printed, and
# is asked only to hold up nothing else.
READERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "log": ({}, {}),
    "no log": ({"log_driver": "none"}, {"buffer": 100_000}),
    "rotated": ({"log_opt": ["max-size=1m"]}, {"buffer": 100_000}),
    "blocking": ({"log_driver": "none"}, {"when_full": "block", "buffer": 100_000}),
}


def timed(box: Container, script: str) -> tuple[float, float]:
    """Let a container that was started end; return how long that took, and its removal."""
    began = time.monotonic()
    if script == FOR_EVER:
        time.sleep(0.5)  # until everything is full
        began = time.monotonic()
        assert box.stop(timeout=0) is not None
    else:
        assert box.wait(60).code == 3
    ended = time.monotonic()
    box.remove()
    return ended - began, time.monotonic() - ended


# But for what a blocking one waits for: see `test_a_blocking_reader_is_waited_for`.
CASES = [(kind, how) for kind in READERS for how in ("exit", "stop") if (kind, how) != BLOCKS]


@pytest.mark.parametrize(("kind", "end"), CASES)
def test_nothing_is_delayed(engine: Engine, busybox_rootfs: Path, kind: str, end: str) -> None:
    options, how = READERS[kind]
    script = {"exit": PRINTS, "stop": FOR_EVER}[end]
    delays = []
    for _ in range(TRIES):
        box = make(engine, busybox_rootfs, script, **options)
        box.start()
        alone = timed(box, script)
        box = make(engine, busybox_rootfs, script, **options)
        with box.attach(start=True, **how):
            watched = timed(box, script)
        delays.append([w - a for w, a in zip(watched, alone, strict=True)])
        if max(delays[-1]) < PATIENCE:
            return
    pytest.fail(f"seconds by which the end and the removal were delayed: {delays}")


def test_what_was_dropped_is_counted(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, PRINTS, log_driver="none")
    with box.attach(start=True, buffer=100_000) as attached:
        box.wait(60)
        eventually(lambda: box.inspect().monitor_pid is None)
        assert attached.dropped == 0  # as far as its reader has come
        rest = b"".join(data for _, data in attached)
        assert 50_000 < len(rest) <= 100_000
        assert attached.dropped + len(rest) == SIZE
        assert rest in b"0123456789\n" * 10_000  # the end of it, in one piece


def test_a_slow_reader_of_a_log_misses_nothing(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, PRINTS)
    with box.attach(start=True) as attached:
        box.wait(60)
        assert sum(len(data) for _, data in attached) == SIZE
        assert attached.dropped == 0


def test_a_blocking_reader_is_waited_for(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, PRINTS, log_driver="none")
    with box.attended(), box.attach(start=True, when_full="block", buffer=1000) as attached:
        time.sleep(0.5)
        assert box.status.value == "running"
        assert sum(len(data) for _, data in attached) == SIZE
        assert attached.dropped == 0
        assert box.wait(10).code == 3


# --- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def unread(dirs: tuple[Path, Path], runtime: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose output nobody reads."""
    program = str(Path(sys.executable).with_name("longshore"))
    own = [program, "--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]
    with subprocess.Popen([*own, *words], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_command_whose_output_is_not_read(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path], runtime: str
) -> None:
    words = ["run", "--name", "box", "--rootfs", str(busybox_rootfs), "sh", "-c", PRINTS]
    with unread(dirs, runtime, *words):
        eventually(lambda: any(b.name == "box" for b in engine.list(all=True)))
        box = engine.get("box")
        assert box.wait(60).code == 3
        assert len(printed(box)) == SIZE
    box.remove()


@pytest.mark.parametrize("words", [("attach", "--no-stdin", "box"), ("logs", "-f", "box")])
def test_an_observer_that_is_stopped(
    engine: Engine,
    busybox_rootfs: Path,
    dirs: tuple[Path, Path],
    runtime: str,
    words: tuple[str, ...],
) -> None:
    script = f"echo ready; read go; {PRINTS}"
    box = make(engine, busybox_rootfs, script, interactive=True, name="box")
    with box.attach(start=True, stdin=True) as owner:
        ready(box)
        with (
            engine.events(actions=["attach"]) as events,
            unread(dirs, runtime, *words) as observer,
        ):
            assert observer.stdout is not None
            if words[0] == "attach":
                next(events)
            else:
                assert observer.stdout.readline() == b"ready\n"
            observer.send_signal(signal.SIGSTOP)
            owner.write(b"go\n")
            assert box.wait(60).code == 3
            box.remove()
