"""What a read returns: one container as its record and the facts say it is, at one moment."""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.engine.observe import look
from longshore.engine.roots import place
from longshore.errors import NoSuchContainer, RecordCorrupt
from longshore.lifecycle import Status
from longshore.models import ContainerId, ExitInfo
from longshore.options import ContainerConfig
from longshore.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery


class Inspection(Value):
    """A snapshot. Paths are the host's; pids are those that the caller sees; times nanoseconds."""

    id: ContainerId
    config: ContainerConfig
    status: Status
    created_ns: int
    pid: int | None = None  # of init, while it lives
    monitor_pid: int | None = None  # of conmon, while it lives
    started_ns: int | None = None  # of the last run
    finished_ns: int | None = None
    exit: ExitInfo | None = None  # of the last run that ended; None while it runs
    exits: tuple[ExitInfo, ...] = ()  # the last 10, oldest first
    restart_count: int = 0
    runtime_name: str = ""
    runtime_path: str = ""
    cgroup_path: str = ""  # the runtime's own, below Longshore's
    cgroup_manager: str = ""  # of the last run; else what was asked for
    bundle_path: str = ""
    log_path: str = ""
    rootfs_path: str = ""
    error: str = ""  # why the last start failed, or why the record cannot be read
    process_label: str = ""  # of SELinux, from the first start on
    mount_label: str = ""
    exec_ids: tuple[str, ...] = ()  # the exec sessions that run

    @property
    def name(self) -> str:
        """The name it had at that moment."""
        return self.config.name

    @property
    def hostname(self) -> str:
        """Its host name: as asked for, or the beginning of its id."""
        return self.config.hostname or self.id[:12]


def inspect(machinery: Machinery, container_id: str) -> Inspection:
    """Look at one container. NoSuchContainer; a damaged record raises RecordCorrupt."""
    return of_record(machinery, machinery.store.peek(container_id))


def inspect_all(machinery: Machinery) -> list[Inspection]:
    """Look at every container; one that is damaged is shown as such, and hides no other."""
    found: list[Inspection] = []
    for container_id in machinery.store.ids():
        try:
            found.append(inspect(machinery, container_id))
        except RecordCorrupt as err:
            found.append(_damaged(container_id, str(err)))
        except NoSuchContainer:
            continue  # removed since it was listed
    found.sort(key=lambda i: i.created_ns, reverse=True)
    return found


def _damaged(container_id: str, error: str) -> Inspection:
    return Inspection(
        id=ContainerId(container_id),
        config=ContainerConfig(name=container_id[:12]),
        status=Status.DAMAGED,
        created_ns=0,
        error=error,
    )


def of_record(machinery: Machinery, record: Record) -> Inspection:
    """Compute a snapshot of one record from the facts of this moment."""
    sight = look(machinery, record)
    run = record.run
    live = sight.status in (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)
    last = record.exits[-1] if record.exits and not live else None
    paths = machinery.paths(record.id)
    config = record.config
    return Inspection(
        id=ContainerId(record.id),
        config=config,
        status=sight.status,
        created_ns=record.created_ns,
        pid=sight.init.pid if sight.init is not None else None,
        monitor_pid=sight.monitor.pid if sight.monitor is not None else None,
        started_ns=run.started_ns if run is not None else None,
        finished_ns=last.finished_ns if last is not None else None,
        exit=last,
        exits=record.exits,
        restart_count=max(0, record.starts - 1),
        runtime_name=run.runtime if run is not None else config.runtime,
        runtime_path=run.runtime_path if run is not None else "",
        cgroup_path=run.container_cgroup if run is not None else "",
        cgroup_manager=run.manager if run is not None else config.cgroup_manager,
        bundle_path=paths.bundle,
        log_path="" if config.log_driver == "none" else config.log_path or paths.log,
        rootfs_path=place(machinery, record),
        error=record.error,
        process_label=record.process_label,
        mount_label=record.mount_label,
        exec_ids=_exec_ids(machinery, record.id) if live else (),
    )


def _exec_ids(machinery: Machinery, container_id: str) -> tuple[str, ...]:
    if not os.path.isdir(machinery.paths(container_id).live_execs):
        return ()
    from longshore.engine import sessions

    return tuple(sessions.live(machinery, container_id))
