"""The processes of one exec: its cgroup, and how it is told whose they were.

An exec that goes straight through the runtime leaves no record. What says that it is there is a
file in the container's run directory, made before anything else and gone after all else. Its name,
``exec-PID-START-N``, is that of the owner (pid and start time), and of the exec's cgroup below the
container's. The runtime writes the program's pid into it.
"""

from __future__ import annotations

import contextlib
import itertools
import os

from longshore.errors import LongshoreError
from longshore.linux.cgroups import Cgroup, Layout
from longshore.linux.files import read_file, remove_file
from longshore.linux.processes import ProcessId, identify, is_alive
from longshore.models import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.engine.sandboxed import Inside
    from longshore.store import Record

_serial = itertools.count(1)


class Tree:
    """All processes of one exec. ``path`` is the file that says that it is there."""

    __slots__ = ("_container", "_machinery", "cgroup", "confined", "inside", "name", "path")

    def __init__(
        self, machinery: Machinery, record: Record, name: str, *, confined: bool | None = None
    ) -> None:
        """``confined``: whether it has a cgroup; None looks whether there is one."""
        assert record.run is not None
        self._machinery = machinery
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

    def program(self) -> int | None:
        """Return the pid of its program; None when the runtime has not made it yet."""
        data = read_file(self.path) or b""
        return int(data) if data.strip().isdigit() else None

    def processes(self) -> set[int]:
        """Return the pids of all that live."""
        if self.confined:
            return self.cgroup.processes()
        from longshore.engine.marked import marked

        return marked(self._container, self.name)

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

            end_marked(self._container, self.name, patience)

    def _thaw(self) -> None:
        """Let what is to be killed die, in a paused container that stays paused.

        Version 1 kills nothing that is frozen, and what is in a frozen cgroup cannot be thawed
        alone (freezer-subsystem.rst); so it leaves.
        """
        freezer = self.cgroup.layout.v1("freezer")
        if freezer is None or not self.cgroup.frozen():
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
            if self.inside is not None:
                remove_file(self.inside.pid_file)
            remove_file(self.path)
        return gone


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
