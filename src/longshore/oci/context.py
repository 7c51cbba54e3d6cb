"""What a spec needs to know besides the `ContainerConfig`: facts of the host and of this start.

`SpecContext` holds them; `gather` and the functions below it read them. All input of the `oci`
package is here, in `users` and in `seccomp.read_profile`.
"""

from __future__ import annotations

import os
import stat

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.models import Ulimit
from longshore.oci.privilege import ALL_CAPABILITIES_MASK, DEFAULT_CAPABILITIES
from longshore.oci.users import ResolvedUser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from longshore.models import Device
    from longshore.oci.edits import Edits
    from longshore.oci.schema import Hook
    from longshore.options import ContainerConfig

DEFAULT_SHM_SIZE = 64 << 20
DEFAULT_PIDS_LIMIT = 2048  # containers.conf(5)


class HostDevice(Value):
    """A device file of the host, and how a container is to see it."""

    path: str  # in the container
    type: str  # "c" or "b"
    major: int
    minor: int
    mode: int = 0o600  # permission bits
    uid: int = 0
    gid: int = 0
    access: str = "rwm"
    source: str = ""  # on the host


class SpecContext(Value):
    """Facts for one spec. Those that have a default may be left out."""

    # this container
    id: str
    rootfs: str  # the mounted root, as the runtime sees it
    cgroup_path: str  # what the runtime is told; "": it has no cgroup of its own
    user: ResolvedUser = ResolvedUser()
    devices: tuple[HostDevice, ...] = ()
    block_devices: Mapping[str, tuple[int, int]] = {}  # numbers of those that limits name
    seccomp: Mapping[str, Any] | None = (
        None  # a profile as read_profile gives it; None is no filter
    )
    namespace_paths: Mapping[str, str] = {}  # for container:ID modes: "network" → /proc/PID/ns/net
    hostname_path: str = ""  # bound on /etc/hostname, where it is not ""
    hosts_path: str = ""  # on /etc/hosts
    resolv_path: str = ""  # on /etc/resolv.conf
    init_path: str = ""  # catatonit or its like, for init=True
    annotations: Mapping[str, str] = {}
    hooks: Mapping[str, list[Hook]] = {}  # by stage, of OCI hooks directories
    cdi: Edits | None = None  # what CDI devices change
    process_label: str = ""  # of SELinux; "" is none
    mount_label: str = ""
    apparmor: str = ""  # a profile that is loaded; "" is none

    # this host
    user_namespace: bool = False  # the runtime is root of a user's namespace only
    tty_group: bool = True  # gid 5, that of terminals, is mapped in the container
    sysfs_mounts: tuple[
        str, ...
    ] = ()  # what is mounted below /sys/kernel, if the container sees it
    cgroup_version: int = 1
    controllers: frozenset[str] | None = None  # what PARENT can hand down; None: not known
    processors: str = ""  # those that are online, as "0-3,8"; "" is not known
    memory_nodes: str = ""
    swap_accounting: bool = True  # memory.memsw.* (v1) or memory.swap.max (v2) is there
    bounding_mask: int = ALL_CAPABILITIES_MASK  # CapBnd of this process
    host_rlimits: Mapping[str, tuple[int, int]] = {}  # RLIMIT_… → soft, hard; −1 is unlimited
    oom_score_adj: int = -1000  # this process's; lowering it needs CAP_SYS_RESOURCE
    machine: str = "x86_64"  # uname -m
    kernel: str = "6.1"  # uname -r
    nodename: str = "localhost"
    lsms: frozenset[str] = frozenset()  # "apparmor", "selinux": those that are active

    # containers.conf
    default_caps: tuple[str, ...] = DEFAULT_CAPABILITIES
    default_sysctls: Mapping[str, str] = {}
    default_ulimits: tuple[Ulimit, ...] = ()
    default_env: Mapping[str, str] = {}
    default_pids_limit: int = DEFAULT_PIDS_LIMIT  # 0 or −1 is none
    default_shm_size: int = DEFAULT_SHM_SIZE
    default_umask: int = 0o022


def gather(
    config: ContainerConfig,
    *,
    id: str,  # noqa: A002
    rootfs: str,
    cgroup_path: str,
    seccomp_profile: str = "",
    **more: Any,
) -> SpecContext:
    """Return the context of one start, with all that can be read from the host read. I/O.

    ``rootfs`` must be mounted: its passwd file is read. ``seccomp_profile`` is containers.conf's,
    "" for where containers-common has it. ``more`` are fields of `SpecContext`; a field that is
    given is not looked up. Raises `InvalidArgument` for users, devices and profiles that are not
    there, `HostUnsupported` where there is no seccomp profile.
    """
    from longshore.oci.users import resolve_user

    facts: dict[str, Any] = dict(more)
    if "user" not in facts:
        facts["user"] = resolve_user(rootfs, config.user, config.group_add)
    if "devices" not in facts:
        facts["devices"] = host_devices(config.devices, every=config.privileged)
    if (paths := _limited(config)) and "block_devices" not in facts:
        from longshore.options.blockio import numbers

        facts["block_devices"] = {path: numbers(path, path) for path in paths}
    if "seccomp" not in facts:
        facts["seccomp"] = seccomp_of(config, seccomp_profile)
    if "host_rlimits" not in facts:
        facts["host_rlimits"] = host_rlimits()
    if "bounding_mask" not in facts:
        facts["bounding_mask"] = bounding_mask()
    if config.oom_score_adj is not None and "oom_score_adj" not in facts:
        facts["oom_score_adj"] = int(_read("/proc/self/oom_score_adj") or -1000)
    if config.cpuset_cpus and "processors" not in facts:
        facts["processors"] = _read("/sys/devices/system/cpu/online").strip()
    if config.cpuset_mems and "memory_nodes" not in facts:
        facts["memory_nodes"] = _read("/sys/devices/system/node/online").strip()
    if "lsms" not in facts:
        facts["lsms"] = active_lsms()
    uname = os.uname()
    facts.setdefault("machine", uname.machine)
    facts.setdefault("kernel", uname.release)
    facts.setdefault("nodename", uname.nodename)
    return SpecContext(id=id, rootfs=rootfs, cgroup_path=cgroup_path, **facts)


def _limited(config: ContainerConfig) -> set[str]:
    """Return the block devices that have limits."""
    return {
        *config.blkio_weight_device,
        *config.device_read_bps,
        *config.device_write_bps,
        *config.device_read_iops,
        *config.device_write_iops,
    }


def seccomp_of(config: ContainerConfig, default: str = "") -> Mapping[str, Any] | None:
    """Return the profile that a container is to have, or None for none. I/O."""
    from longshore.oci.seccomp import PROFILE_PATHS, find_profile, read_profile

    if config.seccomp == "unconfined" or (config.privileged and not config.seccomp):
        return None
    path = config.seccomp or find_profile((default, *PROFILE_PATHS) if not default else (default,))
    return read_profile(path)


def bounding_mask() -> int:
    """Return what this process may hand on: CapBnd of /proc/self/status. I/O."""
    for line in _read("/proc/self/status").split("\n"):
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return ALL_CAPABILITIES_MASK


def host_rlimits() -> dict[str, tuple[int, int]]:
    """Return this process's own limits by the runtime-spec's names; −1 is unlimited. I/O."""
    import resource

    from longshore.options.parse import RLIMITS

    found: dict[str, tuple[int, int]] = {}
    for short in RLIMITS:
        # LOCKS is not in the module: the kernel ignores it since 2.4
        number: int | None = getattr(resource, f"RLIMIT_{short}", None)
        if number is not None:
            found[f"RLIMIT_{short}"] = resource.getrlimit(number)
    return found


def active_lsms() -> frozenset[str]:
    """Return which of apparmor and selinux are active. I/O."""
    found = set(_read("/sys/kernel/security/lsm").strip().split(","))
    if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
        found.add("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.add("selinux")
    return frozenset(found & {"apparmor", "selinux"})


def host_devices(devices: Sequence[Device], *, every: bool = False) -> tuple[HostDevice, ...]:
    """Return the device files that were asked for; a directory stands for all below it. I/O.

    ``every`` adds all of the host's /dev, but terminals' and what has mounts of its own there.
    """
    found: dict[str, HostDevice] = {}
    if every:
        for path in _device_files("/dev"):
            if not path.startswith("/dev/pts/") and path not in ("/dev/console", "/dev/ptmx"):
                _add_device(found, path, path, "rwm")
    for device in devices:
        if os.path.isdir(device.source):
            for path in _device_files(device.source):
                target = device.target + path[len(device.source.rstrip("/")) :]
                _add_device(found, path, target, device.permissions)
        elif not _add_device(found, device.source, device.target, device.permissions):
            raise InvalidArgument(f"devices: {device.source} is not there any more")
    return tuple(found.values())


def _device_files(directory: str) -> Iterable[str]:
    skipped = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/hugepages"}
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink() or entry.path in skipped:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _device_files(entry.path)
            else:  # what it is, and what is mounted on it, is looked at by whoever adds it
                yield entry.path


def _add_device(found: dict[str, HostDevice], source: str, target: str, access: str) -> bool:
    try:
        status = os.stat(source)
    except OSError:
        return False
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        return False
    found[target] = HostDevice(
        path=target,
        type=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
        source=source,
    )
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
