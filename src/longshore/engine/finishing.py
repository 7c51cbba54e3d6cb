"""After the end: write the exit down, clean up, remove. Also: take back what a crash left behind.

Everything here is idempotent and under the container's lock; whoever comes first does it.
"""

from __future__ import annotations

import contextlib
import os
import time

from longshore import _log
from longshore.engine import events, roots
from longshore.engine.monitors import end_calls, end_monitor
from longshore.engine.observe import Sight, find_monitor, look, read_exit_file
from longshore.engine.reasons import at_rest, exit_info
from longshore.errors import (
    LongshoreError,
    NoSuchContainer,
    OperationTimeout,
    RecordCorrupt,
    StoreError,
)
from longshore.lifecycle import Fact, Op, Status, require, step
from longshore.linux.cgroups import Cgroup
from longshore.linux.files import read_file, remove_file, remove_tree
from longshore.linux.processes import (
    is_alive,
    open_pidfd,
    send,
)
from longshore.linux.procs import poll_until
from longshore.linux.steps import appear_steps, run
from longshore.models import ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId
    from longshore.linux.steps import Steps
    from longshore.models import ExitInfo
    from longshore.options import ContainerConfig
    from longshore.runtime import Runtime
    from longshore.store import Record
    from longshore.store.records import Locked


_FORKS = 20  # conmon forks thrice; more would be another program's


@contextlib.contextmanager
def settled(
    machinery: Machinery,
    container_id: str,
    purpose: str,
    *,
    deadline: float | None = None,
    impatient: bool = False,
) -> Generator[Locked]:
    """Lock a container and bring its record up to date with the facts before the body runs.

    Busy when another operation holds it until the deadline (by default that of the settings);
    OperationTimeout when conmon does not say until then how it ended. ``impatient`` gives conmon
    no longer than a SIGKILL takes, and ends it then: what it did not say is MONITOR_LOST.
    """
    steps = settle_steps(machinery, container_id, purpose, deadline=deadline, impatient=impatient)
    with run(steps) as held:
        yield held


def settle_steps(
    machinery: Machinery,
    container_id: str,
    purpose: str,
    *,
    deadline: float | None = None,
    impatient: bool = False,
) -> Steps[Locked]:
    """Do what `settled` does, in steps; who gets the record lets go of its lock."""
    if deadline is None:
        deadline = time.monotonic() + machinery.settings.busy_timeout
    while True:
        held = yield from machinery.store.locked_steps(container_id, purpose, deadline=deadline)
        try:
            sight = reconcile(machinery, held)
        except BaseException:
            held.__exit__()
            raise
        if sight is None:
            return held
        held.__exit__()
        # Its program has ended and conmon is about to say how: not under the lock.
        patience = time.monotonic() + machinery.settings.kill_timeout
        until = min(deadline, patience) if impatient else deadline
        yield from exit_file_steps(machinery, container_id, sight, until)
        if impatient and time.monotonic() >= patience:
            end_monitor(machinery, sight.monitor)
        elif time.monotonic() >= deadline:
            conmon = sight.monitor.pid if sight.monitor is not None else 0
            raise OperationTimeout(
                f"conmon (process {conmon}) has not said how container {container_id[:12]} ended",
                hint="it may be stopped or hang; `longshore rm --force` ends it",
            )


def reconcile(machinery: Machinery, held: Locked) -> Sight | None:
    """Write down what can be seen. Returns a sight when conmon's word has to be awaited first."""
    record = held.record
    sight = look(machinery, record, locked=True)
    if sight.interrupted and not sight.rebooted:
        _resolve_start(machinery, held, sight)
        record = held.record
        sight = look(machinery, record, locked=True)
    if sight.rebooted:
        _after_reboot(machinery, held)
        return None
    if sight.status is Status.RUNNING:
        from longshore.engine.trees import end_orphans

        end_orphans(machinery, record)
    if record.run is not None and record.run.updating:
        from longshore.engine import updating

        updating.take_back(machinery, held, alive=sight.init is not None)
        record = held.record
    if sight.status is Status.STOPPED and record.status is not Status.STOPPED:
        # A conmon that could not tell its starter of its success ends without a word, and waits for
        # its exit command, which may be this very process: it would wait for ever in turn.
        silent = sight.monitor is None or sight.monitor.pid == os.getppid()
        if sight.exit is None and not silent:
            return sight
        _write_exit(machinery, held, sight)
    elif sight.status is not record.status:
        held.save(record.replace(status=sight.status))
    return None


def exit_file_steps(
    machinery: Machinery, container_id: str, sight: Sight, deadline: float | None = None
) -> Steps[None]:
    """Wait until conmon has written the exit file, or is gone."""
    monitor = open_pidfd(sight.monitor)
    if monitor is None:
        return
    try:
        path = machinery.paths(container_id).exit_file
        yield from appear_steps(path, deadline=deadline, also_fds=[monitor])
    except FileNotFoundError:
        return  # the whole container is gone
    finally:
        os.close(monitor)


def _after_reboot(machinery: Machinery, held: Locked) -> None:
    """Nothing of a run lives after a reboot; an exit that was not written down yet is."""
    record = held.record
    run = record.run
    assert run is not None
    if record.status in (Status.INITIALIZED, Status.RUNNING, Status.PAUSED):
        # A run directory that is not a tmpfs still has what conmon wrote, if it came to that.
        written = read_exit_file(machinery, record.id)
        lost = "" if written is not None else "the host was rebooted"
        record = record.with_exit(exit_info(record, written, lost=lost))
    status = step(record.status, Fact.REBOOTED)
    ended = record is not held.record
    held.save(record.replace(status=status, run=run.replace(actor=None)))
    if ended:
        events.emit_died(machinery, record)
    runtime = machinery.runtime_of(record)
    if runtime is not None:
        runtime.forget(record.id)
    end_execs(machinery, record.id)
    clear(machinery, record.id, record.config)


def _resolve_start(machinery: Machinery, held: Locked, sight: Sight) -> None:
    """A start was cut short: keep what lives, take back what does not."""
    record = held.record
    run = record.run
    assert run is not None
    monitor = sight.monitor or find_monitor(machinery, record.id)
    # conmon ends when it cannot tell the starter of its success: without it nobody would see the
    # output or the exit, so what has not begun yet is made again
    unwatched = monitor is None and sight.status is Status.INITIALIZED
    if sight.exit is not None or (sight.init is not None and not unwatched):
        started = run.started_ns
        if started is None and sight.status is not Status.INITIALIZED:
            started = time.time_ns()  # the best that is known: it runs now
        inner = run.inner_cgroup
        if sight.init is not None and not inner:
            begun = sight.status is not Status.INITIALIZED
            inner = machinery.placement_of(record).inner(sight.init.pid, begun=begun)
        held.save(
            record.replace(
                status=Status.RUNNING if sight.exit is not None else sight.status,
                run=run.replace(
                    actor=None,
                    init=sight.init,
                    monitor=monitor,
                    started_ns=started,
                    inner_cgroup=inner,
                ),
            )
        )
        # Who was cut short had not come to say so.
        if record.status is not Status.INITIALIZED:
            events.emit(machinery, "init", record)
        if held.record.status is not Status.INITIALIZED:
            events.emit(machinery, "start", record)
        return
    demolish(machinery, held)
    held.save(
        record.replace(
            status=at_rest(record),
            run=None,
            error=record.error or "its start was interrupted",
        )
    )


def _write_exit(machinery: Machinery, held: Locked, sight: Sight) -> None:
    """Write the one durable exit record of this run, before anybody is told."""
    record = held.record
    assert record.run is not None
    own = Cgroup(machinery.cgroup_layout, record.run.cgroup)
    info = exit_info(
        record,
        sight.exit,
        usage=own.usage(),
        oom_kills=own.oom_kills() or 0,
        lost="" if sight.exit is not None else "conmon is gone and left no exit file",
    )
    ended = record.run.replace(exit_mark=events.mark(machinery))
    status = step(record.status, Fact.ENDED)
    held.save(record.with_exit(info).replace(status=status, run=ended))
    events.emit_died(machinery, held.record)


def cleanup(
    machinery: Machinery, held: Locked, *, last: bool = False, attended: bool = False
) -> None:
    """Take away what a run leaves: processes, runtime state, mounts, cgroup. STOPPED → EXITED.

    ``last``: the record goes right afterwards, so that its new status need not be written.
    ``attended``: this is not conmon's exit command, so that conmon, which waits for it, can go.
    """
    record = held.record
    require(Op.CLEANUP, record.status, record.name)
    if record.status is not Status.STOPPED:
        return
    run = record.run
    assert run is not None
    events.make_up(machinery, record)
    end_tree(machinery, run.cgroup)
    end_execs(machinery, record.id)
    runtime = machinery.runtime_of(record)
    deleted = _deleting(runtime, record.id) if runtime is not None else None
    try:
        # Beside the runtime, which takes as long as all the rest.
        clear(machinery, record.id, record.config)
        if last and attended:
            end_monitor(machinery, run.monitor)
    finally:
        if deleted is not None:
            deleted()
    machinery.placement_of(record).remove()
    if not last:
        held.save(record.replace(status=step(record.status, Fact.CLEANED)))
    events.emit(machinery, "cleanup", record)


def clear(machinery: Machinery, container_id: str, config: ContainerConfig | None) -> None:
    """Unmount and remove the files of a run; the bundle's config and the runtime's log stay."""
    paths = machinery.paths(container_id)
    roots.unmount_root(machinery, container_id)
    remove_tree(paths.exit_dir)
    bundle = paths.bundle
    for path in (
        paths.pidfile,
        paths.conmon_pidfile,
        paths.attach_socket,
        paths.ctl_fifo,
        f"{bundle}/winsz",
        paths.oom_file,
        *((config.pidfile, config.conmon_pidfile) if config is not None else ()),
    ):
        if path:
            remove_file(path)


def end_tree(machinery: Machinery, cgroup: str) -> None:
    """Kill every process in a cgroup and below it, and wait until they are gone."""
    if cgroup:
        Cgroup(machinery.cgroup_layout, cgroup).end(machinery.settings.kill_timeout)


def end_execs(machinery: Machinery, container_id: str) -> None:
    """Write down how the exec sessions ended, now that their processes are gone."""
    if os.path.isdir(machinery.paths(container_id).live_execs):
        from longshore.engine import sessions

        sessions.end_all(machinery, container_id)


def _delete(runtime: Runtime, container_id: str) -> None:
    """Let the runtime forget a container whose processes are gone; do it for one that cannot."""
    _deleting(runtime, container_id)()


def _deleting(runtime: Runtime, container_id: str) -> Callable[[], None]:
    """Begin to let the runtime forget a container; what is returned ends that."""

    def finish() -> None:
        try:
            if begun is not None:
                begun()
                return
        except (LongshoreError, OSError):
            pass
        remove_tree(f"{runtime.state_dir}/{container_id}")

    try:
        begun = runtime.deleting(container_id)
    except (LongshoreError, OSError):
        begun = None
    return finish


def demolish(machinery: Machinery, held: Locked) -> None:
    """Take back a run by force, however far it came: conmon, processes, runtime state, mounts."""
    record = held.record
    run = record.run
    end_monitor(machinery, run.monitor if run is not None else None)
    # One that has forked just before it was ended has left another one, which would go on.
    for _ in range(_FORKS):
        monitor = find_monitor(machinery, record.id)
        if monitor is None:
            break
        end_monitor(machinery, monitor)
    placement = machinery.placement_of(record)
    cgroup = placement.own.path
    runtime = machinery.runtime_of(record)
    if runtime is not None and (run is None or run.init is None):
        end_calls(machinery, runtime, record.id)
    end_tree(machinery, cgroup)
    end_execs(machinery, record.id)
    if runtime is not None:
        _delete(runtime, record.id)
        runtime.forget(record.id)
    end_tree(machinery, cgroup)
    if not cgroup and run is not None:
        _end_init(run.init, machinery.settings.kill_timeout)
    clear(machinery, record.id, record.config)
    placement.remove()
    placement.remove_monitors()


def _end_init(init: ProcessId | None, patience: float) -> None:
    """Kill the init of a container without a cgroup: all of its pid namespace ends with it."""
    fd = open_pidfd(init)
    if fd is None:
        return
    try:
        send(init, 9)
        poll_until([fd], time.monotonic() + patience)
    finally:
        os.close(fd)


def after_exit(machinery: Machinery, container_id: str, *, attended: bool = False) -> None:
    """Do what conmon's exit command is for: write the exit down, clean up, remove if asked.

    ``attended`` is said by a process that is not that command: it also ends conmon, which would
    otherwise wait for the command.
    """
    with settled(machinery, container_id, "cleanup") as held:
        if held.record.status is not Status.STOPPED:
            return  # it was started again, or somebody was faster
        # One whose namespaces others use stays, as after `rm`.
        forget = held.record.config.remove and not _dependents(machinery, container_id)
        cleanup(machinery, held, last=forget, attended=attended)
        if forget:
            _forget(machinery, held.record, attended=attended)


def remove(
    machinery: Machinery, container_id: str, *, force: bool, deadline: float | None = None
) -> None:
    """Remove a container that does not run; with force, whatever its state. Its exit is kept.

    HasDependents when others use its namespaces.
    """
    try:
        with settled(machinery, container_id, "remove", deadline=deadline, impatient=force) as held:
            record = held.record
            require(Op.FORCE_REMOVE if force else Op.REMOVE, record.status, record.name)
            if _dependents(machinery, container_id):
                from longshore.engine import dependencies

                dependencies.refuse(machinery, container_id)
            if record.status is Status.STOPPED:
                cleanup(machinery, held, last=True, attended=True)
            elif record.status not in (Status.CREATED, Status.EXITED):
                _take_down(machinery, held)
            _forget(machinery, held.record, attended=True, force=force)
    except RecordCorrupt:
        if not force:
            raise
        from longshore.engine import damaged

        damaged.remove(machinery, container_id, deadline)


def _take_down(machinery: Machinery, held: Locked) -> None:
    """End a run that lives, or half lives, by force, and write that down."""
    record = held.record
    own = machinery.placement_of(record).own
    usage, oom_kills = own.usage(), own.oom_kills() or 0
    demolish(machinery, held)
    if record.run is not None and record.run.started_ns is not None:
        info = exit_info(
            record,
            None,
            usage=usage,
            oom_kills=oom_kills,
            reason=ExitReason.KILLED,
            code=137,
        )
        record = record.with_exit(info)
    ended = record is not held.record
    held.save(record.replace(status=step(record.status, Fact.CLEANED)))
    if ended:
        events.emit_died(machinery, record)


def _forget(machinery: Machinery, record: Record, *, attended: bool, force: bool = False) -> None:
    """Remove a cleaned container's record and files. Its lock is held.

    With ``force`` also where its last exit cannot be kept: removing it may be what makes room.
    """
    if record.exits:
        try:
            machinery.store.keep_exit(record.id, record.name, record.exits[-1])
        except StoreError as err:
            if not force:
                raise
            _log.warn(f"the last exit of container {record.name} is not kept: {err}")
    run = record.run
    if attended and run is not None and is_alive(run.monitor):
        # Its work is done: the exit is written down. Without this it would wait for its exit
        # command, which waits for the lock that we hold.
        end_monitor(machinery, run.monitor)
    machinery.store.remove(record.id, record.name)
    if record.mount_label:
        from longshore.oci.labels import level_of

        machinery.store.levels.let_go(level_of(record.mount_label), record.id)
    if record.config.mapped_uids:
        roots.unmount_root(machinery, record.id)
    if record.config.cidfile:
        _remove_cidfile(record.config.cidfile, record.id)
    if record.config.joined:
        from longshore.engine import dependencies

        dependencies.leave(machinery, record)
    events.emit(machinery, "remove", record)
    if run is not None:
        machinery.placement_of(record).remove_monitors()


def _remove_cidfile(path: str, container_id: str) -> None:
    """Remove the file with a container's id, as podman does since 4.4, if it still has this id."""
    try:
        if read_file(path) == container_id.encode():
            remove_file(path)
    except OSError as err:
        _log.warn(f"the cidfile {path} is not removed: {err.strerror}")


def _dependents(machinery: Machinery, container_id: str) -> dict[str, str]:
    """Return what `dependencies.of` does; few containers have any, and pay for it."""
    if not os.path.isdir(machinery.paths(container_id).dependents):
        return {}
    from longshore.engine import dependencies

    return dependencies.of(machinery, container_id)


def last_exit(machinery: Machinery, container_id: str) -> ExitInfo | None:
    """Return the last exit, of a container that is there or of one that was removed."""
    try:
        record = machinery.store.peek(container_id)
    except NoSuchContainer:
        return machinery.store.exit_record(container_id)
    return record.exits[-1] if record.exits else None
