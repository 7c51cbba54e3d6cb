"""Control groups, version 1, 2 and hybrid: where they are, what they count, freezing, killing.

A `Layout` is what this mount namespace offers; a `Cgroup` is one path below it, in every hierarchy
at once. What a host cannot measure is None, never 0. Facts: cgroups(7), the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/*.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

from longshore.errors import LongshoreError
from longshore.linux.mounts import mount_points
from longshore.linux.processes import identify, open_pidfd
from longshore.linux.procs import poll_until
from longshore.models import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# Seconds. A process that has ended, and has even been reaped, is in its cgroup for another moment
# (Linux 6.18: until it is switched out for the last time), and nothing tells when that is over.
_LAST_STEPS = (0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)


class Hierarchy:
    """One mounted hierarchy: its directory, its version, and its v1 controllers."""

    __slots__ = ("controllers", "mount", "named", "version")

    def __init__(self, mount: str, version: int, controllers: frozenset[str]) -> None:
        self.mount = mount
        self.version = version
        self.controllers = controllers
        # Without controllers, for keeping track alone (name=, release_agent=): not every runtime
        # puts everything into it.
        self.named = bool(controllers) and all("=" in name for name in controllers)


class Layout:
    """The hierarchies of this mount namespace. ``mode`` is v1, v2, hybrid or none."""

    __slots__ = ("hierarchies", "mode")

    def __init__(self, hierarchies: tuple[Hierarchy, ...]) -> None:
        self.hierarchies = hierarchies
        versions = sorted({h.version for h in hierarchies})
        self.mode = {"": "none", "1": "v1", "2": "v2", "12": "hybrid"}["".join(map(str, versions))]

    @property
    def version(self) -> int:
        """1 when limits are the v1 controllers' (v1 and hybrid), else 2."""
        return 1 if self.mode in ("v1", "hybrid") else 2

    def v1(self, controller: str) -> Hierarchy | None:
        """Return the v1 hierarchy that has a controller."""
        for hierarchy in self.hierarchies:
            if controller in hierarchy.controllers:
                return hierarchy
        return None

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 hierarchy, if it is mounted."""
        return next((h for h in self.hierarchies if h.version == 2), None)

    def controllers(self) -> frozenset[str]:
        """Return every controller that can be used, of either version."""
        found = frozenset[str]().union(*(h.controllers for h in self.hierarchies))
        if self.unified is not None:
            found |= frozenset(read_control(self.unified.mount, "cgroup.controllers").split())
        return found

    def counts_swap(self) -> bool:
        """Whether swap has a limit of its own: not so where the kernel was booted without."""
        memory = self.v1("memory")
        if memory is not None:
            return _has(memory.mount, "memory.memsw.limit_in_bytes")
        if self.unified is None:
            return False
        # the root has no limits; any cgroup below it tells
        mount = self.unified.mount
        for name in os.listdir(mount):
            if _has(f"{mount}/{name}", "memory.max"):
                return _has(f"{mount}/{name}", "memory.swap.max")
        return _has("/proc", "swaps")


def detect() -> Layout:
    """Look at what is mounted now."""
    found: dict[str, Hierarchy] = {}
    for point in mount_points():
        if not f"{point.path}/".startswith("/sys/fs/cgroup/"):
            continue
        # What is mounted over a place hides all that was mounted at and below it before.
        found = {p: h for p, h in found.items() if not f"{p}/".startswith(f"{point.path}/")}
        if point.fstype == "cgroup2":
            found[point.path] = Hierarchy(point.path, 2, frozenset())
        elif point.fstype == "cgroup":
            names = frozenset(point.options.split(",")) - {"rw", "ro", "xattr", "clone_children"}
            found[point.path] = Hierarchy(point.path, 1, names)
    return Layout(tuple(found.values()))


def delegated(layout: Layout) -> str | None:
    """Return the highest cgroup above (or at) our own that this user was given; None without one.

    Only in a v2 tree: nobody is given a part of a v1 hierarchy safely (cgroups(7), "Delegation"),
    and a process can be moved only below a common ancestor that the mover may write to.
    """
    unified = layout.unified
    if unified is None or layout.mode != "v2":
        return None
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    found = None
    while path and _is_given(unified.mount + path):
        found = path
        path = os.path.dirname(path) if path != "/" else ""
    return found


def _is_given(directory: str) -> bool:
    return os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)


class Cgroup:
    """One cgroup path in all hierarchies of a layout; it need not exist.

    "" is none at all, in no hierarchy: nothing can be read of it, and nothing is done.
    """

    __slots__ = ("layout", "path")

    def __init__(self, layout: Layout, path: str) -> None:
        self.layout = layout if path else Layout(())
        self.path = path

    def _in(self, hierarchy: Hierarchy) -> str:
        return hierarchy.mount + self.path

    def child(self, name: str) -> Cgroup:
        """Return the cgroup of this name below this one; of none at all there is none."""
        return Cgroup(self.layout, f"{self.path}/{name}" if self.path else "")

    def exists(self) -> bool:
        """Whether it exists in any hierarchy."""
        return any(os.path.isdir(self._in(h)) for h in self.layout.hierarchies)

    def controllers(self) -> frozenset[str]:
        """Return what can be turned on below it (version 2, cgroup.controllers)."""
        unified = self.layout.unified
        if unified is None:
            return frozenset()
        return frozenset(read_control(self._in(unified), "cgroup.controllers").split())

    def create(self, *, parents: bool = True) -> None:
        """Make it in every hierarchy. FileNotFoundError without ``parents``, if there is none."""
        for hierarchy in self.layout.hierarchies:
            directory = self._in(hierarchy)
            try:
                os.mkdir(directory, 0o755)
            except FileNotFoundError:
                if not parents:
                    if hierarchy.named:
                        continue
                    raise
                os.makedirs(directory, 0o755, exist_ok=True)
            except FileExistsError:
                pass
            # Whatever the umask: the root of a user namespace has to pass, and to see its own.
            for made in (os.path.dirname(directory), directory):
                mode = os.stat(made).st_mode
                if mode & 0o055 != 0o055 and made != hierarchy.mount:
                    os.chmod(made, mode & 0o7777 | 0o055)
            if "cpuset" in hierarchy.controllers:
                _inherit_cpuset(hierarchy.mount, directory)

    def add(self, pid: int) -> None:
        """Move a process in, in every hierarchy; OSError when one refuses."""
        for hierarchy in self.layout.hierarchies:
            try:
                _write(self._in(hierarchy), "cgroup.procs", str(pid))
            except FileNotFoundError:
                if not hierarchy.named:
                    raise

    def remove(self) -> bool:
        """Remove it and all below it; False when a process keeps any of it busy."""
        for pause in _LAST_STEPS:
            time.sleep(pause)
            gone = True
            for hierarchy in self.layout.hierarchies:
                gone = _remove(self._in(hierarchy)) and gone
            if gone or self.processes():
                return gone
        return False

    def processes(self) -> set[int]:
        """Return the pids in it and below it, as this pid namespace sees them."""
        pids: set[int] = set()
        for hierarchy in self.layout.hierarchies:
            for directory in _below(self._in(hierarchy)):
                pids.update(
                    int(p) for p in read_control(directory, "cgroup.procs").split() if p != "0"
                )
        return pids

    def kill(self) -> bool:
        """Kill the whole tree at once with cgroup.kill (kernel 5.14, v2); False without it."""
        unified = self.layout.unified
        if unified is None:
            return False
        try:
            _write(self._in(unified), "cgroup.kill", "1")
        except OSError:
            return False
        # On a hybrid host the runtime may not have put the container into the v2 hierarchy.
        return self.layout.mode == "v2"

    def end(self, patience: float, *, at_once: bool = False) -> None:
        """Kill every process in it and below it, and wait until they are gone; thaws it.

        ``at_once``: it is frozen before, so that none sees another's end, and goes on to an end of
        its own. LongshoreError when the kernel has not ended them within ``patience`` seconds.
        """
        try:
            self._end(patience, at_once=at_once)
        finally:
            if at_once:
                self.thaw()

    def _end(self, patience: float, *, at_once: bool) -> None:
        deadline = time.monotonic() + patience
        dead: set[int] = set()
        while (pids := self.processes()) and pids != dead:
            if at_once:
                self._freeze()
            pidfds: list[int] = []
            try:
                for pid in pids:
                    fd = open_pidfd(identify(pid))
                    if fd is not None:
                        pidfds.append(fd)
                if time.monotonic() >= deadline:  # they fork faster than they can be looked at
                    self._not_ended(patience, pids)
                if not self.kill():
                    for fd in pidfds:
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(fd, signal.SIGKILL)
                    self.thaw()
                for fd in pidfds:
                    if not poll_until([fd], deadline):
                        self._not_ended(patience, pids)
            finally:
                for fd in pidfds:
                    os.close(fd)
            # what has ended just before it was killed may have begun others
            dead = set() if pidfds else pids

    def _not_ended(self, patience: float, pids: set[int]) -> NoReturn:
        raise LongshoreError(
            f"the kernel has not ended the processes of cgroup {self.path} within "
            f"{patience:g} s: {sorted(pids)}",
            hint="one in uninterruptible sleep (state D) can do this; try later",
        )

    def frozen(self) -> bool | None:
        """Whether every process in it is frozen; None when it does not exist or cannot tell."""
        freezer = self.layout.v1("freezer")
        if freezer is not None:
            state = read_control(self._in(freezer), "freezer.state").strip()
            return None if not state else state != "THAWED"
        unified = self.layout.unified
        if unified is None:
            return None
        text = read_control(self._in(unified), "cgroup.freeze").strip()
        return None if not text else text == "1"

    def _freeze(self) -> None:
        """Keep its processes from going on. Not waited for: none comes back from the kernel now."""
        freezer, unified = self.layout.v1("freezer"), self.layout.unified
        with contextlib.suppress(OSError):
            if freezer is not None:
                _write(self._in(freezer), "freezer.state", "FROZEN")
            elif unified is not None:
                _write(self._in(unified), "cgroup.freeze", "1")

    def thaw(self) -> None:
        """Let its processes go on, those below it too; not frozen, or not there, is fine."""
        # what froze a cgroup itself is not undone by thawing the one above it
        freezer = self.layout.v1("freezer")
        unified = self.layout.unified
        if freezer is not None:
            for directory in _below(self._in(freezer)):
                with contextlib.suppress(FileNotFoundError):
                    _write(directory, "freezer.state", "THAWED")
        elif unified is not None:
            for directory in _below(self._in(unified)):
                with contextlib.suppress(FileNotFoundError):
                    _write(directory, "cgroup.freeze", "0")

    def oom_kills(self) -> int | None:
        """Return how many of its processes the kernel killed for memory; None if not counted."""
        memory = self.layout.v1("memory")
        if memory is not None:
            # v1 counts where the victim was, not above it: add up the tree
            counts = [
                _keyed(read_control(d, "memory.oom_control")).get("oom_kill")
                for d in _below(self._in(memory))
            ]
            known = [c for c in counts if c is not None]
            return sum(known) if known else None
        if self.layout.unified is not None:
            text = read_control(self._in(self.layout.unified), "memory.events")
            return _keyed(text).get("oom_kill")
        return None

    def usage(self) -> Usage:
        """Return what its processes have used in all, those that have ended included."""
        if self.layout.version == 1:
            return self._usage_v1()
        unified = self.layout.unified
        if unified is None:
            return Usage()
        directory = self._in(unified)
        cpu = _keyed(read_control(directory, "cpu.stat"))
        io = [_fields(line) for line in read_control(directory, "io.stat").splitlines()]
        return Usage(
            memory_peak=_number(read_control(directory, "memory.peak")),
            cpu_user=_scaled(cpu.get("user_usec"), 1e6),
            cpu_system=_scaled(cpu.get("system_usec"), 1e6),
            io_read=sum(f.get("rbytes", 0) for f in io) if _has(directory, "io.stat") else None,
            io_written=sum(f.get("wbytes", 0) for f in io) if _has(directory, "io.stat") else None,
            pids_peak=_number(read_control(directory, "pids.peak")),
        )

    def _usage_v1(self) -> Usage:
        def text(controller: str, name: str) -> str:
            hierarchy = self.layout.v1(controller)
            return "" if hierarchy is None else read_control(self._in(hierarchy), name)

        user, system = _split(
            _number(text("cpuacct", "cpuacct.usage")),
            _number(text("cpuacct", "cpuacct.usage_user")),
            _number(text("cpuacct", "cpuacct.usage_sys")),
        )
        io: dict[str, int] = {}
        io_text = text("blkio", "blkio.throttle.io_service_bytes_recursive")
        for line in io_text.splitlines():
            words = line.split()
            if len(words) == 3:  # "8:0 Read 4096"; the last line is the total
                io[words[1]] = io.get(words[1], 0) + int(words[2])
        return Usage(
            memory_peak=_number(text("memory", "memory.max_usage_in_bytes")),
            cpu_user=_scaled(user, 1e9),
            cpu_system=_scaled(system, 1e9),
            io_read=io.get("Read", 0) if io_text else None,
            io_written=io.get("Write", 0) if io_text else None,
            pids_peak=_number(text("pids", "pids.peak")),
        )


def read_control(directory: str, name: str) -> str:
    """Return a control file's text; empty when it, or its cgroup, is not there."""
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        chunks: list[bytes] = []
        while chunk := os.read(fd, 1 << 16):  # of cgroup.procs one read gives a page at most
            chunks.append(chunk)
        return b"".join(chunks).decode("ascii", "replace")
    except OSError:  # ENODEV: removed while it was open
        return ""
    finally:
        os.close(fd)


def _has(directory: str, name: str) -> bool:
    return os.path.exists(f"{directory}/{name}")


def _write(directory: str, name: str, text: str) -> None:
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as err:
        if err.errno != errno.ENODEV:
            raise
        # removed while it was open: gone, as one that was gone before
        raise FileNotFoundError(errno.ENOENT, "it has gone", f"{directory}/{name}") from err
    finally:
        os.close(fd)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _split(
    total: int | None, user: int | None, system: int | None
) -> tuple[int | None, int | None]:
    """Return user and system time that add up to the whole.

    The two are counted in ticks of some milliseconds and the whole is exact; the kernel divides it
    in their proportion too, where it tells both (kernel/sched/cputime.c, cputime_adjust).
    """
    if total is None or user is None or system is None:
        return user, system
    share = total if user + system == 0 else total * user // (user + system)
    return share, total - share


def _keyed(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}


def _fields(line: str) -> dict[str, int]:
    pairs = (word.split("=") for word in line.split() if "=" in word)
    return {key: int(value) for key, value in pairs if value.isdigit()}


def _below(directory: str) -> list[str]:
    """Return a cgroup's directory and all below it, parents first; empty when it is not there."""
    try:
        with os.scandir(directory) as entries:
            children = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    found = [directory]
    for child in children:
        found.extend(_below(child))
    return found


def _remove(directory: str) -> bool:
    for path in reversed(_below(directory)):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
    return True


def _inherit_cpuset(mount: str, directory: str) -> None:
    """A new v1 cpuset has no CPUs and no nodes, and takes no process, until it is given some."""
    if directory != mount:
        parent = os.path.dirname(directory)
        if not read_control(parent, "cpuset.cpus").strip() and parent != mount:
            _inherit_cpuset(mount, parent)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not read_control(directory, name).strip():
                _write(directory, name, read_control(parent, name).strip())
