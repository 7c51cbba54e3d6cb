"""Start an exec session: a second process in a container, under a conmon of its own.

The container's lock is not taken: any number can be started side by side, and a stop waits for
none of them. What makes that safe is the order. The record comes first, and says who is at work;
then what can be found from it. Nothing is made above the session's own directories and cgroup, so
what comes after the container's end fails and is taken back.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

from longshore import _log
from longshore.engine import events, observe, sessionexit, sessions
from longshore.engine.execution import describe
from longshore.engine.names import new_id
from longshore.engine.trees import container_ooms, end_orphans
from longshore.errors import (
    HostUnsupported,
    InvalidArgument,
    LongshoreError,
    MonitorGone,
    WrongState,
)
from longshore.lifecycle import Op, Status, require
from longshore.linux.files import read_file, write_atomic
from longshore.linux.processes import boot_id, identify, parent_of
from longshore.monitor.launch import CreationRefused
from longshore.monitor.session import SessionHandshake, SessionLaunch
from longshore.runtime.driver import EXEC
from longshore.store.sessions import SessionRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.options.execs import ExecConfig
    from longshore.store import Record


def start(
    machinery: Machinery, container_id: str, config: ExecConfig, *, awaited: bool = False
) -> str:
    """Start a session and return its id; its program has begun then. RUNNING → RUNNING.

    ``awaited``: its starter waits for its end, whatever happens, and kills it if it cannot.
    WrongState when the container does not run (at once, and also when it ends meanwhile);
    ProgramNotFound and ProgramNotExecutable when the runtime says so. Nothing is left of a start
    that fails.
    """
    record = machinery.store.peek(container_id)
    sight = observe.look(machinery, record)
    require(Op.EXEC, sight.status, record.name)
    _check_preserved(config)
    run = record.run
    assert run is not None and sight.init is not None
    _check_terminal(machinery, record, config)
    end_orphans(machinery, record)
    sessions.sweep(machinery, container_id)
    session_id = new_id()
    session = SessionRecord(
        id=session_id,
        config=config,
        run=run.number,
        boot_id=boot_id(),
        cgroup=sessions.cgroup_path(run.container_cgroup, session_id),
        created_ns=time.time_ns(),
        actor=identify(os.getpid()),
        oom_before=container_ooms(machinery, run.container_cgroup),
    )
    try:
        _start(machinery, record, session, sight.init.pid, awaited=awaited)
    except BaseException as error:
        shown = _taken_back(machinery, record, session, error)
        if shown is error:
            raise
        raise shown from error
    return session_id


def _check_preserved(config: ExecConfig) -> None:
    if config.preserve_fds != tuple(range(3, 3 + len(config.preserve_fds))):
        raise InvalidArgument(
            f"preserve_fds: {list(config.preserve_fds)} cannot go through a monitor",
            hint="use 3, 4, … in this order, or run it attached and without a terminal",
        )


def _check_terminal(machinery: Machinery, record: Record, config: ExecConfig) -> None:
    runtime = machinery.runtime_of(record)
    sandboxed = record.run is not None and record.run.sandboxed
    if not (config.tty and sandboxed) or runtime is None or runtime.exec_has_terminal():
        return
    raise HostUnsupported(
        f"a process with a terminal was asked for in container {record.name}",
        f"{runtime.name}, whose exec has no --tty, by which conmon asks for one",
        hint="run it without a terminal",
    )


def _start(
    machinery: Machinery, record: Record, session: SessionRecord, init: int, *, awaited: bool
) -> None:
    """Take every step of a start, in an order in which each can be the last."""
    runtime = machinery.runtime_of(record)
    assert runtime is not None  # it runs
    conmon = machinery.conmon
    store = sessions.store_of(machinery, record.id)
    store.create(session)
    paths = store.paths(session.id)
    for directory in (os.path.dirname(paths.run), paths.run):  # and none above
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    inner = f"{paths.run}/inner" if record.run is not None and record.run.sandboxed else ""
    if inner:
        write_atomic(inner, b"")
    tree = sessions.SessionTree(machinery, record.id, session.cgroup)
    confined = bool(record.run and record.run.cgroup) and runtime.confines()
    config = session.config
    preserved = len(config.preserve_fds)
    launch = SessionLaunch(
        container_id=record.id,
        session_id=session.id,
        name=record.name,
        runtime=runtime.path,
        runtime_args=runtime.global_args(paths.runtime_log),
        exec_args=runtime.monitored_args(
            cgroup=tree.name if confined else "", preserve_fds=preserved, inner_pid_file=inner
        ),
        process=paths.process,
        bundle=paths.run,
        pidfile=paths.pidfile,
        conmon_pidfile=paths.conmon_pidfile,
        log=f"k8s-file:{paths.log}",
        exit_dir=paths.home,
        terminal=config.tty,
        stdin=config.stdin,
        exit_command=() if awaited else sessionexit.command(machinery, record, session.id),
        log_level="debug" if _log.is_debugging() else "warning",
    )
    before = time.time_ns()
    spawning = machinery.spawning
    with SessionHandshake(
        conmon,
        launch,
        env=machinery.conmon_env,
        preserved=preserved,
        spawning=spawning,
        entering=machinery.entering(),
    ) as handshake:
        # As for a container: the kernel lets us wait while it moves conmon.
        trouble: list[str] = []
        monitor_pid = handshake.pid
        placement = machinery.placement_of(record)
        placing = threading.Thread(
            target=lambda: trouble.append(placement.place_monitor(monitor_pid, session.id)),
            name="placing conmon",
        )
        placing.start()
        try:
            process = describe(machinery, record, config, init)
            if confined:
                tree.cgroup.create(parents=False)
            else:
                from longshore.engine.marked import MARKER

                process["env"] = [*process["env"], f"{MARKER}={tree.name}"]
            write_atomic(paths.process, json.dumps(process).encode())
        finally:
            placing.join()
        handshake.release()
        pid = handshake.container_pid(machinery.settings.create_timeout)
    if trouble and trouble[0]:
        _log.warn(f"conmon of an exec in {record.name} stays in its starter's cgroup: {trouble[0]}")
    # conmon's first process has ended, and wrote this file before it did
    data = read_file(paths.conmon_pidfile)
    monitor = identify(int(data)) if data is not None and data.strip().isdigit() else None
    # its pid can be another's by now, if it has ended
    own = monitor is not None and parent_of(pid) == monitor.pid
    process_id = identify(pid) if own else None
    with store.locked(session.id, "exec") as held:
        held.save(
            session.replace(actor=None, process=process_id, monitor=monitor, started_ns=before)
        )
        events.emit_exec(machinery, "exec", record, session.id)
    if record.config.log_size_max > 0:
        from longshore.engine import supervisor

        supervisor.ensure(machinery, record, wait=False)  # there is one more log to rotate


def _taken_back(
    machinery: Machinery, record: Record, session: SessionRecord, error: BaseException
) -> BaseException:
    """Undo a start that failed; return the error to raise. Failures of the undoing are notes."""
    shown = error
    try:
        runtime = machinery.runtime_of(record)
        log = sessions.store_of(machinery, record.id).paths(session.id).runtime_log
        said = isinstance(error, CreationRefused)
        # crun's words for a terminal do not come through conmon
        said = said or (isinstance(error, MonitorGone) and bool(read_file(log)))
        if said and runtime is not None:
            words = str(error) if isinstance(error, CreationRefused) else ""
            program = session.config.command[0]
            shown = runtime.failed(words, EXEC, record.name, log=log, program=program)
        sessions.demolish(machinery, record.id, session.id)
        if isinstance(shown, (LongshoreError, OSError)) and not isinstance(shown, WrongState):
            now = machinery.store.peek(record.id)
            status = observe.look(machinery, now).status
            if status is Status.RUNNING and now.run is not None and sessions.is_ending_run(now.run):
                status = Status.STOPPED  # in a moment
            require(Op.EXEC, status, record.name)
    except WrongState as wrong:
        return wrong
    except (LongshoreError, OSError) as err:
        shown.add_note(f"and cleaning up failed: {err}")
    if isinstance(shown, OSError):
        what = f"{shown.filename}: {shown.strerror}" if shown.filename else shown
        return LongshoreError(f"cannot run a process in container {record.name}: {what}")
    return shown
