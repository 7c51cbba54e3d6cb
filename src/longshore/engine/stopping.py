"""Signals, freezing, stop with escalation, and what an init process can receive at all."""

from __future__ import annotations

import os
import time

from longshore._value import Value
from longshore.engine import events, finishing
from longshore.engine.observe import look
from longshore.engine.waiting import await_exit, checked_seconds, exit_steps
from longshore.errors import (
    CommandFailed,
    HostUnsupported,
    LongshoreError,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
    WrongState,
)
from longshore.lifecycle import Op, Status, require
from longshore.linux.cgroups import Cgroup
from longshore.linux.processes import (
    ProcessId,
    is_alive,
    open_pidfd,
    program_of,
    send,
    signal_masks,
)
from longshore.linux.procs import poll_until
from longshore.linux.steps import Sleep
from longshore.linux.steps import run as all_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.linux.steps import Steps
    from longshore.models import ExitInfo
    from longshore.store import Record

_SIGKILL = 9
_EXEC = 0.1  # seconds; an init that was started a moment ago has become its program by then


class StopPolicy(Value):
    """How to end a container: a signal, the grace it gets, and whether SIGKILL follows.

    ``grace`` is in seconds; 0 goes straight to SIGKILL. ``fast``: a signal that init cannot receive
    is not waited for.
    """

    signal: int
    grace: float
    fast: bool = True


def send_signal(machinery: Machinery, container_id: str, number: int) -> None:
    """Send a signal to a container's init. RUNNING or PAUSED; what it causes is up to init.

    A paused container receives SIGKILL too: it is thawed so that it can die.
    """
    with finishing.settled(machinery, container_id, "kill") as held:
        record = held.record
        require(Op.KILL, record.status, record.name)
        run = record.run
        assert run is not None
        if run.intent in ("", "kill"):  # a stop or a time limit under way stays what it is
            held.save(record.replace(run=run.replace(intent="kill", intent_signal=number)))
        runtime = machinery.runtime_of(record)
        assert runtime is not None
        try:
            if run.sandboxed and number == _SIGKILL:
                _signal(machinery, record, number)
            else:
                runtime.kill(record.id, number)
        except RuntimeFailed as error:
            held.save(record)  # what it dies of is not this signal
            _refuse_ended(machinery, record, Op.KILL, error)
            raise
        events.emit(machinery, "kill", record, attributes={"signal": str(number)})
        if number == _SIGKILL and record.status is Status.PAUSED:
            _thaw(machinery, record)


def require_cgroup(record: Record, op: Op) -> None:
    """Raise HostUnsupported for what is done to the cgroup of a container that runs without one.

    Its files would be those of whatever cgroup it was started in, or of the hierarchy's root.
    """
    if record.run is not None and not record.run.cgroup:
        raise HostUnsupported(
            f"to {op.value} container {record.name} needs a cgroup of its own",
            "none: this user may make none here",
            hint="log in with systemd as your user's manager, or run it as root",
        )


def freeze(machinery: Machinery, container_id: str, op: Op) -> None:
    """Freeze (PAUSE) or thaw (UNPAUSE) all processes. RUNNING → PAUSED, PAUSED → RUNNING."""
    with finishing.settled(machinery, container_id, op.value) as held:
        record = held.record
        after = require(op, record.status, record.name)
        runtime = machinery.runtime_of(record)
        assert runtime is not None
        require_cgroup(record, op)
        try:
            if op is Op.PAUSE:
                runtime.pause(record.id)
            else:
                runtime.resume(record.id)
        except RuntimeFailed as error:
            _refuse_ended(machinery, record, op, error)
            raise
        held.save(record.replace(status=after))
        events.emit(machinery, op.value, record)


def _refuse_ended(machinery: Machinery, record: Record, op: Op, error: RuntimeFailed) -> None:
    """Raise WrongState when a call failed because the status has changed since it was looked at."""
    try:
        require(op, look(machinery, record, locked=True).status, record.name)
    except WrongState as wrong:
        raise wrong from error


def stop_steps(
    machinery: Machinery,
    container_id: str,
    policy: StopPolicy | None = None,
    *,
    signal: int | None = None,
    timeout: float | None = None,
    fast: bool = True,
) -> Steps[ExitInfo | None]:
    """Stop a container and return how it ended. What does not run is fine (None: it never ran).

    ``signal`` and ``timeout`` (seconds) default to the container's own. Nothing is locked while it
    has its grace. LongshoreError when the kernel does not finish it (S17). A step may take the
    container's lock and run the runtime; left at one, the stop is half done.
    """
    if timeout is not None:
        timeout = checked_seconds(timeout)
    with finishing.settled(machinery, container_id, "stop") as held:
        record = held.record
        require(Op.STOP, record.status, record.name)
        run = record.run
        if run is None or record.status in (Status.CREATED, Status.STOPPED, Status.EXITED):
            return record.exits[-1] if record.exits else None
        config = record.config
        if policy is None:
            policy = StopPolicy(
                signal=config.stop_signal if signal is None else signal,
                grace=config.stop_timeout if timeout is None else timeout,
                fast=fast,
            )
        # what can be seen of a sandbox are its own signals, and not those of what is in it
        fast = policy.fast and not run.sandboxed
        # Before its signals are looked at, which are those of the runtime's own init until this
        # becomes the container's program.
        program = _program(run.init)
        deaf = fast and _cannot_receive(run.init, policy.signal)
        why = f"its pid 1 cannot receive signal {policy.signal}, so it was killed at once"
        note = why if deaf and policy.grace > 0 else ""
        deaf = deaf or record.status is Status.INITIALIZED
        gently = policy.grace > 0 and policy.signal != _SIGKILL and not deaf
        held.save(
            record.replace(
                run=run.replace(
                    intent="stop" if gently else "escalate",
                    intent_signal=policy.signal,
                    note=note,
                )
            )
        )
        sent = policy.signal if gently else _SIGKILL
        events.emit(machinery, "stop", record, attributes={"signal": str(sent)})
        # Under the lock: a moment later its id may be that of another run.
        _signal(machinery, record, sent, everyone=not gently)
    if gently:
        grace = policy.grace
        if fast and grace > _EXEC and not (yield from _gone_steps(run.init, _EXEC)):
            # What got the signal may have been the runtime's own init, a moment before it became
            # the container's program; if that cannot receive it, nobody will.
            changed = _program(run.init) != program
            lost = changed and _cannot_receive(run.init, policy.signal)
            grace = 0.0 if lost else grace - _EXEC
            note = why if lost else ""
        if (yield from _gone_steps(run.init, grace)):
            return (yield from exit_steps(machinery, container_id, of_run=run.number))
        with finishing.settled(machinery, container_id, "stop") as held:
            now = held.record
            if now.run is None or now.run.number != run.number or now.status is Status.STOPPED:
                return now.exits[-1] if now.exits else None
            held.save(now.replace(run=now.run.replace(intent="escalate", note=note)))
            _signal(machinery, record, _SIGKILL, everyone=True)
    yield from _death_steps(machinery, record)
    return (yield from exit_steps(machinery, container_id, of_run=run.number))


def _death_steps(machinery: Machinery, record: Record) -> Steps[None]:
    """Wait until a container's init, to which SIGKILL was sent, is gone."""
    run = record.run
    assert run is not None
    timeout = machinery.settings.kill_timeout
    # A pause that comes between freezes it with the signal pending (cgroup v1): thaw it again.
    patience = 0.1
    while not (yield from _gone_steps(run.init, min(patience, timeout))):
        Cgroup(machinery.cgroup_layout, run.container_cgroup).thaw()
        # runc 1.1 looks for those to kill in the hierarchy of devices, out of which systemd can
        # have moved them (version 1, measured)
        send(run.init, _SIGKILL)
        if patience >= timeout:
            break
        patience *= 2
    if is_alive(run.init):
        raise LongshoreError(
            f"container {record.name} has not ended {timeout:g} s after SIGKILL",
            hint="a process in uninterruptible sleep (state D) can do this; try again later",
        )


def time_out(machinery: Machinery, container_id: str) -> ExitInfo:
    """Kill a container because its time is over, and return how it ended."""
    with finishing.settled(machinery, container_id, "time out") as held:
        record = held.record
        run = record.run
        alive = record.status in (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)
        if alive and run is not None:
            held.save(record.replace(run=run.replace(intent="timeout", intent_signal=_SIGKILL)))
            _signal(machinery, record, _SIGKILL, everyone=True)
    if alive:
        all_steps(_death_steps(machinery, record))
    number = None if run is None else run.number
    return await_exit(machinery, container_id, of_run=number)


def remove_live(machinery: Machinery, container_id: str) -> None:
    """Kill a container that lives, so that it can be removed; what does not live is fine."""
    with finishing.settled(machinery, container_id, "remove", impatient=True) as held:
        record = held.record
        run = record.run
        if run is None or record.status not in (Status.RUNNING, Status.PAUSED):
            return
        if not is_alive(run.monitor):
            return  # nobody will say how it ended: `finishing.remove` takes it down by force
        held.save(record.replace(run=run.replace(intent="kill", intent_signal=_SIGKILL)))
        try:
            _signal(machinery, record, _SIGKILL, everyone=True)
        except CommandFailed:
            return  # its runtime is missing or broken: `finishing.remove` does without it
    all_steps(_death_steps(machinery, record))


def _signal(machinery: Machinery, record: Record, number: int, *, everyone: bool = False) -> None:
    """Send a signal through the runtime; that its target has just ended is success.

    The container is locked. ``everyone`` is every process, where the user is root (S17).
    """
    run = record.run
    runtime = machinery.runtime_of(record)
    assert run is not None and runtime is not None
    try:
        if run.sandboxed and record.status is Status.PAUSED:
            runtime.resume(record.id)  # what is paused there is sent no signal
        runtime.kill(record.id, number, everyone=everyone and machinery.user is None)
    except (ProgramNotFound, ProgramNotExecutable):
        send(run.init, number)  # its runtime is gone: what can be reached without is its init
    except RuntimeFailed:
        if run.sandboxed and number == _SIGKILL:
            send(run.init, number)  # the sandbox, with all that is in it
        elif is_alive(run.init):
            raise
    _thaw(machinery, record)


def _thaw(machinery: Machinery, record: Record) -> None:
    """A frozen process can neither handle a signal nor die of it."""
    assert record.run is not None
    if record.status is Status.PAUSED:
        Cgroup(machinery.cgroup_layout, record.run.container_cgroup).thaw()


def _gone_steps(init: ProcessId | None, seconds: float) -> Steps[bool]:
    """Wait until a process has ended (True), or its time is over."""
    fd = open_pidfd(init)
    if fd is None:
        return True
    deadline = time.monotonic() + seconds
    try:
        while not poll_until([fd], 0.0):
            if time.monotonic() >= deadline:
                return False
            yield Sleep(fds=(fd,), deadline=deadline)
        return True
    finally:
        os.close(fd)


def _program(init: ProcessId | None) -> bytes | None:
    return None if init is None else program_of(init.pid)


def _cannot_receive(init: ProcessId | None, number: int) -> bool:
    """Whether the kernel would drop a signal: init of a pid namespace that neither catches, blocks
    nor waits for it (pid_namespaces(7)), or any process that ignores it."""
    # Twice, because a process can go into sigwait(3) or come out of it between two looks.
    return init is not None and _is_deaf(init.pid, number) and _is_deaf(init.pid, number)


def _is_deaf(pid: int, number: int) -> bool:
    masks = signal_masks(pid)
    if masks is None or masks.waits or number in masks.blocked:
        return False
    if number in masks.ignored:
        return True
    return masks.is_namespace_init and number not in masks.caught


def drops_default(machinery: Machinery, container_id: str, number: int) -> bool:
    """Whether a signal would end any other process, and is dropped because it goes to a pid 1.

    A signal that init ignores on purpose is not meant.
    """
    run = machinery.store.peek(container_id).run
    init = None if run is None or run.sandboxed else run.init
    masks = signal_masks(init.pid) if init is not None and is_alive(init) else None
    if masks is None or not masks.is_namespace_init:
        return False
    return number not in masks.caught | masks.blocked | masks.ignored
