"""The mounts of a container, in the order in which they have to be made."""

from __future__ import annotations

from longshore.oci.privilege import is_unmasked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.oci.context import SpecContext
    from longshore.oci.schema import MountPoint
    from longshore.options import ContainerConfig

INIT_TARGET = "/run/longshore-init"
_SAFE = ("nosuid", "noexec", "nodev")
# config-linux.md, "Default Devices": every runtime makes these by itself
_DEFAULT_DEVICES = frozenset(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
)
_SELINUX = "/sys/fs/selinux"
_READ_ONLY_TMPFS = ("/run", "/tmp", "/var/tmp")  # podman-run(1), --read-only-tmpfs


def mounts(config: ContainerConfig, host: SpecContext) -> list[MountPoint]:
    """Return the standard mounts, the generated files and those asked for, parents first.

    What was asked for replaces what else would be on its target.
    """
    found = {mount["destination"]: mount for mount in _standard(config, host)}
    if config.read_only and config.read_only_tmpfs:
        # Without podman's tmpcopyup: with rootfs=/ it copies a machine's whole /run and /tmp.
        for target in _READ_ONLY_TMPFS:
            found[target] = _mount(target, "tmpfs", "tmpfs", "rw", "rprivate", "nosuid", "nodev")
    for target, source in (
        ("/etc/hostname", host.hostname_path),
        ("/etc/hosts", host.hosts_path),
        ("/etc/resolv.conf", host.resolv_path),
    ):
        if source:
            locked = ("ro", *_SAFE) if config.read_only else ()
            found[target] = _mount(target, "bind", source, "bind", "rprivate", *locked)
    if in_user_namespace(config, host):
        found |= {mount["destination"]: mount for mount in _devices(host)}
    if config.init:
        found[INIT_TARGET] = _mount(INIT_TARGET, "bind", host.init_path, "bind", "ro", "rprivate")
    if "nested" in config.selinux_opts and "selinux" in host.lsms:
        found[_SELINUX] = _mount(_SELINUX, "bind", _SELINUX, "bind", "rw", "rprivate", *_SAFE)
    for asked in config.mounts:
        # the engine has relabelled it where SELinux is active; elsewhere they mean nothing
        options = tuple(word for word in asked.options if word not in ("z", "Z"))
        found[asked.target] = _mount(asked.target, asked.type, asked.source, *options)
    # a mount has to come before those below it; the sort keeps the order otherwise
    return sorted(found.values(), key=lambda mount: mount["destination"].count("/"))


def _mount(target: str, kind: str, source: str, *options: str) -> MountPoint:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _standard(config: ContainerConfig, host: SpecContext) -> list[MountPoint]:
    # Options as podman 4.3.1 writes them (measured), for root.
    access = "rw" if config.privileged or is_unmasked(config, "/sys/fs/cgroup") else "ro"
    sysfs = ("rprivate", *_SAFE, "rw") if config.privileged else (*_SAFE, "ro")
    proc = _mount("/proc", "proc", "proc", *_SAFE)
    sys = _mount("/sys", "sysfs", "sysfs", *sysfs)
    queues = _mount("/dev/mqueue", "mqueue", "mqueue", *_SAFE)
    # In a user namespace the kernel mounts these only for the namespaces that are owned by it
    # (user_namespaces(7)); those of others are shown as they are.
    if in_user_namespace(config, host):
        if _is_shared(config.pid):
            proc = _mount("/proc", "bind", "/proc", "rbind", *_SAFE)
        if _is_shared(config.network):
            sys = _mount("/sys", "bind", "/sys", "rbind", *sysfs)
        if _is_shared(config.ipc):
            queues = _mount("/dev/mqueue", "bind", "/dev/mqueue", "bind", *_SAFE)
    found = [
        proc,
        _mount(
            "/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"
        ),
        sys,
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            *(["gid=5"] if host.tty_group else []),
        ),
        queues,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "rprivate", *_SAFE, "relatime", access),
    ]
    if config.ipc != "none":
        found.append(_shm(config, host))
    return found


def in_user_namespace(config: ContainerConfig, host: SpecContext) -> bool:
    """Whether a container is in another user namespace than the host's own."""
    return host.user_namespace or bool(config.mapped_uids)


def _devices(host: SpecContext) -> list[MountPoint]:
    """Return the devices as mounts: no device file can be made in a user namespace (mknod(2))."""
    safe = ("bind", "nosuid", "noexec")
    return [
        _mount(node.path, "bind", node.source or node.path, *safe)
        for node in host.devices
        if node.path not in _DEFAULT_DEVICES
    ]


def _is_shared(mode: str) -> bool:
    return mode == "host" or mode.startswith(("ns:", "container:"))


def _shm(config: ContainerConfig, host: SpecContext) -> MountPoint:
    if config.ipc == "host":
        return _mount("/dev/shm", "bind", "/dev/shm", "bind", "rprivate", *_SAFE)
    size = config.shm_size or host.default_shm_size
    return _mount("/dev/shm", "tmpfs", "shm", *_SAFE, "mode=1777", f"size={size}")
