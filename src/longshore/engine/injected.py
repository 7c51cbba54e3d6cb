"""What files of this host add to containers: OCI hooks directories, and the specs of CDI devices.

They are read when a container is made, so that what cannot be is an error before anything is
touched, and again at each start, because a reboot or a driver may have changed them (as podman
does).
"""

from __future__ import annotations

import os

from longshore.config import DEFAULT_HOOKS_DIRS
from longshore.errors import HostUnsupported
from longshore.linux import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.config import Settings
    from longshore.oci.edits import Edits
    from longshore.oci.schema import Hook
    from longshore.options import ContainerConfig


def check(settings: Settings, config: ContainerConfig) -> None:
    """Refuse a container whose hooks or CDI devices cannot be had here. I/O."""
    hooks(settings, config, command="", annotations={})
    cdi_edits(settings, config)


def hooks(
    settings: Settings,
    config: ContainerConfig,
    *,
    command: str,
    annotations: Mapping[str, str],
) -> Mapping[str, list[Hook]]:
    """Return the hooks that a container gets from hooks directories, by stage. I/O.

    ``command`` is the first word of its process.
    """
    directories = _hook_directories(settings)
    if not directories:
        return {}
    from longshore.oci.hooks import read_hooks, select

    return select(
        read_hooks(directories, may_lack=DEFAULT_HOOKS_DIRS),
        command=command,
        annotations=annotations,
        has_bind_mounts=any(mount.type == "bind" for mount in config.mounts),
    )


def _hook_directories(settings: Settings) -> Sequence[str]:
    if settings.hooks_dirs:
        return settings.hooks_dirs
    if userns.owner() is not None:
        return ()  # as podman: the host's own are written for root
    return [path for path in DEFAULT_HOOKS_DIRS if os.path.isdir(path)]


def cdi_edits(settings: Settings, config: ContainerConfig) -> Edits | None:
    """Return what the CDI devices of a container change in its spec; None without any. I/O.

    HostUnsupported also for intelRdt, of a device or of the spec patch, where the kernel's resctrl
    is not mounted: crun 1.8 and runc 1.1 leave closID out and say nothing (measured).
    """
    edits = None
    if config.cdi_devices:
        from longshore.oci.cdi import resolve

        edits = resolve(config.cdi_devices, settings.cdi_spec_dirs)
    patched = config.spec_patch.get("linux")
    asked = edits is not None and edits.intel_rdt
    if (asked or (patched and patched.get("intelRdt"))) and not _has_resctrl():
        raise HostUnsupported(
            "linux.intelRdt needs the kernel's resctrl file system",
            "it is not mounted",
            hint="mount -t resctrl resctrl /sys/fs/resctrl, on a machine that has it",
        )
    return edits


def _has_resctrl() -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.partition(" - ")[2].startswith("resctrl ") for line in file)
