"""The processes of a container, told in its own words: its pids, its names of users."""

from __future__ import annotations

from longshore.engine.observe import look
from longshore.engine.trees import members
from longshore.errors import HostUnsupported, WrongState
from longshore.lifecycle import Op, Status, permitted
from longshore.linux import userns
from longshore.linux.cgroups import Cgroup
from longshore.linux.proctable import boot_time_ns, read_process, terminal_name
from longshore.models import ProcessInfo
from longshore.oci.users import parse_table, read_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore.engine.machinery import Machinery
    from longshore.linux.proctable import ProcessFacts


def top(machinery: Machinery, container_id: str) -> list[ProcessInfo]:
    """Return every process of a container, its execs' too, by pid. RUNNING or PAUSED, else
    WrongState.
    """
    record = machinery.store.peek(container_id)
    sight = look(machinery, record)
    run, init = record.run, sight.init
    if run is None or init is None or sight.status not in (Status.RUNNING, Status.PAUSED):
        raise WrongState(
            record.name,
            "list the processes of",
            sight.status.value,
            [*(s.value for s in permitted(Op.EXEC)), Status.PAUSED.value],
        )
    if run.sandboxed:
        raise HostUnsupported(
            f"the processes of container {record.name} were asked for",
            f"{run.runtime}, in whose sandbox none of them is the host's",
            hint="`exec` a ps inside",
        )
    seen = [
        facts
        for pid in members(Cgroup(machinery.cgroup_layout, run.cgroup), init)
        if (facts := read_process(pid)) is not None
    ]
    inner = {facts.pid: facts.inner_pid for facts in seen}
    root = f"/proc/{init.pid}/root"
    users = _names(root, "/etc/passwd", 7)
    groups = _names(root, "/etc/group", 4)
    booted = boot_time_ns()
    uids, gids = (userns.current(kind, str(init.pid)) for kind in ("uid", "gid"))

    def user(uid: int) -> str:
        own = userns.inside(uids, uid)
        return "?" if own is None else users.get(own, str(own))

    def group(gid: int) -> str:
        own = userns.inside(gids, gid)
        return "?" if own is None else groups.get(own, str(own))

    found = [_told(facts, inner, user, group, booted) for facts in seen]
    return sorted(found, key=lambda process: (process.pid, process.host_pid))


def _names(root: str, path: str, columns: int) -> dict[int, str]:
    """Return the names of ids, of a file of the container's own; none where it has none."""
    try:
        rows = parse_table(read_inside(root, path), columns)
    except OSError:
        return {}  # its init has just ended
    names: dict[int, str] = {}
    for row in rows:
        if row[2].isdecimal():
            names.setdefault(int(row[2]), row[0])
    return names


def _told(
    facts: ProcessFacts,
    inner: dict[int, int],
    user: Callable[[int], str],
    group: Callable[[int], str],
    booted: int,
) -> ProcessInfo:
    return ProcessInfo(
        pid=facts.inner_pid,
        host_pid=facts.pid,
        ppid=inner.get(facts.parent, 0),
        pgid=facts.inner_group,
        command=facts.command,
        name=facts.name,
        state=facts.state,
        nice=facts.nice,
        terminal=terminal_name(facts.terminal),
        user=user(facts.uids[1]),
        group=group(facts.gids[1]),
        real_user=user(facts.uids[0]),
        real_group=group(facts.gids[0]),
        groups=tuple(group(gid) for gid in facts.groups),
        host_uid=facts.uids[1],
        host_gid=facts.gids[1],
        cpu_user=facts.cpu_user,
        cpu_system=facts.cpu_system,
        started_ns=booted + int(facts.start * 1e9),
        rss=facts.rss,
        virtual=facts.virtual,
        threads=facts.threads,
        capabilities=facts.capabilities,
        seccomp=facts.seccomp,
        label=facts.label,
    )
