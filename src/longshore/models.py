"""The value types that users pass and get. All are frozen and compare by value."""

from __future__ import annotations

from enum import Enum

from longshore._value import Value, free_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import NewType

    ContainerId = NewType("ContainerId", str)
else:
    ContainerId = str

__all__ = [
    "ContainerId",
    "Device",
    "Event",
    "ExitInfo",
    "ExitReason",
    "Gap",
    "LogRecord",
    "Mount",
    "ProcessInfo",
    "RunResult",
    "Stats",
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
    START_FAILED = "start_failed"  # it never began; the code is that of the error: 125, 126, 127
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
    ``message`` says what else is known: why it was killed at once, why its code is not known, or
    why it could not be started.
    Times are nanoseconds since the epoch; ``started_at`` and ``finished_at`` are datetimes.
    """

    _nested = {"reason": ExitReason, "usage": Usage.from_json, "message": free_text}

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
    """What a command printed, and how it ended.

    With ``max_output`` each stream keeps its beginning; what came after it was read, counted and
    thrown away.
    """

    stdout: bytes
    stderr: bytes
    exit: ExitInfo
    stdout_dropped: int = 0  # bytes
    stderr_dropped: int = 0  # bytes

    @property
    def truncated(self) -> bool:
        """Whether any output is missing."""
        return bool(self.stdout_dropped or self.stderr_dropped)

    @property
    def text(self) -> str:
        """Standard output as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def returncode(self) -> int:
        """The exit code, as `subprocess.CompletedProcess` names it."""
        return self.exit.code


class Stats(Value):
    """What one container uses at one moment. A figure that this host cannot measure is None.

    Sizes are bytes, times seconds, counted since the run began and over all of its processes, those
    that have ended included. ``memory`` is all that is charged to it; ``working_set`` leaves out
    the file pages that it has not used lately and would lose first.
    """

    id: ContainerId
    name: str
    time_ns: int  # when it was measured, nanoseconds since the epoch
    started_ns: int | None = None
    memory: int | None = None
    working_set: int | None = None
    cache: int | None = None  # file pages
    swap: int | None = None
    memory_limit: int | None = None  # None is no limit
    cpu: float | None = None
    cpu_user: float | None = None
    cpu_system: float | None = None
    io_read: int | None = None
    io_written: int | None = None
    network_received: int | None = None  # None when it has the host's network
    network_sent: int | None = None
    pids: int | None = None
    pids_limit: int | None = None  # None is no limit

    def cpu_percent(self, before: Stats | None = None) -> float | None:
        """How many per cent of one CPU it used since ``before``, or since its run began."""
        if self.cpu is None:
            return None
        used = self.cpu - (before.cpu or 0.0 if before is not None else 0.0)
        since = before.time_ns if before is not None else self.started_ns
        if since is None or self.time_ns <= since:
            return None
        return max(0.0, used) / (self.time_ns - since) * 1e11


class ProcessInfo(Value):
    """One process of a container, as `top` sees it.

    ``pid``, ``ppid``, ``pgid`` and the names of users are those inside; ``ppid`` 0 is none there.
    """

    pid: int
    host_pid: int
    ppid: int = 0
    pgid: int = 0
    command: tuple[str, ...] = ()  # "[name]" for one without arguments, such as a zombie
    name: str = ""  # at most 15 characters
    state: str = "?"  # a letter as in ps(1)
    nice: int = 0
    terminal: str = "?"
    user: str = ""  # effective; a number where it has no name
    group: str = ""
    real_user: str = ""
    real_group: str = ""
    groups: tuple[str, ...] = ()
    host_uid: int = 0
    host_gid: int = 0
    cpu_user: float = 0.0  # seconds
    cpu_system: float = 0.0  # seconds
    started_ns: int = 0
    rss: int = 0  # bytes
    virtual: int = 0  # bytes
    threads: int = 1
    capabilities: Mapping[str, int] = {}  # masks: effective, permitted, inheritable, bounding
    seccomp: str = "disabled"  # disabled, strict, filter
    label: str = ""  # of the security module


class LogRecord(Value):
    """One piece of a container's output, as its log keeps it.

    ``data`` has the line's newline, unless ``partial``: then the line goes on in the next record of
    the same stream. Joining the data of all records of a stream gives exactly what was written.

    ``gap`` marks a record without data: what came before it and what comes after it may not follow
    each other, because a rotation threw away what is between them before it could be read.
    """

    _file = ""  # which file of the log it is in, and where it ends there; not compared
    _end = 0

    stream: str  # "stdout" or "stderr"
    time_ns: int  # nanoseconds since the epoch, when conmon read it; of a gap, when it was noticed
    data: bytes
    partial: bool = False
    gap: bool = False

    @property
    def cursor(self) -> str:
        """Its place, for ``logs(after=…)`` in any process, now or later; "" for a gap.

        Text without meaning of its own. It holds across rotations, for as long as the file is kept.
        """
        return f"{self._file}.{self._end}" if self._file else ""

    @property
    def time(self) -> datetime:
        """When conmon read it, in UTC."""
        moment = _moment(self.time_ns)
        assert moment is not None
        return moment


class Event(Value):
    """Something that happened to a container, or to an exec in it.

    ``seq`` is its number: it grows, with gaps, and is never given again. ``action`` is one of
    podman's words (podman-events(1)): create, init, start, attach, kill, stop, pause, unpause,
    restart, rename, update, exec, exec_died, died, cleanup, remove. More may come, so it is text.
    ``attributes`` say more of the action: signal (kill, stop), reason (died, an `ExitReason`),
    oldName (rename), execID (exec, exec_died).
    """

    _nested = {"image": free_text}

    seq: int
    time_ns: int  # nanoseconds since the epoch, when it was written down
    type: str  # "container"; more may come
    action: str
    id: str
    name: str  # at that time; the new one of a rename
    image: str = ""
    exit_code: int | None = None  # of died and exec_died
    labels: Mapping[str, str] = {}
    attributes: Mapping[str, str] = {}

    @property
    def time(self) -> datetime:
        """When it was written down, in UTC; it happened a moment before."""
        moment = _moment(self.time_ns)
        assert moment is not None
        return moment


class Gap(Value):
    """What a reader of events is told in the place of events that are not kept any more.

    Those with numbers above ``start`` and below ``end`` are lost to it. An ``end`` below ``start``
    means that the log was begun anew, or that a power cut took its end.
    """

    start: int
    end: int


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
