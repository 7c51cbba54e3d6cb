"""What containers use at this moment: read once, locked by nobody, a few files each."""

from __future__ import annotations

import os
import time

from longshore.engine.observe import look
from longshore.errors import NoSuchContainer, RecordCorrupt, WrongState
from longshore.lifecycle import Op, Status, permitted
from longshore.linux.counters import read_counters
from longshore.models import ContainerId, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.store import Record

_LIVE = (Status.RUNNING, Status.PAUSED)


def stats(machinery: Machinery, container_id: str) -> Stats:
    """Measure one container. WrongState when it does not run."""
    record = machinery.store.peek(container_id)
    found = _measure(machinery, record)
    if found is None:
        status = look(machinery, record).status
        raise WrongState(
            record.name,
            "measure",
            status.value,
            [s.value for s in permitted(Op.EXEC)],
            hint="what its last run used is in its exit record: `inspect`",
        )
    return found


def stats_all(machinery: Machinery) -> list[Stats]:
    """Measure every container that runs; those that end meanwhile are left out."""
    found: list[Stats] = []
    for container_id in machinery.store.ids():
        try:
            one = _measure(machinery, machinery.store.peek(container_id))
        except (NoSuchContainer, RecordCorrupt):
            continue
        if one is not None:
            found.append(one)
    return found


def _measure(machinery: Machinery, record: Record) -> Stats | None:
    run = record.run
    if run is None:
        return None
    sight = look(machinery, record)
    if sight.status not in _LIVE or sight.init is None:
        return None
    counters = read_counters(machinery.cgroup_layout, run.cgroup, run.container_cgroup)
    received, sent = _network(sight.init.pid)
    return Stats(
        id=ContainerId(record.id),
        name=record.name,
        time_ns=time.time_ns(),
        started_ns=run.started_ns,
        memory=counters.memory,
        working_set=counters.working_set,
        cache=counters.cache,
        swap=counters.swap,
        memory_limit=counters.memory_limit,
        cpu=counters.cpu,
        cpu_user=counters.cpu_user,
        cpu_system=counters.cpu_system,
        io_read=counters.io_read,
        io_written=counters.io_written,
        network_received=received,
        network_sent=sent,
        pids=counters.pids,
        pids_limit=counters.pids_limit,
    )


def _network(pid: int) -> tuple[int | None, int | None]:
    """Return bytes received and sent by a network namespace of its own, loopback left out."""
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return None, None  # the host's traffic is not the container's
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return None, None
    received = sent = 0
    for line in lines:
        name, _, figures = line.partition(":")
        if name.strip() != "lo":
            words = figures.split()
            received += int(words[0])
            sent += int(words[8])
    return received, sent
