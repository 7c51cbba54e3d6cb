"""Start a container: its root and bundle, conmon, the runtime's create, the runtime's start.

Every step is written down before it is taken, so that whoever comes after a crash can tell how far
it came (`engine.observe`) and take it back (`engine.finishing.demolish`).
"""

from __future__ import annotations

import json
import os
import threading
import time

from longshore import _log
from longshore.cgroup.placement import SYSTEMD
from longshore.engine import events, finishing, readiness
from longshore.engine.monitors import end_monitor
from longshore.engine.reasons import at_rest, start_failed
from longshore.engine.trace import UNTRACED
from longshore.errors import LongshoreError, OperationTimeout
from longshore.lifecycle import Fact, Op, Status, require, step
from longshore.linux.files import (
    make_directory,
    read_file,
    remove_file,
    remove_tree,
    write_atomic,
)
from longshore.linux.processes import ProcessId, boot_id, identify
from longshore.monitor.launch import CreationRefused, Handshake, Inherited, Launch
from longshore.store import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore.cgroup.placement import Placement
    from longshore.engine.machinery import Machinery
    from longshore.engine.trace import Trace
    from longshore.options import ContainerConfig
    from longshore.runtime import Runtime
    from longshore.store.records import Locked


def start(
    machinery: Machinery,
    container_id: str,
    *,
    deadline: float | None = None,
    trace: Trace = UNTRACED,
    prepared: Callable[[], None] | None = None,
    created: Callable[[], None] | None = None,
    console_size: tuple[int, int] | None = None,
) -> bool:
    """Start a container; one that runs already is fine. CREATED, STOPPED, EXITED → RUNNING.

    Returns whether it was this call that began it.

    A start that fails takes everything back, keeps the reason in the record, as its error and as
    an exit START_FAILED, and raises it. One that its caller cuts short (Ctrl-C, say) has not
    failed: it leaves no exit. ``prepared`` is called when the run directory is there and conmon is
    not yet, ``created`` when conmon listens and the program has not begun. ``console_size`` is that
    of its terminal, (rows, columns).
    """
    with finishing.settled(machinery, container_id, "start", deadline=deadline) as held:
        status = held.record.status
        require(Op.START, status, held.record.name)
        if status is Status.RUNNING:
            return False
        if status is Status.STOPPED:
            finishing.cleanup(machinery, held)
        if held.record.run is not None and status is not Status.INITIALIZED:
            # The last run's conmon may still wait for its exit command, for which nothing is left.
            end_monitor(machinery, held.record.run.monitor)
        trace.mark("lock")
        if status is not Status.INITIALIZED:
            _init(machinery, held, trace, prepared, console_size)
        elif console_size is not None:
            from longshore.monitor.attach import resize

            resize(machinery.paths(container_id).winsz_fifo, *console_size)
        _begin(machinery, held, trace, created)
    return True


def _init(
    machinery: Machinery,
    held: Locked,
    trace: Trace,
    prepared: Callable[[], None] | None,
    console_size: tuple[int, int] | None,
) -> None:
    """Bring a container to INITIALIZED: its init exists and waits. Everything or nothing."""
    record = held.record
    config = record.config
    name = config.name
    own = identify(os.getpid())
    bundle = _Bundle()
    try:
        with _Phase("create", name, "finding its programs"):
            placement = machinery.placement(config, record.id)
            runtime = machinery.runtime(config.runtime, placement.manager)
            conmon = machinery.conmon
            entering = machinery.entering()
            if config.mapped_uids:
                # else the runtime makes a cgroup that the container's root cannot look into
                entering = ("/bin/sh", "-c", 'umask 022; exec "$@"', "sh", *entering)
            sandboxed = runtime.sandboxes()
            given = readiness.given(machinery, config, sandboxed=sandboxed)
        if machinery.selinux is not None or config.selinux_opts:
            from longshore.engine import confinement

            with _Phase("create", name, "choosing its SELinux labels"):
                record = confinement.labelled(machinery, record)
        held.save(
            record.replace(
                run=Run(
                    number=record.starts + 1,
                    boot_id=boot_id(),
                    runtime=runtime.name,
                    runtime_path=runtime.path,
                    # the user's come last, and win
                    runtime_flags=(
                        *(runtime.sandbox_flags(config.network) if sandboxed else ()),
                        *runtime.flags,
                    ),
                    sandboxed=sandboxed,
                    cgroup=placement.own.path,
                    manager=placement.manager,
                    actor=own,
                ),
                starts=record.starts + 1,
                error="",
            )
        )
        if sandboxed:
            runtime = machinery.runtime_of(held.record) or runtime  # with the flags of this run
        trace.mark("intent")
        with _Phase("create", name, "making its directories"):
            launch = _describe(machinery, held, runtime, given)
            if prepared is not None:
                prepared()
        trace.mark("directories")
        with _Phase("create", name, "starting conmon"):
            handshake = Handshake(
                conmon,
                launch,
                env={**machinery.conmon_env, **given.env},
                keep_fds=given.sockets,
                spawning=machinery.spawning,
                entering=entering,
            )
        with handshake:
            trace.mark("conmon spawn")
            # Moving a process into a cgroup makes the kernel wait for a grace period of 5–20 ms in
            # which nothing runs, and systemd takes about as long; the bundle is built meanwhile.
            placing = _Placing(placement, 0 if config.cgroups == "no-conmon" else handshake.pid)
            placing.start()
            try:
                _make_bundle(
                    machinery, held, runtime, given, placement, bundle, trace, console_size
                )
                trace.mark("bundle")
            finally:
                placing.join()
            with _Phase("create", name, "making its cgroup"):
                placing.check()
            handshake.release()
            trace.mark("conmon cgroup")
            _load_ahead()
            pid = handshake.container_pid(machinery.settings.create_timeout)
            trace.mark("runtime create")
        if placing.trouble:
            # Its place is a convenience, not a condition (S6).
            _log.warn(
                f"conmon of container {name} stays in its starter's cgroup: {placing.trouble}"
            )
        if bundle.token is not None:
            runtime.learn(bundle.token, record.id)
        with _Phase("create", name, "writing its pid files"):
            _remember(machinery, held, placement, pid, own)
        trace.mark("record created")
        if config.log_size_max > 0:
            from longshore.engine import supervisor

            supervisor.ensure(machinery, held.record, wait=True)
            trace.mark("supervisor")
    except BaseException as error:
        shown = _taken_back(machinery, held, error, program=bundle.program)
        if shown is error:
            raise
        raise shown from error


def _load_ahead() -> None:
    """Import what comes after a start, while the runtime works and there is nothing else to do."""
    from longshore.engine import logs, waiting

    del logs, waiting


def _begin(
    machinery: Machinery, held: Locked, trace: Trace, created: Callable[[], None] | None
) -> None:
    """Bring a container from INITIALIZED to RUNNING."""
    record = held.record
    run = record.run
    assert run is not None
    runtime = machinery.runtime_of(record)
    assert runtime is not None
    manager = readiness.Manager(machinery, record)
    before = time.time_ns()
    try:
        manager.starting()
        if created is not None:
            with _Phase("start", record.name, "connecting to its streams"):
                created()
        if record.config.ipc.startswith("container:"):
            from longshore.engine import joining

            with _Phase("start", record.name, "sharing /dev/shm"):
                joining.share_shm(machinery, record)
        with _Phase("start", record.name, f"calling {runtime.name}"):
            log = machinery.paths(record.id).runtime_log
            runtime.start(record.id, log=log, subject=record.name)
        trace.mark("runtime start")
        held.save(
            record.replace(
                status=step(record.status, Fact.BEGUN),
                run=run.replace(actor=None, started_ns=before),
            )
        )
        trace.mark("record started")
        events.emit(machinery, "start", held.record)
        manager.started()
    except BaseException as error:
        manager.failed()
        shown = _taken_back(machinery, held, error)
        if shown is error:
            raise
        raise shown from error


class _Phase:
    """One step of a start. An error that leaves it says which, and of which container."""

    __slots__ = ("_cannot", "_doing")

    def __init__(self, verb: str, name: str, doing: str) -> None:
        self._cannot = f"cannot {verb} container {name}: "
        self._doing = doing

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, LongshoreError):
            if not str(error).startswith(self._cannot):
                error.args = (f"{self._cannot}{self._doing}: {error}",)
        elif isinstance(error, OSError):
            what = f"{error.filename}: {error.strerror}" if error.filename else error
            raise LongshoreError(f"{self._cannot}{self._doing}: {what}") from error


class _Placing(threading.Thread):
    """Makes what the container's cgroup needs, and moves conmon into its own.

    ``trouble`` says afterwards why conmon could not be moved.
    """

    def __init__(self, placement: Placement, pid: int) -> None:
        super().__init__(name="placing conmon")
        self._placement = placement
        self._pid = pid
        self._error: LongshoreError | OSError | None = None
        self.trouble = ""

    def run(self) -> None:
        """Do it."""
        try:
            self.trouble = self._placement.prepare(self._pid)
        except (LongshoreError, OSError) as err:
            self._error = err.with_traceback(None)  # this frame has it: no cycle

    def check(self) -> None:
        """Raise what keeps the container from having a cgroup."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


class _Bundle:
    """What is known once a bundle is made: what it executes, what the runtime may `learn`."""

    __slots__ = ("program", "token")

    def __init__(self) -> None:
        self.program = ""
        self.token: str | None = None


def _make_bundle(
    machinery: Machinery,
    held: Locked,
    runtime: Runtime,
    given: Inherited,
    placement: Placement,
    bundle: _Bundle,
    trace: Trace,
    console_size: tuple[int, int] | None,
) -> None:
    """Mount the root and write the config.json."""
    # Imported here, beside the kernel's grace period, and not before conmon is spawned.
    from longshore.engine import roots
    from longshore.engine.context import spec_context
    from longshore.oci.build import build_spec

    record = held.record
    if machinery.selinux is not None:
        from longshore.engine import confinement

        with _Phase("create", record.name, "relabelling its volumes"):
            confinement.relabel_volumes(record)
        trace.mark("relabelled")
    with _Phase("create", record.name, "mounting its root"):
        root = roots.mount_root(machinery, record)
    trace.mark("root")
    with _Phase("create", record.name, "building its specification"):
        config = record.config
        seen = roots.seen(machinery, root)
        spec = build_spec(config, spec_context(machinery, record, root, lookup_root=seen))
        endless = "pids" not in spec["linux"].get("resources", {})
        extra = placement.annotations(
            config.stop_signal, config.stop_timeout, endless_tasks=endless
        )
        if extra:
            spec["annotations"] = {**extra, **spec.get("annotations", {})}
        process = spec["process"]
        bundle.program = (process.get("args") or [""])[0]
        readiness.hand_over(given, spec, machinery.paths(record.id).bundle, record.mount_label)
        if console_size is not None and process.get("terminal"):
            # crun 1.8.1 and runc 1.1.5 set it before they execute the program (measured)
            process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
        bundle.token = runtime.adapt(spec)
        write_atomic(machinery.paths(record.id).config, json.dumps(spec).encode())


def _describe(machinery: Machinery, held: Locked, runtime: Runtime, given: Inherited) -> Launch:
    """Make the directories of a run, and say what conmon is told."""
    record = held.record
    config = record.config
    # conmon puts what -s adds before all else: if the runtime is run by env(1), before its name
    systemd_cgroup = (
        record.run is not None and record.run.manager == SYSTEMD and not given.hidden_env
    )
    paths = machinery.paths(record.id)
    machinery.layout.prepare()
    make_directory(runtime.state_dir)
    remove_tree(paths.run)
    make_directory(paths.bundle)
    make_directory(paths.exit_dir, 0o750)
    remove_file(paths.exit_file)
    log = "none" if config.log_driver == "none" else f"k8s-file:{config.log_path or paths.log}"
    old_files = _kept_by_conmon(machinery, config)
    return Launch(
        container_id=record.id,
        name=config.name,
        runtime=runtime.path,
        runtime_args=runtime.global_args(paths.runtime_log, by_conmon=systemd_cgroup),
        systemd_cgroup=systemd_cgroup,
        bundle=paths.bundle,
        pidfile=paths.pidfile,
        conmon_pidfile=paths.conmon_pidfile,
        log=log,
        log_size_max=config.log_size_max if old_files else -1,  # alone it loses lines
        log_old_files=old_files,
        exit_dir=paths.exit_dir,
        stdin=config.interactive,
        terminal=config.tty,
        no_pivot=machinery.settings.no_pivot_root,
        exit_command=machinery.exit_command(record.id, record.run.manager if record.run else ""),
        timeout=max(1, round(config.run_timeout)) if config.run_timeout > 0 else 0,
        log_level="debug" if _log.is_debugging() else "warning",
        sync_log=False,
        activated=bool(given.sockets),
        hidden_env=given.hidden_env,
        relay=given.relay,
    )


def _kept_by_conmon(machinery: Machinery, config: ContainerConfig) -> int:
    """Return how many rotated files conmon itself will keep; 0 is left to `engine.supervisor`."""
    if config.log_size_max <= 0 or config.log_max_files == 1:
        return 0
    from longshore.runtime.features import takes_flag

    can = takes_flag(machinery.conmon, "", "--log-rotate", cache_dir=machinery.layout.cache)
    return config.log_max_files - 1 if can else 0


def _remember(
    machinery: Machinery, held: Locked, placement: Placement, pid: int, own: ProcessId | None
) -> None:
    record = held.record
    run = record.run
    assert run is not None
    # conmon's first process has ended, and wrote this file before it did
    data = read_file(machinery.paths(record.id).conmon_pidfile)
    monitor = identify(int(data)) if data is not None and data.strip().isdigit() else None
    if record.config.pidfile:
        write_atomic(record.config.pidfile, f"{pid}".encode(), mode=0o644)
    if record.config.conmon_pidfile and monitor is not None:
        write_atomic(record.config.conmon_pidfile, f"{monitor.pid}".encode(), mode=0o644)
    held.save(
        record.replace(
            status=step(record.status, Fact.MADE),
            run=run.replace(
                init=identify(pid),
                monitor=monitor,
                actor=own,
                inner_cgroup=placement.inner(pid),
            ),
        )
    )
    events.emit(machinery, "init", held.record)


def _taken_back(
    machinery: Machinery, held: Locked, error: BaseException, *, program: str = ""
) -> BaseException:
    """Undo a start that failed; return the error to raise. Failures of the undoing are notes."""
    shown = error
    record = held.record
    run = record.run
    try:
        if isinstance(error, CreationRefused):
            runtime = machinery.runtime_of(record)
            assert runtime is not None  # it has just been run
            log = machinery.paths(record.id).runtime_log
            shown = runtime.failed(str(error), "create", record.name, log=log, program=program)
        if isinstance(shown, Exception):
            code = shown.exit_code if isinstance(shown, LongshoreError) else 125
            record = record.with_exit(start_failed(code, str(shown))).replace(error=str(shown))
        else:
            record = record.replace(error="interrupted")
        # First, so that the reason is known even if what follows is cut short or fails.
        held.save(record)
        if isinstance(shown, Exception):
            events.emit_died(machinery, record)
    except (LongshoreError, OSError) as err:
        shown.add_note(f"and the reason could not be kept: {err}")
    try:
        alive = record.status in (Status.INITIALIZED, Status.RUNNING)
        if run is not None and (run.actor is not None or alive):
            finishing.demolish(machinery, held)
        held.save(record.replace(status=at_rest(record), run=None))
    except (LongshoreError, OSError) as err:
        shown.add_note(f"and cleaning up failed: {err}")
    if isinstance(shown, OperationTimeout):
        shown.add_note("everything was taken back")
    return shown
