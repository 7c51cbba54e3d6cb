"""Start a container: its root and bundle, conmon, the runtime's create, the runtime's start.

Every step is written down before it is taken, so that whoever comes after a crash can tell how far
it came (`engine.observe`) and take it back (`engine.finishing.demolish`).
"""

from __future__ import annotations

import json
import os
import threading
import time

from longshore.engine import finishing
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
from longshore.linux.mounts import mount
from longshore.linux.processes import ProcessId, boot_id, identify
from longshore.monitor.launch import CreationRefused, Handshake, Launch
from longshore.store import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore.engine.machinery import Machinery
    from longshore.engine.trace import Trace
    from longshore.runtime import Runtime
    from longshore.store.records import Locked


def start(
    machinery: Machinery,
    container_id: str,
    *,
    deadline: float | None = None,
    trace: Trace = UNTRACED,
    prepared: Callable[[], None] | None = None,
) -> None:
    """Start a container; one that runs already is fine. CREATED, STOPPED, EXITED → RUNNING.

    A start that fails takes everything back, keeps the reason in the record, and raises it.
    ``prepared`` is called when the run directory is there and conmon is not yet.
    """
    with finishing.settled(machinery, container_id, "start", deadline=deadline) as held:
        status = held.record.status
        require(Op.START, status, held.record.name)
        if status is Status.RUNNING:
            return
        if status is Status.STOPPED:
            finishing.cleanup(machinery, held)
        if held.record.run is not None and status is not Status.INITIALIZED:
            # The last run's conmon may still wait for its exit command, for which nothing is left.
            finishing.end_monitor(machinery, held.record.run.monitor)
        trace.mark("lock")
        if status is not Status.INITIALIZED:
            _init(machinery, held, trace, prepared)
        _begin(machinery, held, trace)


def _init(
    machinery: Machinery, held: Locked, trace: Trace, prepared: Callable[[], None] | None
) -> None:
    """Bring a container to INITIALIZED: its init exists and waits. Everything or nothing."""
    record = held.record
    config = record.config
    runtime = machinery.runtime(config.runtime)
    conmon = machinery.conmon
    placement = machinery.placement(config, record.id)
    own = identify(os.getpid())
    held.save(
        record.replace(
            run=Run(
                number=record.starts + 1,
                boot_id=boot_id(),
                runtime=runtime.name,
                runtime_path=runtime.path,
                cgroup=placement.own.path,
                actor=own,
            ),
            starts=record.starts + 1,
            error="",
        )
    )
    trace.mark("intent")
    try:
        launch = _describe(machinery, held, runtime)
        if prepared is not None:
            prepared()
        trace.mark("directories")
        pairs = (entry.partition("=") for entry in machinery.settings.conmon_env)
        env = {name: value for name, _, value in pairs}
        with Handshake(conmon, launch, env=env) as handshake:
            trace.mark("conmon spawn")
            # Moving a process into a cgroup makes the kernel wait for a grace period of 5–20 ms in
            # which nothing runs; the bundle is built meanwhile. Its place is a convenience, not a
            # condition (S6): a host that refuses it still runs.
            placing = threading.Thread(target=placement.place_monitor, args=(handshake.pid,))
            placing.start()
            try:
                token = _make_bundle(machinery, held, runtime)
                trace.mark("bundle")
            finally:
                placing.join()
            handshake.release()
            trace.mark("conmon cgroup")
            _load_ahead()
            pid = handshake.container_pid(machinery.settings.create_timeout)
            trace.mark("runtime create")
        if token is not None:
            runtime.learn(token, record.id)
        _remember(machinery, held, pid, own)
        trace.mark("record created")
    except BaseException as error:
        shown = _taken_back(machinery, held, runtime, "create", error)
        if shown is error:
            raise
        raise shown from error


def _load_ahead() -> None:
    """Import what comes after a start, while the runtime works and there is nothing else to do."""
    import longshore.engine.logs
    import longshore.engine.waiting  # noqa: F401


def _begin(machinery: Machinery, held: Locked, trace: Trace) -> None:
    """Bring a container from INITIALIZED to RUNNING."""
    record = held.record
    run = record.run
    assert run is not None
    runtime = machinery.runtime_of(record)
    assert runtime is not None
    before = time.time_ns()
    try:
        runtime.start(record.id, log=machinery.paths(record.id).runtime_log)
        trace.mark("runtime start")
        held.save(
            record.replace(
                status=step(record.status, Fact.BEGUN),
                run=run.replace(actor=None, started_ns=before),
            )
        )
        trace.mark("record started")
    except BaseException as error:
        shown = _taken_back(machinery, held, runtime, "start", error)
        if shown is error:
            raise
        raise shown from error


def _make_bundle(machinery: Machinery, held: Locked, runtime: Runtime) -> str | None:
    """Mount the root and write the config.json; return what the runtime may `learn` from it."""
    # Imported here, beside the kernel's grace period, and not before conmon is spawned.
    from longshore.engine.context import spec_context
    from longshore.oci.build import build_spec

    record = held.record
    root = _mount_root(machinery, held)
    spec = build_spec(record.config, spec_context(machinery, record, root))
    token = runtime.adapt(spec)
    write_atomic(machinery.paths(record.id).config, json.dumps(spec).encode())
    return token


def _describe(machinery: Machinery, held: Locked, runtime: Runtime) -> Launch:
    """Make the directories of a run, and say what conmon is told."""
    record = held.record
    config = record.config
    paths = machinery.paths(record.id)
    machinery.layout.prepare()
    make_directory(runtime.state_dir)
    remove_tree(paths.run)
    make_directory(paths.bundle)
    make_directory(paths.exit_dir, 0o750)
    remove_file(paths.exit_file)
    log = "none" if config.log_driver == "none" else f"k8s-file:{config.log_path or paths.log}"
    size_max = config.log_size_max if config.log_size_max >= 0 else machinery.settings.log_size_max
    return Launch(
        container_id=record.id,
        name=config.name,
        runtime=runtime.path,
        runtime_args=runtime.global_args(paths.runtime_log),
        bundle=paths.bundle,
        pidfile=paths.pidfile,
        conmon_pidfile=paths.conmon_pidfile,
        log=log,
        log_size_max=size_max,
        exit_dir=paths.exit_dir,
        stdin=config.interactive,
        terminal=config.tty,
        no_pivot=machinery.settings.no_pivot_root,
        exit_command=machinery.exit_command(record.id),
        timeout=max(1, round(config.run_timeout)) if config.run_timeout > 0 else 0,
        sync_log=False,
    )


def _mount_root(machinery: Machinery, held: Locked) -> str:
    """Return the path of the container's root, mounted if it is an overlay."""
    config = held.record.config
    if not config.overlay:
        return config.rootfs
    paths = machinery.paths(held.record.id)
    upper, work = f"{paths.layer}/upper", f"{paths.layer}/work"
    info = os.stat(config.rootfs)
    make_directory(paths.layer)
    if not os.path.isdir(upper):
        os.mkdir(upper)
        # The upper directory's owner and mode become those of the root itself.
        os.chown(upper, info.st_uid, info.st_gid)
        os.chmod(upper, info.st_mode & 0o7777)
    make_directory(work)
    make_directory(paths.merged)
    # Through a descriptor, because "," and ":" in a path would end or split the option.
    lower = os.open(config.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = config.rootfs
        if any(c in source for c in ",:\\"):
            source = f"/proc/self/fd/{lower}"
        mount(
            "overlay", paths.merged, "overlay", 0,
            f"lowerdir={source},upperdir={upper},workdir={work}",
        )  # fmt: skip
    except OSError as err:
        raise LongshoreError(
            f"cannot mount a copy-on-write view of {config.rootfs}: {err.strerror}",
            hint=f"is {machinery.settings.root} itself on an overlay? "
            "use --root with a directory on another file system",
        ) from err
    finally:
        os.close(lower)
    return paths.merged


def _remember(machinery: Machinery, held: Locked, pid: int, own: ProcessId | None) -> None:
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
            run=run.replace(init=identify(pid), monitor=monitor, actor=own),
        )
    )


def _taken_back(
    machinery: Machinery, held: Locked, runtime: Runtime, verb: str, error: BaseException
) -> BaseException:
    """Undo a start that failed; return the error to raise. Failures of the undoing are notes."""
    record = held.record
    shown = error
    try:
        finishing.demolish(machinery, held)
        if isinstance(error, CreationRefused):
            log = machinery.paths(record.id).runtime_log
            shown = runtime.failed(str(error), verb, record.name, log=log)
        status = Status.EXITED if record.exits else Status.CREATED
        held.save(
            held.record.replace(
                status=status,
                run=None,
                error=str(shown) if isinstance(shown, Exception) else "interrupted",
            )
        )
    except (LongshoreError, OSError) as err:
        shown.add_note(f"and cleaning up failed: {err}")
    if isinstance(shown, OperationTimeout):
        shown.add_note("the container was not created; everything was taken back")
    return shown
