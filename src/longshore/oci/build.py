"""Build a container's config.json. Pure: all that the host says is in the `SpecContext`.

The order of the keys and of all lists depends on the input only, so a spec can be compared.
"""

from __future__ import annotations

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.oci.context import SpecContext
from longshore.oci.mounts import INIT_TARGET, in_user_namespace, mounts
from longshore.oci.privilege import (
    SYS_RESOURCE,
    bounding_set,
    capabilities,
    hidden_paths,
    is_unmasked,
)
from longshore.oci.resources import resources, rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.oci.schema import (
        DeviceNode,
        IdMapping,
        Linux,
        Namespace,
        NamespaceType,
        Process,
        Spec,
    )
    from longshore.options import ContainerConfig

__all__ = ["SpecContext", "build_spec"]

OCI_VERSION = "1.0.2"  # what every runtime of Debian 12 and later reads
# crun(1): the files of a mount may then be relabelled; with "context" they may not
_NESTED = "run.oci.mount_context_type"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build_spec(config: ContainerConfig, host: SpecContext) -> Spec:
    """Return the whole spec, with ``config.spec_patch`` applied.

    Raises `HostUnsupported` for what was asked and this host cannot do: no limit and no option is
    left out in silence.
    """
    bounding = bounding_set(config, host.default_caps, host.bounding_mask)
    spec: Spec = {
        "ociVersion": OCI_VERSION,
        "process": _process(config, host, bounding),
        "root": {"path": host.rootfs},
        "mounts": mounts(config, host),
        "linux": _linux(config, host, bounding),
    }
    if config.read_only:
        spec["root"]["readonly"] = True
    # in a namespace of others, the name is theirs
    if config.uts in ("", "private"):
        spec["hostname"] = _hostname(config, host)
    annotations = annotations_of(config, host.annotations)
    if config.keep_groups:  # crun(1); no other runtime has it
        annotations["run.oci.keep_original_groups"] = "1"
    if annotations:
        spec["annotations"] = annotations
    if host.cdi is not None:
        from longshore.oci.edits import apply

        apply(spec, host.cdi, asked=frozenset(mount.target for mount in config.mounts))
    if host.hooks:
        from longshore.oci.patch import copy_json

        # behind those of CDI devices, as podman has them
        own, more = spec.get("hooks", {}), copy_json(dict(host.hooks))
        stages = dict.fromkeys((*own, *more))
        spec["hooks"] = {s: [*own.get(s, ()), *more.get(s, ())] for s in stages}
    if config.spec_patch:
        from longshore.oci.patch import check_patched, merge_patch

        cgroup = spec["linux"].get("cgroupsPath", "")
        spec = merge_patch(spec, config.spec_patch)
        check_patched(spec, cgroup)
    return spec


def arguments(config: ContainerConfig) -> list[str]:
    """Return the words of the process, whose first one is what is executed."""
    own = [*config.entrypoint, *config.command]
    return [INIT_TARGET, "--", *own] if config.init else own


def annotations_of(config: ContainerConfig, more: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations of the spec; those asked for replace others."""
    nested = {_NESTED: "rootcontext"} if "nested" in config.selinux_opts else {}
    return {**nested, **more, **config.annotations}


def _hostname(config: ContainerConfig, host: SpecContext) -> str:
    """Return the container's name for itself; "" where it shares that of others."""
    if config.hostname:
        return config.hostname
    if config.uts.startswith(("container:", "ns:")):
        return ""
    # as podman: a container on the host's network answers to the host's name
    if config.uts == "host" or (config.network == "host" and config.uts == ""):
        return host.nodename
    return host.id[:12]


def _process(config: ContainerConfig, host: SpecContext, bounding: tuple[str, ...]) -> Process:
    user = host.user
    if config.init and not host.init_path:
        raise HostUnsupported(
            "init needs a small init program",
            "no catatonit",
            hint="install catatonit, or give init_path=",
        )
    process: Process = {
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "umask": host.default_umask if config.umask is None else config.umask,
        },
        "args": arguments(config),
        "env": [f"{name}={value}" for name, value in environment(config, host).items()],
        "cwd": config.workdir or "/",
        "capabilities": capabilities(config, bounding, user.uid),
    }
    if user.groups and not config.keep_groups:
        process["user"]["additionalGids"] = list(user.groups)
    if config.tty:
        process["terminal"] = True
    if limits := rlimits(config, host):
        process["rlimits"] = limits
    if config.no_new_privileges:
        process["noNewPrivileges"] = True
    if config.oom_score_adj is not None:
        process["oomScoreAdj"] = _oom_score_adj(config.oom_score_adj, host)
    if config.apparmor and config.apparmor != "unconfined" and "apparmor" not in host.lsms:
        raise HostUnsupported(f"apparmor={config.apparmor}", "AppArmor is not active here")
    if host.apparmor:
        process["apparmorProfile"] = host.apparmor
    if host.process_label:
        process["selinuxLabel"] = host.process_label
    return process


def environment(config: ContainerConfig, host: SpecContext) -> dict[str, str]:
    """Return the variables of the program: defaults, containers.conf's, then those asked for."""
    name = _hostname(config, host)
    return {
        "PATH": DEFAULT_PATH,
        "TERM": "xterm",
        "container": "longshore",  # systemd(1) and scripts look at it
        **host.default_env,
        **({"HOSTNAME": name} if name else {}),
        "HOME": host.user.home,
        **config.env,
    }


def _oom_score_adj(asked: int, host: SpecContext) -> int:
    if asked < host.oom_score_adj and not host.bounding_mask >> SYS_RESOURCE & 1:
        raise HostUnsupported(
            f"oom_score_adj of {asked}",
            f"{host.oom_score_adj} here, and no CAP_SYS_RESOURCE to lower it",
            hint=f"at least {host.oom_score_adj}",
        )
    return asked


def _linux(config: ContainerConfig, host: SpecContext, bounding: tuple[str, ...]) -> Linux:
    linux: Linux = {
        "namespaces": _namespaces(config, host),
        "resources": resources(config, host),
    }
    if host.cgroup_path:
        linux["cgroupsPath"] = host.cgroup_path
    if host.devices and not in_user_namespace(config, host):
        linux["devices"] = _devices(host)
    if config.mapped_uids:
        linux["uidMappings"] = [_mapping(text) for text in config.mapped_uids]
        linux["gidMappings"] = [_mapping(text) for text in config.mapped_gids]
    if sysctl := _sysctls(config, host):
        linux["sysctl"] = sysctl
    if host.seccomp is not None:
        from longshore.oci.seccomp import convert

        linux["seccomp"] = convert(
            host.seccomp, machine=host.machine, kernel=host.kernel, caps=frozenset(bounding)
        )
    if host.mount_label:
        linux["mountLabel"] = host.mount_label
    masked, readonly = hidden_paths(config)
    if not config.privileged:
        masked += [path for path in host.sysfs_mounts if not is_unmasked(config, path)]
    if masked:
        linux["maskedPaths"] = masked
    if readonly:
        linux["readonlyPaths"] = readonly
    return linux


def _mapping(text: str) -> IdMapping:
    inside, outside, count = map(int, text.split(":"))
    return {"containerID": inside, "hostID": outside, "size": count}


def _devices(host: SpecContext) -> list[DeviceNode]:
    return [
        {
            "path": node.path,
            "type": node.type,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.mode,
            "uid": node.uid,
            "gid": node.gid,
        }
        for node in host.devices
    ]


def _sysctls(config: ContainerConfig, host: SpecContext) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in host.default_sysctls.items():
        # a default must not change what the container shares with others
        mode = config.network if name.startswith("net.") else config.ipc
        if mode in ("", "private", "shareable", "none"):
            found[name] = value
    return {**found, **config.sysctls}


def _namespaces(config: ContainerConfig, host: SpecContext) -> list[Namespace]:
    modes: tuple[tuple[NamespaceType, str], ...] = (
        ("pid", config.pid),
        ("network", config.network),
        ("ipc", config.ipc),
        ("uts", config.uts),
        ("cgroup", config.cgroupns or ("private" if host.cgroup_version == 2 else "host")),
    )
    found: list[Namespace] = []
    if config.userns.startswith(("ns:", "container:")):
        modes = (("user", config.userns), *modes)
    elif config.mapped_uids:
        found.append({"type": "user"})
    for kind, mode in modes:
        word, _, rest = mode.partition(":")
        if word == "ns":
            found.append({"type": kind, "path": rest})
        elif word == "container":
            path = host.namespace_paths.get(kind)
            if path is None:
                raise InvalidArgument(f"{kind}: the namespace of container {rest} is not known")
            found.append({"type": kind, "path": path})
        elif word != "host":
            found.append({"type": kind})
    found.append({"type": "mount"})
    return found
