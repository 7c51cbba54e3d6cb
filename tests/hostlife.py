"""What tests of whole containers share: making them, waiting for their words, killing programs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from longshore import Container, Engine
from longshore.engine.trace import Trace
from longshore.linux import inotify

SLEEP = "exec sleep 1000"  # as pid 1 it catches nothing
TRAPS = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done"
REFUSES = "trap 'echo no' TERM; echo ready; while :; do sleep 1000 & wait; done"
# Time limits for what prints something and then runs out of its time: the first is enough, unless
# the machine is so busy that it has not begun by then.
LIMITS = (0.5, 2.0, 8.0, 30.0)  # seconds
# What a process that is to be killed runs to its end instead of: neither 0 nor a signal.
_ESCAPED = 70


def make(engine: Engine, rootfs: Path, script: str, **options: Any) -> Container:
    """Create a container that runs a shell script."""
    return engine.create(command=["sh", "-c", script], rootfs=rootfs, **options)


def started(engine: Engine, rootfs: Path, script: str, **options: Any) -> Container:
    """Create a container that runs a shell script, and start it."""
    box = make(engine, rootfs, script, **options)
    box.start()
    return box


def ready(box: Container) -> Container:
    """Wait for the first thing that a container prints."""
    records = box.logs(follow=True)
    next(records)
    records.close()  # type: ignore[attr-defined]  # a generator
    return box


def printed(box: Container) -> bytes:
    """Return what a container's log has now."""
    return b"".join(record.data for record in box.logs())


def eventually(what: Callable[[], object], patience: float = 10.0) -> None:
    """Wait for something that nothing tells about; it fails after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(0.01)


def asleep(thread: threading.Thread) -> bool:
    """Whether a thread waits, with Longshore's means, for something to happen.

    It has looked at what is by then, and misses nothing that comes from now on.
    """
    assert thread.ident is not None
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if frame.f_code is inotify.poll.__code__:
            return True
        frame = frame.f_back
    return False


def await_end(pid: int, patience: float = 10.0) -> None:
    """Wait until a process that is not our child has ended."""
    import select

    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        assert poller.poll(patience * 1000), f"process {pid} still runs after {patience} s"
    finally:
        os.close(fd)


def kill_monitor(box: Container) -> None:
    """SIGKILL a container's conmon, and wait until it is gone."""
    pid = box.inspect().monitor_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await_end(pid)


def kill_init(box: Container, number: int = signal.SIGKILL) -> None:
    """Signal a container's pid 1 from outside, behind Longshore's back."""
    pid = box.inspect().pid
    assert pid is not None
    os.kill(pid, number)


@contextlib.contextmanager
def forked(body: Callable[[], object]) -> Iterator[int]:
    """Run ``body`` in a forked process; yields its pid. It is killed and reaped in the end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException as error:
            print(f"in the fork: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def in_fork(body: Callable[[], object]) -> int:
    """Run ``body`` in a forked process to its end; return the code, −n for signal n."""
    with forked(body) as pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Fatal(Trace):
    """A trace whose n-th mark kills this process."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    def mark(self, phase: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def fatal_call(number: int) -> None:
    """Kill this process as it enters the n-th function of Longshore from now on."""
    left = number

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "call" and "/longshore/" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def count_calls(body: Callable[[], object]) -> int:
    """Return how many functions of Longshore ``body`` enters, in a process of its own."""
    reader, writer = os.pipe()

    def counted() -> None:
        calls = 0

        def profile(frame: FrameType, event: str, _: object) -> None:
            nonlocal calls
            calls += event == "call" and "/longshore/" in frame.f_code.co_filename

        sys.setprofile(profile)
        body()
        sys.setprofile(None)
        os.write(writer, str(calls).encode())

    try:
        assert in_fork(counted) == 0
        return int(os.read(reader, 100))
    finally:
        os.close(reader)
        os.close(writer)
