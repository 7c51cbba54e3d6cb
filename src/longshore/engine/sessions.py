"""Exec sessions: second processes under a conmon of their own, which any process can find again.

What a session is, is computed from facts as for a container: its exit file, the identities of its
process and of its conmon, the boot id. Its exit file lies beside the record, so the code and the
time are durable at once; the rest (usage, reason, the cgroup, the files of the run) is done by
whoever looks next, by conmon's exit command (`engine.sessionexit`), and by the container's end at
the latest. A start that was cut short never was: nobody had been told of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from longshore import _log
from longshore.cgroup.placement import SYSTEMD
from longshore.engine import events
from longshore.engine.monitors import end_monitor
from longshore.engine.observe import Sight, find_conmon, parse_exit_file
from longshore.engine.reasons import decide, start_failed
from longshore.engine.trees import Tree, container_ooms, inside
from longshore.errors import (
    Busy,
    LongshoreError,
    NoSuchContainer,
    NoSuchExec,
    OperationTimeout,
    RecordCorrupt,
)
from longshore.lifecycle import Status
from longshore.linux.cgroups import Cgroup
from longshore.linux.files import remove_tree
from longshore.linux.inotify import IN_CREATE, IN_DELETE_SELF, IN_MOVED_TO, Watch
from longshore.linux.processes import boot_id, is_alive, is_ending, open_pidfd
from longshore.linux.steps import Sleep, appear_steps, run
from longshore.models import ExitInfo, ExitReason
from longshore.monitor import logs as monitor_logs
from longshore.runtime.driver import EXEC, LATE_CODES
from longshore.store.sessions import LockedSession, SessionRecord, SessionStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId
    from longshore.linux.steps import Steps
    from longshore.store import Run

_SIGKILL = 9
_CGROUP = "session-"  # and the id: what its cgroup is called
_MOST_WORDS = 8192  # bytes of a log that says why a program could not be executed
# crun paints what it says on a terminal (1.21, 1.28)
_RED = rb"(?:\x1b\[1;31m)?(.*?)(?:\x1b\[0m)?\r?\n"
_ENDED_BY_US = (ExitReason.KILLED, ExitReason.TIMEOUT)


class SessionTree(Tree):
    """All processes of one session, which has a record instead of an owner's file."""

    __slots__ = ()

    def __init__(self, machinery: Machinery, container_id: str, cgroup: str) -> None:
        self._machinery = machinery
        self._container_id = container_id
        self._container = Cgroup(machinery.cgroup_layout, os.path.dirname(cgroup))
        self.name = os.path.basename(cgroup)
        self.cgroup = self._container.child(self.name)
        self.confined = self.cgroup.exists()
        self.path = ""
        self.inside = None
        run_dir = machinery.paths(container_id).session(self.name.removeprefix(_CGROUP)).run
        pid_file = f"{run_dir}/inner"
        if os.path.exists(pid_file):  # made before anything else, where there is to be one
            self.inside = inside(machinery, machinery.store.peek(container_id), pid_file)


def store_of(machinery: Machinery, container_id: str) -> SessionStore:
    """Return the records of a container's sessions."""
    return SessionStore(machinery.store, container_id)


def look(machinery: Machinery, container_id: str, record: SessionRecord) -> Sight:
    """Compute a session's status from facts: CREATED (being started), RUNNING, STOPPED or EXITED.

    STOPPED is ended, and not written down yet. Lock-free; ``init`` is its main process.
    """
    if record.exit is not None:
        return Sight(status=Status.EXITED)
    written = parse_exit_file(machinery.paths(container_id).session(record.id).exit_file)
    if record.boot_id != boot_id():
        return Sight(status=Status.STOPPED, exit=written, rebooted=True)
    if record.actor is not None:
        return Sight(status=Status.CREATED, interrupted=not is_alive(record.actor))
    monitor = record.monitor if is_alive(record.monitor) else None
    if written is None and is_alive(record.process):
        return Sight(status=Status.RUNNING, init=record.process, monitor=monitor)
    return Sight(status=Status.STOPPED, exit=written, monitor=monitor)


def live(machinery: Machinery, container_id: str) -> list[str]:
    """Return the ids of the sessions that run now. Takes no lock."""
    store = store_of(machinery, container_id)
    found: list[str] = []
    for session_id in store.live_ids():
        with contextlib.suppress(NoSuchExec, RecordCorrupt):
            if look(machinery, container_id, store.peek(session_id)).status is Status.RUNNING:
                found.append(session_id)
    return found


def every(machinery: Machinery, container_id: str) -> list[str]:
    """Return the ids of all sessions that are known, the oldest first. Takes no lock.

    One that is damaged hides no other, and is left out, as is one that is being started.
    """
    machinery.store.peek(container_id)  # NoSuchContainer
    store = store_of(machinery, container_id)
    found: list[tuple[int, str]] = []
    for session_id in store.ids():
        with contextlib.suppress(NoSuchExec, RecordCorrupt):
            record = store.peek(session_id)
            if record.actor is None:
                found.append((record.created_ns, session_id))
    return [session_id for _, session_id in sorted(found)]


# --- the end -----------------------------------------------------------------------------------


def exit_steps(
    machinery: Machinery, container_id: str, session_id: str, *, timeout: float | None = None
) -> Steps[ExitInfo]:
    """Wait until a session has ended and return its durable exit, in steps.

    ``timeout`` is in seconds; OperationTimeout changes nothing. The answer is the same after the
    session was removed, for a while; then it is NoSuchExec.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        record = None
        try:
            record = yield from settle_steps(machinery, container_id, session_id, deadline=deadline)
        except Busy:
            if deadline is None or time.monotonic() < deadline:
                raise
        except NoSuchExec:
            kept = store_of(machinery, container_id).kept_exit(session_id)
            if kept is None:
                raise
            return kept
        if record is not None and record.exit is not None:
            return record.exit
        if record is None or (deadline is not None and time.monotonic() >= deadline):
            raise OperationTimeout(
                f"exec session {session_id[:12]} has not ended within {timeout:g} s",
                hint="it was left as it is; `kill` ends it",
            )
        sight = look(machinery, container_id, record)
        if sight.status is Status.RUNNING and sight.monitor is None:
            yield from _end_of_steps(sight.init, deadline)
        elif sight.status is Status.RUNNING:
            yield from _exit_file_steps(machinery, container_id, record, deadline)
        elif sight.status is Status.CREATED:
            yield from start_steps(machinery, container_id, record, deadline)


def settle_steps(
    machinery: Machinery,
    container_id: str,
    session_id: str,
    *,
    deadline: float | None = None,
    purpose: str = "wait for an exec",
) -> Steps[SessionRecord]:
    """Bring a session's record up to date, in steps: write down an end, and clean up after it.

    One that is over, or that still runs, takes no lock; of one whose killer was killed the rest is
    done. Busy at the deadline, by default that of
    the settings. At a deadline of the caller's an end of which conmon has not told yet is not
    written down.
    """
    store = store_of(machinery, container_id)
    patience = time.monotonic() + machinery.settings.busy_timeout
    while True:
        record = store.peek(session_id)
        sight = look(machinery, container_id, record)
        if _needs_nothing(machinery, container_id, record, sight):
            return record
        if _is_to_come(sight):
            # Its process has ended and conmon is about to say how.
            yield from _exit_file_steps(machinery, container_id, record, deadline)
            if deadline is not None and time.monotonic() >= deadline:
                return record
            continue
        held = yield from store.locked_steps(session_id, purpose, deadline=deadline or patience)
        with held:
            _settle(machinery, container_id, held)
            return held.record


def settle(
    machinery: Machinery, container_id: str, session_id: str, deadline: float | None = None
) -> SessionRecord:
    """Do what `settle_steps` does, here and now."""
    return run(settle_steps(machinery, container_id, session_id, deadline=deadline))


def _needs_nothing(
    machinery: Machinery, container_id: str, record: SessionRecord, sight: Sight
) -> bool:
    if sight.status is Status.EXITED:
        return not os.path.lexists(machinery.paths(container_id).session(record.id).run)
    if sight.status not in (Status.CREATED, Status.RUNNING) or sight.interrupted:
        return False
    return not _is_half_killed(machinery, record, sight)


def _is_half_killed(machinery: Machinery, record: SessionRecord, sight: Sight) -> bool:
    """Whether a session is frozen for its end, by somebody who may have ended before that came."""
    if sight.status is not Status.RUNNING or record.intent_signal != _SIGKILL:
        return False
    return bool(Cgroup(machinery.cgroup_layout, record.cgroup).frozen())


def _is_to_come(sight: Sight) -> bool:
    """Whether a session has ended and conmon will still say how.

    One that could not write its exit file runs its exit command all the same, and waits for it. So
    that command, which asks here for the process that it is in, does not wait for conmon in turn.
    """
    told = sight.status is not Status.STOPPED or sight.exit is not None
    return not told and sight.monitor is not None and sight.monitor.pid != os.getppid()


def _settle(machinery: Machinery, container_id: str, held: LockedSession) -> None:
    """Write an end down and clean up after it. The session's lock is held."""
    record = held.record
    sight = look(machinery, container_id, record)
    if _needs_nothing(machinery, container_id, record, sight):
        return
    if sight.interrupted:
        demolish(machinery, container_id, record.id)
        raise NoSuchExec(f"the start of exec session {record.id[:12]} was cut short")
    if _is_half_killed(machinery, record, sight):
        SessionTree(machinery, container_id, record.cgroup).end()
        return  # conmon is about to say how: the caller comes again
    if _is_to_come(sight):
        return  # seen otherwise before the lock was had: the caller comes again
    if sight.status is Status.STOPPED:
        info = _exit_info(machinery, container_id, record, sight)
        held.save(record.replace(exit=info))
        events.emit_exec(machinery, "exec_died", container_id, record.id, exit_code=info.code)
    try:
        _clear(machinery, container_id, held.record)
    except (LongshoreError, OSError) as err:
        # how it ended is written down; what is left is tried again by whoever looks next
        _log.warn(f"cleaning up after exec session {record.id[:12]}: {err}")


def _exit_info(
    machinery: Machinery, container_id: str, record: SessionRecord, sight: Sight
) -> ExitInfo:
    usage, oom_kills = SessionTree(machinery, container_id, record.cgroup).usage()
    if oom_kills is None and record.oom_before is not None:
        now = container_ooms(machinery, os.path.dirname(record.cgroup))
        oom_kills = max(0, (now or 0) - record.oom_before)
    oom_kills = oom_kills or 0
    written = sight.exit
    if written is None or written.code < 0:
        return ExitInfo(
            code=-1,
            reason=ExitReason.MONITOR_LOST,
            oom_killed=oom_kills > 0,
            started_ns=record.started_ns,
            # The moment of a reboot is not known; that of a lost conmon is when it was noticed.
            finished_ns=None if sight.rebooted else time.time_ns(),
            usage=usage,
            message="the host was rebooted" if sight.rebooted else "its conmon left no exit file",
        )
    refused = _refused(machinery, container_id, record, written.code)
    if refused is not None:
        info = start_failed(refused.exit_code, str(refused))
        return info.replace(finished_ns=written.time_ns, usage=usage)
    reason, number = decide(
        written.code,
        intent=record.intent,
        intent_signal=record.intent_signal,
        oom_kills=oom_kills,
        timed_out=False,
    )
    message = ""
    # the kernel kills what is in a pid namespace when its first process ends; `stop` the rest
    killed = reason is ExitReason.SIGNALED and number == _SIGKILL
    if killed and not _container_runs(machinery, container_id, record):
        reason, message = ExitReason.KILLED, "its container ended"
    return ExitInfo(
        code=written.code,
        reason=reason,
        signal=number,
        oom_killed=oom_kills > 0,
        started_ns=record.started_ns,
        finished_ns=written.time_ns,
        usage=usage,
        message=message,
    )


def _refused(
    machinery: Machinery, container_id: str, record: SessionRecord, code: int
) -> LongshoreError | None:
    """Return why a session's program was never executed; None when it was.

    A runtime that detaches has said that all is well before it calls execve(2); what that says
    comes as the program's own words and exit code.
    """
    paths = machinery.paths(container_id).session(record.id)
    try:
        if code <= 0 or not (os.path.getsize(paths.runtime_log) or code in LATE_CODES):
            return None
        container = machinery.store.peek(container_id)
        small = os.path.getsize(paths.log) < _MOST_WORDS
    except (OSError, NoSuchContainer, RecordCorrupt):
        return None
    runtime = machinery.runtime_of(container)
    if runtime is None or container.run is None or container.run.init is None:
        return None
    out, err = monitor_logs.capture(paths.log) if small else (b"", b"")
    words = re.sub(_RED, rb"\1\n", out) if record.config.tty else b"" if out else err
    program = record.config.command[0]
    error, path = runtime.exec_failed(
        container.name, program, code, log=paths.runtime_log, words=words
    )
    if error is None and path:
        from longshore.oci.programs import is_executable

        if not is_executable(f"/proc/{container.run.init.pid}/root", path):
            said = words.decode("utf-8", "replace")
            error = runtime.failed(said, EXEC, container.name, log=None, program=program)
    return error


def _container_runs(machinery: Machinery, container_id: str, record: SessionRecord) -> bool:
    """Whether the run of the container that a session is in still goes on."""
    try:
        container = machinery.store.peek(container_id).run
    except (NoSuchContainer, RecordCorrupt):
        return False
    return container is not None and container.number == record.run and not is_ending_run(container)


def is_ending_run(container: Run) -> bool:
    """Whether a container has ended, or somebody is just killing all that is in it."""
    killed = container.intent in ("escalate", "timeout") or (
        container.intent == "kill" and container.intent_signal == _SIGKILL
    )
    return killed or is_ending(container.init)


def _clear(machinery: Machinery, container_id: str, record: SessionRecord) -> None:
    """Take away what a session leaves when it is over. What it left running stays.

    Its processes are the container's from now on, unless somebody wanted them to end.
    """
    tree = SessionTree(machinery, container_id, record.cgroup)
    killed = record.intent == "timeout" or record.intent_signal == _SIGKILL
    if killed and record.exit is not None and record.exit.reason in _ENDED_BY_US:
        tree.end()
    else:
        tree.give_to_container()
    if tree.cgroup.remove():
        # last: this directory says that there is something to do
        remove_tree(machinery.paths(container_id).session(record.id).run)


def demolish(machinery: Machinery, container_id: str, session_id: str) -> None:
    """Take a session back by force, however far it came, and forget it."""
    paths = machinery.paths(container_id).session(session_id)
    end_conmon(machinery, container_id, session_id)
    try:
        record = machinery.store.peek(container_id)
    except (NoSuchContainer, RecordCorrupt):
        record = None
    if record is not None and record.run is not None:
        path = cgroup_path(record.run.container_cgroup, session_id)
        tree = SessionTree(machinery, container_id, path)
        tree.end()
        tree.cgroup.remove()
        if record.run.manager == SYSTEMD:
            machinery.placement_of(record).remove_monitors(session_id)
    remove_tree(paths.run)
    store_of(machinery, container_id).remove(session_id)


def end_conmon(machinery: Machinery, container_id: str, session_id: str) -> None:
    """End a session's conmon, however it is found, and a runtime that it has begun."""
    pidfile = machinery.paths(container_id).session(session_id).conmon_pidfile
    while (monitor := find_conmon(pidfile, session_id)) is not None:
        end_monitor(machinery, monitor)
        if is_alive(monitor):
            return  # the kernel does not end it: nothing that could be done here


def cgroup_path(container: str, session_id: str) -> str:
    """Return the path of a session's cgroup; ``container`` is that of the container's.

    Where that has none, neither has the session: what is left of the path is its name.
    """
    name = f"{_CGROUP}{session_id}"
    return f"{container}/{name}" if container else name


def sweep(machinery: Machinery, container_id: str) -> None:
    """Clean up after sessions that ended while nobody looked, or whose start was cut short."""
    store = store_of(machinery, container_id)
    for session_id in store.live_ids():
        # one that cannot be ended, or read, keeps nobody from starting another
        with contextlib.suppress(LongshoreError, OSError):
            settle(machinery, container_id, session_id, time.monotonic())
    store.sweep()


def end_all(machinery: Machinery, container_id: str) -> None:
    """Write the ends of all sessions down, because those of their container have come.

    The container's lock is held and its processes are gone: what is still to come is a word of
    each conmon. One that does not say it in time is ended.
    """
    store = store_of(machinery, container_id)
    deadline = time.monotonic() + machinery.settings.kill_timeout
    for session_id in store.live_ids():
        try:
            record = store.peek(session_id)
            if record.actor is not None:  # also while that lives: it will see what has happened
                demolish(machinery, container_id, session_id)
                continue
            record = settle(machinery, container_id, session_id, deadline)
            if record.exit is None:
                end_conmon(machinery, container_id, session_id)
                settle(machinery, container_id, session_id)
            end_monitor(machinery, record.monitor)  # it may still wait for its exit command
        except (LongshoreError, OSError):  # damaged, or held by a process that hangs
            end_conmon(machinery, container_id, session_id)
        remove_tree(machinery.paths(container_id).session(session_id).run)
    with contextlib.suppress(OSError):
        os.rmdir(machinery.paths(container_id).live_execs)


def _exit_file_steps(
    machinery: Machinery, container_id: str, record: SessionRecord, deadline: float | None
) -> Steps[None]:
    """Wait until conmon has written a session's exit file, or is gone."""
    monitor = open_pidfd(record.monitor)
    if monitor is None:
        return
    try:
        path = machinery.paths(container_id).session(record.id).exit_file
        yield from appear_steps(path, deadline=deadline, also_fds=[monitor])
    except FileNotFoundError:
        return  # the session was removed
    finally:
        os.close(monitor)


def start_steps(
    machinery: Machinery, container_id: str, record: SessionRecord, deadline: float | None
) -> Steps[None]:
    """Wait until who is starting a session has finished that, or is gone."""
    actor = open_pidfd(record.actor)
    if actor is None:
        return
    store = store_of(machinery, container_id)
    try:
        with Watch() as watch:
            home = store.paths(record.id).home
            watch.add(home, IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF)
            if store.peek(record.id) == record:
                yield Sleep(fds=(watch.fileno(), actor), deadline=deadline)
    except FileNotFoundError:
        return  # taken back
    finally:
        os.close(actor)


def _end_of_steps(process: ProcessId | None, deadline: float | None) -> Steps[None]:
    fd = open_pidfd(process)
    if fd is None:
        return
    try:
        yield Sleep(fds=(fd,), deadline=deadline)
    finally:
        os.close(fd)
