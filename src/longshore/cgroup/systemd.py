"""systemd placement: a slice a container, in which the runtime makes its scope; scopes for conmon.

systemd is the only one who makes or removes cgroups above the runtime's scope. It takes a slice
away only when it is told to, so usage and the OOM count can be read after the container is gone,
whose scope goes with its last process. Scopes go by themselves too, failed ones as well
(CollectMode), and what is left by a crash is found by its name. This module is imported only where
systemd is the manager; it, too, loads D-Bus (`cgroup.bus`) only when it has something to say.
"""

from __future__ import annotations

import json
import time

from longshore import _log
from longshore.cgroup.placement import (
    PREFIX,
    SYSTEMD,
    Placement,
    container_slice,
    parent_slice,
    scope_name,
    slice_above,
    slice_path,
)
from longshore.errors import HostUnsupported, LongshoreError
from longshore.linux.cgroups import Cgroup, Layout
from longshore.linux.files import make_directory, read_file, write_atomic
from longshore.linux.processes import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from longshore.cgroup.bus import Manager, Property

# Failed ones go too, without anybody asking (systemd.unit(5))
_COLLECT: Property = ("CollectMode", ("s", "inactive-or-failed"))
# What `Cgroup.usage` reads; below a slice that counts, the kernel counts in any case.
_COUNTED = ("CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting")


class Host:
    """systemd as an engine sees it: which one, how long it may take, where its cgroups are."""

    __slots__ = ("_root", "cache", "label", "timeout", "user")

    def __init__(self, *, user: bool, timeout: float, cache: str, label: str) -> None:
        """``user``: a user's own systemd, and not the system's. ``timeout`` is in seconds.

        ``cache`` is a file that need not be there; ``label`` says in the description of units whose
        they are, so that each engine finds its own.
        """
        self.user = user
        self.timeout = timeout
        self.cache = cache
        self.label = label
        self._root: str | None = None

    def manager(self) -> Manager:
        """Connect to systemd, for one exchange. HostUnsupported when that cannot be done."""
        try:
            from longshore.cgroup import bus
        except ImportError as err:
            raise HostUnsupported(
                "the systemd cgroup manager needs the Python package jeepney",
                f"{err}",
                hint="install it (python3-jeepney), or use --cgroup-manager cgroupfs",
            ) from err
        return bus.Manager(bus.address(user=self.user), time.monotonic() + self.timeout)

    def root(self) -> str:
        """Return the cgroup that all units are below. It stays the same until the next boot."""
        if self._root is None:
            known = self._known()
            if known is None:
                with self.manager() as manager:
                    known = manager.root()
                self._keep(known)
            self._root = known
        return self._root

    def _known(self) -> str | None:
        try:
            kept = json.loads(read_file(self.cache) or b"")
            if kept["boot_id"] == boot_id() and kept["user"] is self.user:
                root = kept["root"]
                return root if isinstance(root, str) else None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _keep(self, root: str) -> None:
        kept = {"boot_id": boot_id(), "user": self.user, "root": root}
        try:
            make_directory(self.cache.rpartition("/")[0])
            write_atomic(self.cache, json.dumps(kept).encode())
        except OSError:
            return  # it is asked again


class Systemd(Placement):
    """The units and cgroups of one container under the systemd manager."""

    __slots__ = ("_host", "container_id", "parent", "slice")
    manager = SYSTEMD

    def __init__(self, layout: Layout, host: Host, own: str, container_id: str) -> None:
        """``own`` is the cgroup of the container's slice; for a new one see `place`."""
        cgroup = Cgroup(layout, own)
        self.slice = own.rpartition("/")[2]
        self.parent = slice_above(self.slice, container_id)
        self.container_id = container_id
        self._host = host
        told = f"{self.slice}:{PREFIX}:{container_id}"
        super().__init__(cgroup, cgroup.child(scope_name(PREFIX, container_id)), told)

    def annotations(
        self, stop_signal: int, stop_timeout: float, *, endless_tasks: bool = False
    ) -> Mapping[str, str]:
        """Return properties for the runtime's scope: runc and crun both take them from there.

        At a shutdown systemd then stops the container as `stop` would (podman says so too). A scope
        that nothing is said of has DefaultTasksMax of systemd-system.conf(5).
        """
        tasks = {"org.systemd.property.TasksMax": f"uint64 {(1 << 64) - 1}"}  # infinity
        return {
            **(tasks if endless_tasks else {}),
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.KillSignal": str(stop_signal),
            "org.systemd.property.TimeoutStopUSec": f"uint64 {round(stop_timeout * 1_000_000)}",
        }

    def prepare(self, monitor: int) -> str:
        """Make the container's slice and conmon's scope, in one exchange."""
        wanted = [(self.slice, self._slice_properties())]
        if monitor:
            wanted.append((self._monitor_scope(""), self._scope_properties(monitor)))
        with self._host.manager() as manager:
            failed, trouble = (*_make(manager, *wanted), None)[:2]
        try:
            if failed is not None:
                raise failed
            return "" if trouble is None else str(trouble)
        finally:
            del failed  # a cycle with this frame, and so with those of the callers

    def place_monitor(self, pid: int, name: str = "") -> str:
        """Move a conmon into a scope of its own."""
        scope = (self._monitor_scope(name), self._scope_properties(pid))
        try:
            with self._host.manager() as manager:
                (trouble,) = _make(manager, scope)
        except (LongshoreError, OSError) as err:
            return str(err)
        return "" if trouble is None else str(trouble)

    def inner(self, pid: int, *, begun: bool = False) -> str:
        """Return the cgroup that an init is in: the scope (runc), or one in it (crun)."""
        scope, found = self.runtime.path, cgroup_of(self.own.layout, pid)
        if begun:  # crun's, unless an annotation has given it another name (crun(1))
            found = f"{scope}/container" if f"{found}/".startswith(f"{scope}/container/") else scope
        return found if f"{found}/".startswith(f"{scope}/") else scope

    def remove(self) -> bool:
        """Stop the container's slice, and all that is in it; False with a warning if it stays."""
        scope = scope_name(PREFIX, self.container_id)
        try:
            with self._host.manager() as manager:
                manager.stop(self.slice, forget=(scope,))
        except (LongshoreError, OSError) as err:
            _log.warn(f"the slice {self.slice} stays, empty, until `system prune`: {err}")
            return False
        # On version 1 systemd knows only the hierarchies that it counts in.
        return self.own.remove()

    def remove_monitors(self, name: str = "") -> None:
        """Stop conmon's scope if nobody lives in it.

        It goes by itself when its last process ends; not if that had ended before systemd put it
        there, nor on version 1 where systemd is in a container and does not hear of it.
        """
        scope = self._monitor_scope(name)
        cgroup = Cgroup(self.own.layout, f"{self.own.path.rpartition('/')[0]}/{scope}")
        if not cgroup.exists() or cgroup.processes():
            return
        try:
            with self._host.manager() as manager:
                manager.stop(scope)
        except (LongshoreError, OSError) as err:
            _log.warn(f"the scope {scope} stays, empty: {err}")

    def _monitor_scope(self, name: str) -> str:
        return scope_name(f"{PREFIX}-conmon", name or self.container_id)

    def _slice_properties(self) -> Sequence[Property]:
        return [
            ("Description", ("s", _described(self.container_id, self._host))),
            _COLLECT,
            *((name, ("b", True)) for name in _COUNTED),
        ]

    def _scope_properties(self, pid: int) -> Sequence[Property]:
        return [
            ("Description", ("s", f"conmon {self.container_id[:12]} of {self._host.label}")),
            _COLLECT,
            ("PIDs", ("au", [pid])),
            ("Slice", ("s", self.parent)),
            # Not ended at a shutdown before its container is: the exit would be lost.
            ("DefaultDependencies", ("b", False)),
        ]


def place(layout: Layout, host: Host, parent: str, container_id: str) -> Systemd:
    """Return where a container that is not there yet will be; InvalidArgument for a bad parent."""
    name = container_slice(parent_slice(parent, user=host.user), container_id)
    return Systemd(layout, host, host.root() + slice_path(name), container_id)


def sweep(host: Host, known: Callable[[], Collection[str]]) -> None:
    """Stop the slices of this engine's containers that are not ``known`` (their ids) any more.

    And scopes whose one process had ended before it was put there, of which systemd hears nothing.
    """
    with host.manager() as manager:
        found = manager.units(f"*{PREFIX}_*.slice")
        there = known()  # asked afterwards: a container is there before its slice is
        for unit, description in found:
            container_id = unit.removesuffix(".slice").rpartition("_")[2]
            if description == _described(container_id, host) and container_id not in there:
                manager.stop(unit)
        for unit, description in manager.units(f"{PREFIX}-*.scope"):
            if description.endswith(f" of {host.label}") and manager.is_empty(unit):
                manager.stop(unit)


def leave_starter(host: Host, pid: int, what: str = "supervisor") -> None:
    """Move a process of Longshore's own, that is to outlive its starter, into a scope."""
    with host.manager() as manager:
        properties: list[Property] = [
            ("Description", ("s", f"{what} of {host.label}")),
            _COLLECT,
            ("PIDs", ("au", [pid])),
            ("Slice", ("s", parent_slice("", user=host.user))),
        ]
        _make(manager, (scope_name(f"{PREFIX}-{what}", str(pid)), properties))


def cgroup_of(layout: Layout, pid: int) -> str:
    """Return the cgroup of a process, where there are limits; "" if it is gone.

    On version 1 that is not where systemd keeps it: crun 1.8 makes a cgroup in the scope there, in
    every hierarchy but that one (measured). /proc/PID/cgroup is of cgroups(7).
    """
    lines = (read_file(f"/proc/{pid}/cgroup") or b"").decode("utf-8", "replace").splitlines()
    found = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    if layout.version == 2:
        return found.get("", "")
    hierarchy = layout.v1("freezer") or layout.v1("memory")
    wanted = frozenset({"name=systemd"}) if hierarchy is None else hierarchy.controllers
    return next((path for names, path in found.items() if wanted & {*names.split(",")}), "")


def _described(container_id: str, host: Host) -> str:
    return f"Container {container_id[:12]} of {host.label}"


def _make(manager: Manager, *units: tuple[str, Sequence[Property]]) -> list[LongshoreError | None]:
    """Start units; one of that name that is left of an earlier run is stopped before."""
    from longshore.cgroup.bus import UNIT_EXISTS

    errors = manager.start(units)
    for n, (unit, error) in enumerate(zip(units, errors, strict=True)):
        if getattr(error, "name", "") == UNIT_EXISTS:
            manager.stop(unit[0])
            (errors[n],) = manager.start([unit])
    return errors
