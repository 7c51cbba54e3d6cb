"""The processes of one exec: its cgroup, and how it is told whose they were.

An exec that goes straight through the runtime leaves no record. What says that it is there is a
file in the container's run directory, made before anything else and gone after all else. Its name,
``exec-PID-START-N``, is that of the owner (pid and start time), and of the exec's cgroup below the
container's. The runtime writes the program's pid into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os

from longshore import _log
from longshore.cgroup.placement import SYSTEMD
from longshore.errors import LongshoreError
from longshore.linux.cgroups import Cgroup, Layout, delegated
from longshore.linux.files import read_file, remove_file, write_all
from longshore.linux.processes import ProcessId, identify, in_pid_namespace, is_alive
from longshore.linux.procs import memory_file
from longshore.models import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from longshore.cgroup.placement import Placement
    from longshore.engine.machinery import Machinery
    from longshore.engine.sandboxed import Inside
    from longshore.store import Record

# What can lie beside the file of an exec, with these endings: what a runtime is told and says.
_BESIDE = ("inner", "described", "log", "gate")
_serial = itertools.count(1)


def members(cgroup: Cgroup, init: ProcessId | None) -> set[int]:
    """Return the pids of a container's processes: those in its cgroup or, of a user's container
    that has none, those in the pid namespace of its init, which is its own then."""
    if cgroup.path or init is None:
        return cgroup.processes()
    return in_pid_namespace(init.pid)


class Tree:
    """All processes of one exec. ``path`` is the file that says that it is there."""

    __slots__ = (
        "_container", "_container_id", "_machinery", "cgroup", "confined", "inside", "name", "path",
    )  # fmt: skip

    def __init__(
        self, machinery: Machinery, record: Record, name: str, *, confined: bool | None = None
    ) -> None:
        """``confined``: whether it has a cgroup; None looks whether there is one."""
        assert record.run is not None
        self._machinery = machinery
        self._container_id = record.id
        self._container = Cgroup(machinery.cgroup_layout, record.run.container_cgroup)
        self.cgroup = self._container.child(name)
        self.confined = self.cgroup.exists() if confined is None else confined
        self.name = name
        self.path = f"{machinery.paths(record.id).run}/{name}"
        self.inside = inside(machinery, record, f"{self.path}.inner")

    @classmethod
    def begin(cls, machinery: Machinery, record: Record, *, confined: bool) -> Tree:
        """Make the file of a new exec, and its cgroup if it is to have one."""
        own = identify(os.getpid())
        assert own is not None
        name = f"exec-{own.pid}-{own.start}-{next(_serial)}"
        tree = cls(machinery, record, name, confined=confined)
        os.close(os.open(tree.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if confined:
            try:
                tree.cgroup.create(parents=False)  # a container that has just ended stays so
            except BaseException:
                tree.remove()
                raise
        return tree

    def file(self, name: str, data: bytes = b"") -> tuple[str, int]:
        """Make a file for the runtime: the path by which it opens it, and a descriptor of ours.

        By our pid, so that nothing but its streams is handed to it; but nobody opens what is ours
        from a user's namespace, which is below ours (ptrace(2), access mode checking).
        """
        if self._machinery.rootless is None:
            fd = memory_file(name, data)
            return f"/proc/{os.getpid()}/fd/{fd}", fd
        path = f"{self.path}.{name}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        write_all(fd, data)
        return path, fd

    def program(self) -> int | None:
        """Return the pid of its program; None when the runtime has not made it yet."""
        data = read_file(self.path) or b""
        return int(data) if data.strip().isdigit() else None

    def processes(self) -> set[int]:
        """Return the pids of all that live."""
        if self.confined:
            return self.cgroup.processes()
        from longshore.engine.marked import marked

        return marked(self._members, self.name)

    def end(self) -> None:
        """Kill all of them, and wait until they are gone. LongshoreError when that takes long."""
        patience = self._machinery.settings.kill_timeout
        if self.inside is not None:
            self.inside.end(patience)
        elif self.confined:
            self._thaw()
            self.cgroup.end(patience, at_once=True)
        else:
            from longshore.engine.marked import end_marked

            end_marked(self._members, self.name, patience)

    def _members(self) -> set[int]:
        if self._container.path:
            return self._container.processes()
        run = self._machinery.store.peek(self._container_id).run
        return members(self._container, None if run is None else run.init)

    def _thaw(self) -> None:
        """Let what is to be killed die, in a paused container that stays paused.

        Version 1 kills nothing that is frozen, and what is in a frozen cgroup cannot be thawed
        alone (freezer-subsystem.rst); so it leaves. What is frozen for its end alone stays.
        """
        freezer = self.cgroup.layout.v1("freezer")
        if freezer is None or not self._container.frozen():
            return
        above = Cgroup(Layout((freezer,)), os.path.dirname(self._container.path))
        for pid in self.cgroup.processes():
            with contextlib.suppress(OSError):
                above.add(pid)

    def give_to_container(self) -> None:
        """Let what is left of it go on as the container's own."""
        known: set[int] = set()
        while pids := self.cgroup.processes() - known:  # also what they fork meanwhile
            known |= pids
            for pid in pids:
                with contextlib.suppress(OSError):  # it has just ended
                    self._container.add(pid)

    def usage(self) -> tuple[Usage, int | None]:
        """Return what all of them have used, and how many the kernel killed for memory."""
        return self.cgroup.usage(), self.cgroup.oom_kills()

    def remove(self) -> bool:
        """Take away its cgroup, and last its file; False when something still lives in it."""
        gone = self.cgroup.remove()
        if gone:
            if self.inside is not None or self._machinery.user is not None:
                for name in _BESIDE:
                    remove_file(f"{self.path}.{name}")
            remove_file(self.path)
        return gone


class Gate:
    """Hold a runtime back until systemd has moved it to where its user may move it on.

    A login session's cgroup is root's, so its user can move nothing out of it into a container's
    (cgroups(7), "Delegation"); the user's systemd can, by the system's. What waits is a shell with
    the runtime's pid, at a lock (flock(1)) that ends with us at the latest.
    """

    __slots__ = ("_fd", "_path", "_placement", "_tree")
    _SCRIPT = 'flock -s "$0" true; exec "$@"'

    def __init__(self, placement: Placement, tree: Tree) -> None:
        self._placement = placement
        self._tree = tree
        self._path = f"{tree.path}.gate"
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    @classmethod
    def of(cls, machinery: Machinery, record: Record, tree: Tree) -> Gate | None:
        """Return a gate where one is needed: for users of systemd outside of its part."""
        if (
            machinery.rootless is None
            or record.run is None
            or record.run.manager != SYSTEMD
            or delegated(machinery.cgroup_layout) is not None
        ):
            return None
        return cls(machinery.placement_of(record), tree)

    def before(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that waits and then becomes this one."""
        return ["/bin/sh", "-c", self._SCRIPT, self._path, *argv]

    def pass_through(self, pid: int) -> None:
        """Have a process moved, and let it go on; where that fails, the runtime says why.

        What is raised does not open it: the process can be ended before it goes on. `close` then.
        """
        trouble = self._placement.place_monitor(pid, self._tree.name)
        if trouble:
            _log.warn(f"an exec's runtime stays in its caller's cgroup: {trouble}")
        self.close()

    def close(self) -> None:
        """Open it to whatever still waits, if it is not open."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            fcntl.flock(fd, fcntl.LOCK_UN)  # also where a fork of ours has a copy
            os.close(fd)


def inside(machinery: Machinery, record: Record, pid_file: str) -> Inside | None:
    """Return where the processes of an exec are, when they are none of the host's."""
    runtime = machinery.runtime_of(record)
    if record.run is None or not record.run.sandboxed or runtime is None:
        return None
    from longshore.engine.sandboxed import Inside

    return Inside(runtime, record.id, pid_file)


def container_ooms(machinery: Machinery, cgroup: str) -> int | None:
    """Return how many the kernel has killed in a container, where its execs have no count.

    On version 2 there are no controllers below a cgroup with processes.
    """
    layout = machinery.cgroup_layout
    return None if layout.version == 1 else Cgroup(layout, cgroup).oom_kills()


def end_orphans(machinery: Machinery, record: Record) -> None:
    """End the execs of owners that are dead; what cannot be ended now is left to the next one.

    Where there are none, it costs one look into a directory.
    """
    try:
        names = os.listdir(machinery.paths(record.id).run)
    except FileNotFoundError:
        return
    for name in names:
        owner = _owner(name)
        if owner is not None and not is_alive(owner):
            tree = Tree(machinery, record, name)
            with contextlib.suppress(LongshoreError, OSError):
                tree.end()
                tree.remove()


def _owner(name: str) -> ProcessId | None:
    words = name.split("-")
    if len(words) != 4 or words[0] != "exec" or not all(word.isdecimal() for word in words[1:]):
        return None
    return ProcessId(pid=int(words[1]), start=int(words[2]))
