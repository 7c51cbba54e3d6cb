"""The value types that users pass and get. All are frozen and compare by value."""

from __future__ import annotations

from enum import Enum

from longshore._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import NewType

    ContainerId = NewType("ContainerId", str)
else:
    ContainerId = str

__all__ = [
    "ContainerId",
    "Device",
    "ExitInfo",
    "ExitReason",
    "LogRecord",
    "Mount",
    "RunResult",
    "Ulimit",
    "Usage",
]


class ExitReason(Enum):
    """Why a container, or an exec, ended."""

    EXITED = "exited"  # its program returned
    SIGNALED = "signaled"  # a signal that Longshore did not send ended it
    OOM_KILLED = "oom_killed"  # the kernel killed it at its memory limit
    TIMEOUT = "timeout"  # its time limit was over
    STOPPED = "stopped"  # `stop`, and it obeyed the stop signal
    STOP_ESCALATED = "stop_escalated"  # `stop`, and it had to be killed
    KILLED = "killed"  # `kill` with a signal that ended it
    OWNER_DIED = "owner_died"  # the process that owned it is gone
    START_FAILED = "start_failed"  # it never began
    MONITOR_LOST = "monitor_lost"  # the exit code is not known: conmon died, or the host rebooted


class Usage(Value):
    """What a run used in all. A figure that this host cannot measure is None, never 0."""

    memory_peak: int | None = None  # bytes
    cpu_user: float | None = None  # seconds
    cpu_system: float | None = None  # seconds
    io_read: int | None = None  # bytes from block devices
    io_written: int | None = None  # bytes to block devices
    pids_peak: int | None = None  # tasks alive at the same time, at most


class ExitInfo(Value):
    """How a run ended: one durable record, the same before, during and after removal.

    ``code`` is 0–255 as a shell would see it (128 + n for signal n), or −1 when it cannot be known.
    ``signal`` is the n of such a code, else None. That is a reading and not a fact: conmon's exit
    file has 137 both for ``exit 137`` and for SIGKILL (conmon 2.1.6 and 2.1.13, measured).
    ``message`` says what else is known: why it was killed at once, or why its code is not known.
    Times are nanoseconds since the epoch; ``started_at`` and ``finished_at`` are datetimes.
    """

    _nested = {"reason": ExitReason, "usage": Usage.from_json}

    code: int
    reason: ExitReason
    signal: int | None = None
    oom_killed: bool = False
    started_ns: int | None = None
    finished_ns: int | None = None
    usage: Usage = Usage()
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether its program returned 0."""
        return self.code == 0 and self.reason is ExitReason.EXITED

    @property
    def started_at(self) -> datetime | None:
        """When its program began, in UTC; None if it never did."""
        return _moment(self.started_ns)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, in UTC, as conmon saw it; None if that is not known."""
        return _moment(self.finished_ns)


def _moment(ns: int | None) -> datetime | None:
    if ns is None:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC)


class RunResult(Value):
    """What a command printed, and how it ended."""

    stdout: bytes
    stderr: bytes
    exit: ExitInfo

    @property
    def text(self) -> str:
        """Standard output as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def returncode(self) -> int:
        """The exit code, as `subprocess.CompletedProcess` names it."""
        return self.exit.code


class LogRecord(Value):
    """One piece of a container's output, as its log keeps it.

    ``data`` has the line's newline, unless ``partial``: then the line goes on in the next record of
    the same stream. Joining the data of all records of a stream gives exactly what was written.
    """

    stream: str  # "stdout" or "stderr"
    time_ns: int  # nanoseconds since the epoch, when conmon read it
    data: bytes
    partial: bool = False

    @property
    def time(self) -> datetime:
        """When conmon read it, in UTC."""
        moment = _moment(self.time_ns)
        assert moment is not None
        return moment


class Mount(Value):
    """Something mounted in a container. ``options`` are those of mount(8) and the runtime-spec."""

    type: str  # bind, tmpfs, devpts, mqueue, ramfs …
    target: str  # absolute, inside the container
    source: str = ""  # absolute, on the host; empty for tmpfs and its like
    options: tuple[str, ...] = ()


class Ulimit(Value):
    """One resource limit. ``name`` is the runtime-spec's (RLIMIT_NOFILE); −1 is unlimited."""

    name: str
    soft: int
    hard: int


class Device(Value):
    """A device of the host, and where and how a container sees it."""

    source: str
    target: str
    permissions: str = "rwm"
