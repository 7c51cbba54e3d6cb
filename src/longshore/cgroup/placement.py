"""Where a container, and the conmon beside it, live in the cgroup tree, under either manager.

Both give a container a cgroup of Longshore's own with the runtime's below it, so that usage
outlives the container and killing means the tree. cgroupfs is here; `cgroup.systemd` is imported
only where systemd is the manager, because it talks to D-Bus.

    cgroupfs   PARENT/ID                          Longshore's own
               PARENT/ID/container                the runtime's
               PARENT/conmon                      the monitors' (removed when it empties)
    systemd    PARENT.slice/…longshore_ID.slice   Longshore's own
               longshore-ID.scope below it        the runtime's; crun uses a cgroup inside of it
               longshore-conmon-ID.scope          the monitor's, in PARENT.slice
"""

from __future__ import annotations

from longshore.errors import InvalidArgument
from longshore.linux.cgroups import Cgroup, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CGROUPFS, SYSTEMD = "cgroupfs", "systemd"
NONE = "none"  # nobody makes any: an ordinary user who was not given a part of the tree
DEFAULT_PARENT = "/longshore"
PREFIX = "longshore"
# A user's containers are below the slice of that name in the user's own manager.
_DEFAULT_SLICES = {False: "machine.slice", True: "user.slice"}
_LONGEST_UNIT = 255  # UNIT_NAME_MAX of systemd's unit-name.h, without the NUL
_UNIT_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\")


class Placement:
    """The cgroups of one container. ``own`` is Longshore's, ``runtime`` the runtime's in it.

    ``told`` is what the runtime is told (linux.cgroupsPath of the runtime-spec).
    """

    __slots__ = ("own", "runtime", "told")
    manager = ""

    def __init__(self, own: Cgroup, runtime: Cgroup, told: str) -> None:
        self.own = own
        self.runtime = runtime
        self.told = told

    def annotations(
        self, stop_signal: int, stop_timeout: float, *, endless_tasks: bool = False
    ) -> Mapping[str, str]:
        """Return what else the runtime is told of the cgroup. The timeout is in seconds.

        ``endless_tasks``: it has no limit of processes, and is to have none.
        """
        del stop_signal, stop_timeout, endless_tasks
        return {}

    def prepare(self, monitor: int) -> str:
        """Make what the runtime's create needs, and place the container's conmon; 0: it stays.

        Returns why conmon could not be placed, or "". LongshoreError when the rest failed.
        """
        return self.place_monitor(monitor) if monitor else ""

    def place_monitor(self, pid: int, name: str = "") -> str:
        """Move a conmon to its place; return why it could not be done, or "".

        ``name`` is that of an exec session; "" is the container's own conmon.
        """
        raise NotImplementedError

    def inner(self, pid: int, *, begun: bool = False) -> str:
        """Return the cgroup in which the runtime has put an init; "" is `runtime`.

        ``begun``: its program runs, and may have gone further down by itself.
        """
        del pid, begun
        return ""

    def remove(self) -> bool:
        """Remove the container's cgroups, which may be gone already; False when they stay."""
        raise NotImplementedError

    def remove_monitors(self, name: str = "") -> None:
        """Remove what the monitors leave, if they are gone; ``name`` as of `place_monitor`."""
        raise NotImplementedError


class Unplaced(Placement):
    """No cgroup of its own: container and conmon stay where their starter is."""

    __slots__ = ()
    manager = NONE

    def __init__(self) -> None:
        none = Cgroup(Layout(()), "")
        super().__init__(none, none, "")

    def place_monitor(self, pid: int, name: str = "") -> str:
        """Leave it where it is."""
        del pid, name
        return ""

    def remove(self) -> bool:
        """There is nothing to remove."""
        return True

    def remove_monitors(self, name: str = "") -> None:
        """There is nothing to remove."""
        del name


class Cgroupfs(Placement):
    """cgroupfs: directories that Longshore and the runtime make. It makes no D-Bus call."""

    __slots__ = ("monitors",)
    manager = CGROUPFS

    def __init__(self, layout: Layout, parent: str, container_id: str) -> None:
        """InvalidArgument for a parent that is a slice by name: only systemd knows where it is."""
        if parent and not parent.startswith("/"):
            raise InvalidArgument(
                f"cgroup_parent: {parent!r} is a systemd slice, and the cgroup manager is cgroupfs",
                hint="use --cgroup-manager systemd, or give a path, such as /longshore",
            )
        top = Cgroup(layout, parent.rstrip("/") or DEFAULT_PARENT)
        own = top.child(container_id)
        runtime = own.child("container")
        super().__init__(own, runtime, runtime.path)
        self.monitors = top.child("conmon")

    def place_monitor(self, pid: int, name: str = "") -> str:
        """Move a conmon into the cgroup that all have in common."""
        del name
        for attempt in (1, 2):
            try:
                self.monitors.create()
                self.monitors.add(pid)
                return ""
            except FileNotFoundError as err:
                # Another container's clean-up removed it, empty, between the two steps.
                if attempt == 2:
                    return str(err)
            except OSError as err:
                return str(err)
        return ""

    def remove(self) -> bool:
        """Remove the container's cgroups; False when a process is still in them."""
        return self.own.remove()

    def remove_monitors(self, name: str = "") -> None:
        """Remove the monitors' cgroup if it is empty."""
        del name
        self.monitors.remove()


# --- names of systemd's units, which need no D-Bus --------------------------------------------


def scope_name(prefix: str, name: str) -> str:
    """Return the name of a systemd scope (S3); what a scope's cgroup is called below its slice."""
    return f"{prefix}-{name}.scope"


def parent_slice(parent: str, *, user: bool) -> str:
    """Return the slice that a container goes below: what was asked for, or the default.

    Of a path the last element counts, as podman has it (S6). InvalidArgument for what is no slice.
    """
    if not parent:
        return _DEFAULT_SLICES[user]
    name = parent.rpartition("/")[2]
    if not name.endswith(".slice"):
        raise InvalidArgument(
            f"cgroup_parent: {parent!r} is no slice, and the cgroup manager is systemd",
            hint="give a slice's name, such as machine.slice, or use --cgroup-manager cgroupfs",
        )
    stem = name.removesuffix(".slice")
    parts = stem.split("-")
    # "-.slice" is the root; else each "-" is one step down (systemd.slice(5))
    if stem != "-" and (not all(parts) or not set(stem) <= _UNIT_CHARACTERS):
        raise InvalidArgument(
            f"cgroup_parent: {name!r} is not the name of a slice",
            hint="a-b.slice is below a.slice; other characters are escaped: systemd-escape(1)",
        )
    return name


def container_slice(parent: str, container_id: str) -> str:
    """Return the name of a container's own slice: one step below its parent."""
    stem = parent.removesuffix(".slice")
    name = f"{PREFIX}_{container_id}.slice"
    name = name if stem == "-" else f"{stem}-{name}"
    if len(name) > _LONGEST_UNIT:
        raise InvalidArgument(
            f"cgroup_parent: with {parent!r} the container's own slice has a name of {len(name)} "
            f"characters, and systemd takes {_LONGEST_UNIT}",
            hint="use a slice with a shorter name",
        )
    return name


def slice_above(own: str, container_id: str) -> str:
    """Return the parent of a container's own slice: what `container_slice` made its name of."""
    stem = own.removesuffix(f"{PREFIX}_{container_id}.slice")
    return f"{stem.removesuffix('-') or '-'}.slice"


def slice_path(name: str) -> str:
    """Return where a slice is in the cgroup tree, below its manager's own cgroup.

    a-b.slice is below a.slice and has its whole name there (systemd.slice(5)); "" is the root.
    """
    stem = name.removesuffix(".slice")
    if stem == "-":
        return ""
    parts = stem.split("-")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def is_own(path: str, manager: str, container_id: str) -> bool:
    """Whether a cgroup path can be the one that a container has of its own."""
    name = path.rpartition("/")[2]
    if manager == NONE:
        return not path
    if manager == SYSTEMD:
        own = f"{PREFIX}_{container_id}.slice"
        return name == own or name.endswith(f"-{own}")
    return name == container_id
