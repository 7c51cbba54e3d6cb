"""What a container is now, computed from facts, without a lock and without a change.

Facts are the boot id, conmon's exit file, the identities of init and conmon, and the freezer. The
runtime is asked only where a start was cut short, because only it knows how far that start came.
"""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.cgroup.placement import is_own
from longshore.errors import CommandFailed, OperationTimeout, RecordCorrupt
from longshore.lifecycle import Fact, Status, step
from longshore.linux.cgroups import Cgroup
from longshore.linux.files import read_file
from longshore.linux.processes import ProcessId, boot_id, identify, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.store import Record, Run


class ExitFile(Value):
    """What conmon wrote: the exit code, and the time of the file in nanoseconds."""

    code: int
    time_ns: int


class Sight(Value):
    """One look at a container."""

    status: Status
    exit: ExitFile | None = None  # set when this run has ended and conmon has said how
    init: ProcessId | None = None  # alive, and only then
    monitor: ProcessId | None = None  # alive, and only then
    rebooted: bool = False
    interrupted: bool = False  # a start was cut short, and nobody is at it any more


def look(machinery: Machinery, record: Record, *, locked: bool = False) -> Sight:
    """Compute the status from facts. Lock-free; a moment later it may be different.

    ``locked`` says that the caller holds the lock: a start that has not been finished is then one
    that was cut short, whoever began it and whether that process lives or not. RecordCorrupt when
    the record contradicts itself.
    """
    run = record.run
    status = record.status
    _check(machinery, record)
    if run is None:
        return Sight(status=status)
    if status in (Status.CREATED, Status.EXITED) and run.actor is None:
        return Sight(status=status)
    if run.boot_id != boot_id():
        # A start that the reboot cut short never showed a status of its own.
        after = step(status, Fact.REBOOTED)
        return Sight(status=after, rebooted=True, interrupted=run.actor is not None)
    written = read_exit_file(machinery, record.id)
    if run.actor is not None:
        return _look_at_start(machinery, record, run, written, locked)
    monitor = run.monitor if is_alive(run.monitor) else None
    if written is not None:
        return Sight(status=step(status, Fact.ENDED), exit=written, monitor=monitor)
    if not is_alive(run.init):
        return Sight(status=step(status, Fact.ENDED), monitor=monitor)
    # Of a sandbox's pause no freezer knows: what its record says is what we did.
    if status in (Status.RUNNING, Status.PAUSED) and not run.sandboxed:
        cgroup = Cgroup(machinery.cgroup_layout, run.container_cgroup)
        frozen = cgroup.frozen()
        if frozen is not None:
            status = step(status, Fact.FROZEN if frozen else Fact.THAWED)
    return Sight(status=status, init=run.init, monitor=monitor)


def _check(machinery: Machinery, record: Record) -> None:
    """Refuse a record that can be read, and that Longshore has not written."""
    run = record.run
    why = ""
    if record.status is Status.DAMAGED:
        why = "it says so itself"
    elif run is None and record.status not in (Status.CREATED, Status.EXITED):
        why = f"it is {record.status.value}, and nothing is said of its run"
    elif run is not None and not is_own(run.cgroup, run.manager, record.id):
        # what is in there is killed at the end of the run
        why = f"the cgroup {run.cgroup!r} is not its own"
    if why:
        raise RecordCorrupt(machinery.paths(record.id).record, why)


def _look_at_start(
    machinery: Machinery, record: Record, run: Run, written: ExitFile | None, locked: bool
) -> Sight:
    """Look at a container whose start has not been finished (or never will be)."""
    if not locked and is_alive(run.actor):
        # In the middle of it: what its record says is as far as it came.
        return Sight(status=record.status)
    status = record.status
    if written is not None:
        status = step(step(status, Fact.MADE), Fact.ENDED)
        return Sight(status=status, exit=written, interrupted=True)
    runtime = machinery.runtime_of(record)
    state = None
    if runtime is not None:
        try:
            state = runtime.state(record.id)
        except (CommandFailed, OperationTimeout):
            pass  # missing, hanging or broken: what it made is found in its cgroup and taken away
    monitor = run.monitor or find_monitor(machinery, record.id)
    monitor = monitor if is_alive(monitor) else None
    init = identify(state.pid) if state is not None and state.pid > 0 else None
    states = ("created", "running", "paused")
    # the runtime's word is a moment old: its process may have ended since
    if state is None or state.status not in states or not is_alive(init):
        if monitor is not None or state is not None:
            # conmon, or what the runtime keeps, is still there and has to be taken away
            status = step(status, Fact.MADE)
            return Sight(status=status, monitor=monitor, interrupted=True)
        return Sight(status=status, interrupted=True)
    status = step(status, Fact.MADE)
    if state.status != "created":
        status = step(status, Fact.BEGUN)
    if state.status == "paused":
        status = step(status, Fact.FROZEN)
    return Sight(status=status, init=init, monitor=monitor, interrupted=True)


def read_exit_file(machinery: Machinery, container_id: str) -> ExitFile | None:
    """Return what conmon wrote for the current run, or None when it has not."""
    return parse_exit_file(machinery.paths(container_id).exit_file)


def parse_exit_file(path: str) -> ExitFile | None:
    """Return what conmon wrote to a path, or None when it has not."""
    try:
        data = read_file(path)
        if data is None:
            return None
        # conmon writes an int of C; anything else is not whole
        code = int(data[:20])
        written = ExitFile(code=code, time_ns=os.stat(path).st_mtime_ns)
    except (ValueError, FileNotFoundError, IsADirectoryError):
        return None
    return written if abs(code) < 1 << 31 else None


def find_monitor(machinery: Machinery, container_id: str) -> ProcessId | None:
    """Find a container's conmon when its start was cut short before anybody wrote it down.

    By its pid file, and else by its command line among all processes.
    """
    return find_conmon(machinery.paths(container_id).conmon_pidfile, container_id)


def find_conmon(pidfile: str, unit: str) -> ProcessId | None:
    """Find the conmon of a container or of an exec session, whose id is ``unit``."""
    from longshore.linux.processes import command_lines

    data = read_file(pidfile)
    candidates = [int(data)] if data is not None and data.strip().isdigit() else []
    for pid in candidates:
        process = identify(pid)
        if process is not None and _is_monitor(pid, _argv(pid), unit):
            return process
    for pid, argv in command_lines():
        if _is_monitor(pid, argv, unit):
            return identify(pid)
    return None


def _argv(pid: int) -> list[str]:
    try:
        data = read_file(f"/proc/{pid}/cmdline")
    except ProcessLookupError:  # it ended after it was opened
        return []
    return [os.fsdecode(a) for a in (data or b"").rstrip(b"\0").split(b"\0")]


def _is_monitor(pid: int, argv: list[str], unit: str) -> bool:
    # not -c: the conmon of an exec session is told of the container too
    if "-u" not in argv or argv[argv.index("-u") + 1 : argv.index("-u") + 2] != [unit]:
        return False
    # A process in the container can call itself what it likes; it cannot leave its root.
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/proc/self/root"))
    except OSError:
        return False
