"""Capabilities, and the paths that a container does not see or cannot write."""

from __future__ import annotations

from longshore.errors import HostUnsupported
from longshore.options.parse import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longshore.oci.schema import Capabilities
    from longshore.options import ContainerConfig

# containers.conf(5): default_capabilities as containers-common ships it
DEFAULT_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
ALL_CAPABILITIES_MASK = (1 << len(CAPABILITIES)) - 1
SYS_RESOURCE = CAPABILITIES.index("CAP_SYS_RESOURCE")

# As podman 4.3.1 writes them (measured); powercap as newer ones do (CVE-2020-8694).
MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: tuple[str, ...] = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def names_of(mask: int) -> tuple[str, ...]:
    """Return the capabilities of a bit mask, such as CapBnd of /proc/self/status has."""
    return tuple(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def bounding_set(config: ContainerConfig, default: Iterable[str], mask: int) -> tuple[str, ...]:
    """Return, sorted, what the container could ever hold.

    ``default`` is containers.conf's list and ``mask`` what the caller itself may hand on. What was
    asked for by name and cannot be had is an error; from a default it is left out.
    """
    available = frozenset(names_of(mask))
    added = frozenset(config.cap_add) - {"CAP_ALL"}
    if missing := sorted(added - available):
        raise HostUnsupported(
            f"cap_add: {', '.join(missing)}",
            "this process may not hand it on (CapBnd of /proc/self/status)",
            hint="leave it out, or run Longshore with more privilege",
        )
    held = available.intersection(default)
    if "CAP_ALL" in config.cap_drop:
        held = added
    elif config.privileged or "CAP_ALL" in config.cap_add:
        held = available
    return tuple(sorted((held | added).difference(config.cap_drop)))


def capabilities(config: ContainerConfig, bounding: Sequence[str], uid: int) -> Capabilities:
    """Return the five sets of a container's program; see `capability_sets`."""
    return capability_sets(config.cap_add, bounding, uid)


def capability_sets(added: Sequence[str], bounding: Sequence[str], uid: int) -> Capabilities:
    """Return the five sets, as podman has them.

    Root has the bounding set. Another user has none, but what was ``added`` by name is made
    ambient, or it would be lost at the program's start (capabilities(7)).
    """
    if uid == 0:
        held = list(bounding)
        return {"bounding": list(bounding), "effective": held, "permitted": list(held)}
    if "CAP_ALL" in added:
        kept = list(bounding)
    else:
        kept = [name for name in bounding if name in added]
    sets: Capabilities = {"bounding": list(bounding)}
    if kept:
        sets["effective"] = kept
        sets["inheritable"] = list(kept)
        sets["permitted"] = list(kept)
        sets["ambient"] = list(kept)
    return sets


def hidden_paths(config: ContainerConfig) -> tuple[list[str], list[str]]:
    """Return (masked, read-only) paths after ``mask`` and ``unmask``; none when privileged.

    ``unmask`` takes ALL, paths, and shell patterns in which ``*`` stays within one name.
    """
    if config.privileged:
        return [], []
    if "ALL" in config.unmask:
        return list(config.mask), []
    masked, readonly = list(MASKED_PATHS), list(READONLY_PATHS)
    if "nested" in config.selinux_opts:
        masked.remove("/sys/fs/selinux")
    if config.unmask:
        masked = [path for path in masked if not _matches(path, config.unmask)]
        readonly = [path for path in readonly if not _matches(path, config.unmask)]
    masked += [path for path in config.mask if path not in masked]
    return masked, readonly


def is_unmasked(config: ContainerConfig, path: str) -> bool:
    """Whether ``unmask`` names a path, or all of them."""
    return "ALL" in config.unmask or _matches(path, config.unmask)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    from fnmatch import fnmatchcase

    depth = path.count("/")
    return any(p.count("/") == depth and fnmatchcase(path, p.rstrip("/")) for p in patterns)
