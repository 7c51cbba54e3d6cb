"""Bring together what a spec needs to know: containers.conf, this host, other containers."""

from __future__ import annotations

from longshore._value import is_table
from longshore.cgroup.placement import NONE
from longshore.engine import injected
from longshore.engine.roots import place, user_of
from longshore.errors import HostUnsupported, InvalidArgument, WrongState
from longshore.lifecycle import Op, permitted
from longshore.linux.processes import is_alive
from longshore.oci.build import annotations_of, arguments, build_spec
from longshore.oci.context import (
    DEFAULT_PIDS_LIMIT,
    DEFAULT_SHM_SIZE,
    SpecContext,
    active_lsms,
    gather,
)
from longshore.oci.privilege import DEFAULT_CAPABILITIES
from longshore.oci.seccomp import PROFILE_PATHS
from longshore.options.parse import parse_capabilities, parse_size, parse_ulimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from longshore.engine.machinery import Machinery
    from longshore.oci.schema import Spec
    from longshore.options import ContainerConfig
    from longshore.store import Record

# option → the runtime-spec's name of the namespace, and the kernel's (namespaces(7))
_NAMESPACES = {
    "network": ("network", "net"),
    "pid": ("pid", "pid"),
    "ipc": ("ipc", "ipc"),
    "uts": ("uts", "uts"),
    "userns": ("user", "user"),
    "cgroupns": ("cgroup", "cgroup"),
}
_INIT_PLACES = ("/usr/libexec/podman", "/usr/lib/podman")


def spec_context(
    machinery: Machinery, record: Record, root: str, *, lookup_root: str | None = None
) -> SpecContext:
    """Return the facts for a container's spec. ``root`` is what the runtime is told.

    ``lookup_root`` is where its users are looked up, if its root is not mounted yet.
    """
    from longshore.engine.machinery import find_program

    config = record.config
    settings = machinery.settings
    layout = machinery.cgroup_layout
    placement = machinery.placement(config, record.id)
    if placement.manager == NONE and config.pid not in ("", "private"):
        raise HostUnsupported(
            f"pid={config.pid} needs a cgroup, by which the container's processes are found again",
            "none: this user may make none here",
            hint="log in with systemd as your user's manager, or run it as root",
        )
    init_path = ""
    if config.init:
        init_path = config.init_path or settings.init_path
        init_path = init_path or find_program("catatonit", _INIT_PLACES) or ""
    selinux = machinery.selinux
    lsms = active_lsms()
    profile = ""
    if "apparmor" in lsms:
        from longshore.linux.apparmor import AppArmor

        profile = AppArmor().profile(
            config.apparmor, privileged=config.privileged, default=settings.apparmor_profile
        )
    context = gather(
        config,
        lsms=lsms,
        process_label=record.process_label if selinux is not None else "",
        mount_label=record.mount_label if selinux is not None else "",
        apparmor=profile,
        id=record.id,
        rootfs=lookup_root or root,
        cgroup_path=placement.told,
        seccomp_profile=settings.seccomp_profile,
        namespace_paths=_namespace_paths(machinery, config),
        hooks=injected.hooks(
            settings,
            config,
            command=arguments(config)[0],
            annotations=annotations_of(config, {}),
        ),
        cdi=injected.cdi_edits(settings, config),
        init_path=init_path,
        **_user_namespace(machinery, config, lookup_root or root),
        cgroup_version=layout.version,
        controllers=machinery.controllers,
        swap_accounting=config.memory is None or layout.counts_swap(),
        default_caps=(
            parse_capabilities(settings.default_capabilities, "default_capabilities")
            if settings.default_capabilities
            else DEFAULT_CAPABILITIES
        ),
        default_sysctls=_pairs(settings.default_sysctls),
        default_ulimits=tuple(parse_ulimit(u) for u in settings.default_ulimits),
        default_env=_pairs(settings.default_env),
        default_pids_limit=(
            DEFAULT_PIDS_LIMIT if settings.pids_limit is None else settings.pids_limit
        ),
        default_shm_size=(
            parse_size(settings.shm_size, "shm_size") if settings.shm_size else DEFAULT_SHM_SIZE
        ),
    )
    return context if lookup_root is None else context.replace(rootfs=root)


def seccomp_profile(machinery: Machinery) -> str:
    """Return the path of the default seccomp profile, or ""."""
    import os

    candidates = (machinery.settings.seccomp_profile, *PROFILE_PATHS)
    return next((path for path in candidates if path and os.path.isfile(path)), "")


def changed_config(
    machinery: Machinery, record: Record, change: Callable[[Spec], Spec | None]
) -> ContainerConfig:
    """Apply a caller's function to the finished spec, and keep what it did as a merge patch.

    A function cannot be kept for a later start, by another process; what it changed can.
    """
    import copy
    import json

    from longshore.oci.patch import check_patched

    config = record.config
    root = place(machinery, record)
    before = build_spec(config, spec_context(machinery, record, root, lookup_root=config.rootfs))
    given = copy.deepcopy(before)
    answer = change(given)
    after: Any = given if answer is None else answer
    if not is_table(after):
        raise InvalidArgument(
            f"spec= returned {type(after).__name__}", hint="return the spec, or None"
        )
    try:
        json.dumps(after)
    except (TypeError, ValueError) as err:
        raise InvalidArgument(f"spec= left what is no JSON: {err}") from None
    check_patched(after, before["linux"].get("cgroupsPath", ""))
    patch = _difference(before, after)
    return config.replace(spec_patch=_merge(config.spec_patch, patch))


def check_spec(machinery: Machinery, record: Record) -> None:
    """Build a spec as a start would now, so that what is wrong is an error at the creation.

    A container whose namespace is to be joined may be started later.
    """
    config = record.config
    root = place(machinery, record)
    try:
        build_spec(config, spec_context(machinery, record, root, lookup_root=config.rootfs))
    except WrongState:
        pass


def _difference(before: Any, after: Any) -> Any:
    """Return the merge patch (RFC 7396) that makes ``after`` of ``before``."""
    if not (is_table(before) and is_table(after)):
        return after
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif before[key] != value:
            patch[key] = _difference(before[key], value)
    return patch


def _merge(first: Any, second: dict[str, Any]) -> dict[str, Any]:
    """Return one patch that does what two do, one after the other; nulls are kept."""
    merged: dict[str, Any] = dict(first)
    for key, value in second.items():
        old: Any = merged.get(key)
        merged[key] = _merge(old, value) if is_table(old) and is_table(value) else value
    return merged


def _user_namespace(machinery: Machinery, config: ContainerConfig, root: str) -> dict[str, Any]:
    """Return the facts of a spec that only containers in a user namespace have."""
    if machinery.user is None and not config.mapped_uids:
        return {}
    from longshore.engine import idmaps
    from longshore.linux import userns
    from longshore.linux.mounts import mount_points

    gids = idmaps.gids_of(machinery, config)
    shown = config.network not in ("", "private", "none")
    return {
        "user": user_of(machinery, root, config.user, config.group_add),
        "user_namespace": machinery.user is not None,
        "tty_group": userns.outside(gids, _TTY) is not None,
        "sysfs_mounts": tuple(
            point.path for point in mount_points() if shown and point.path.startswith(_KERNEL)
        ),
    }


_TTY = 5  # Debian's, Fedora's and devpts' own example
_KERNEL = "/sys/kernel/"


def _namespace_paths(machinery: Machinery, config: ContainerConfig) -> dict[str, str]:
    """Return the namespaces of others that this one joins; those of ``ns:PATH`` are checked."""
    found: dict[str, str] = {}
    if any(getattr(config, field).startswith("ns:") for field in _NAMESPACES):
        from longshore.engine.joining import check_paths

        check_paths(config, {field: kind for field, (_, kind) in _NAMESPACES.items()})
    for field, ref in config.joined.items():
        kind, file = _NAMESPACES[field]
        other = machinery.store.peek(machinery.store.resolve(ref))
        if field == "ipc" and other.config.ipc == "private":
            raise InvalidArgument(
                f"ipc: the IPC of container {other.name} is not shared with anybody: it is private",
                hint="make that one with ipc=shareable, which is the default",
            )
        init = other.run.init if other.run is not None else None
        if init is None or not is_alive(init):
            raise WrongState(
                other.name,
                f"share the {field} namespace of",
                other.status.value,
                [s.value for s in permitted(Op.EXEC)],
                hint=f"start it first: `longshore start {other.name}`",
            )
        found[kind] = f"/proc/{init.pid}/ns/{file}"
    return found


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (v.partition("=") for v in values)}
