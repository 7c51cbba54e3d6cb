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
    found = [
        _mount("/proc", "proc", "proc", *_SAFE),
        _mount(
            "/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"
        ),
        _mount("/sys", "sysfs", "sysfs", *sysfs),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", *_SAFE),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "rprivate", *_SAFE, "relatime", access),
    ]
    if config.ipc != "none":
        found.append(_shm(config, host))
    return found


def _shm(config: ContainerConfig, host: SpecContext) -> MountPoint:
    source = "/dev/shm" if config.ipc == "host" else host.shm_path
    if source:
        return _mount("/dev/shm", "bind", source, "bind", "rprivate", *_SAFE)
    size = config.shm_size or host.default_shm_size
    return _mount("/dev/shm", "tmpfs", "shm", *_SAFE, "mode=1777", f"size={size}")
