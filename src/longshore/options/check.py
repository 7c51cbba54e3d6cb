"""Check every option of a new container and return its normal form.

Nothing is changed or made; the host is only asked (stat) whether paths are there. Values that
later stand in another program's argv (names, paths, ids, the log tag) cannot begin with ``-``.
"""

from __future__ import annotations

import os

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Device, Mount, Ulimit
from longshore.options import NAMESPACES, ContainerConfig, blockio, cdi, service
from longshore.options import mounts as m
from longshore.options import names as n
from longshore.options import parse as p
from longshore.options import read as r
from longshore.options import security as s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from longshore.options import CreateOptions

_KNOWN = """
    name rootfs overlay entrypoint env workdir user group_add hostname labels annotations volumes
    mounts tmpfs read_only read_only_tmpfs memory memory_swap memory_reservation memory_swappiness
    cpus cpu_shares cpu_period cpu_quota cpuset_cpus cpuset_mems pids_limit blkio_weight
    blkio_weight_device device_read_bps device_write_bps device_read_iops device_write_iops ulimits
    cap_add cap_drop security_opt privileged devices gpus sysctls stop_signal stop_timeout runtime
    cgroup_parent cgroup_manager cgroups cgroupns ipc pid uts userns uidmap gidmap
    subuidname subgidname network init init_path shm_size
    oom_score_adj log_driver log_opt pidfile conmon_pidfile cidfile interactive tty remove umask
    unmask run_timeout sdnotify spec spec_patch create_command
"""
KNOWN: tuple[str, ...] = tuple(_KNOWN.split())


def normalize(
    image: str | None,
    command: Sequence[str] | None,
    options: CreateOptions,
    *,
    name: str,
) -> ContainerConfig:
    """Return the checked, complete form of what was asked; see `longshore.options.normalize`."""
    for key in options:
        if key not in KNOWN:
            raise InvalidArgument(
                f"{key!r} is not an option of a container", hint=p.nearest(key, KNOWN)
            )
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    fields: dict[str, Any] = {"name": n.check_name(name)}
    for step in (_root, _process, _file_systems, _limits, _cpu, _privilege, _life, _machinery):
        fields |= step(given)
    fields |= _namespaces(given)
    fields["command"] = r.argv(command, "command")
    _check_image(image, fields)
    if not fields["command"] and not fields["entrypoint"]:
        raise InvalidArgument(
            "there is no command to run", hint='give one, such as ["sleep", "60"], or an entrypoint'
        )
    _check_together(fields)
    return ContainerConfig(**fields)


def _check_image(image: object, fields: Mapping[str, Any]) -> None:
    if image is not None and fields["rootfs"]:
        raise InvalidArgument(
            f"both an image ({image!r}) and a rootfs ({fields['rootfs']}) are given",
            hint="one of them; the command is a list, after both",
        )
    if image is not None:
        raise HostUnsupported(
            f"image {p.text(image, 'image')!r}",
            "this version runs containers from a directory only",
            hint="rootfs=DIRECTORY, with overlay=True to leave it untouched",
        )
    if not fields["rootfs"]:
        raise InvalidArgument(
            "there is nothing to run from", hint="rootfs=DIRECTORY (--rootfs DIRECTORY)"
        )


# One function a group; each takes the options that are not None and returns fields.


def _root(given: Mapping[str, Any]) -> dict[str, Any]:
    # runc refuses a root that is a symbolic link
    rootfs = n.directory(given["rootfs"], "rootfs") if "rootfs" in given else ""
    overlay = r.flag(given, "overlay")
    if rootfs == "/" and not overlay:
        # pivot_root(2): EBUSY where the new root is the current one
        raise InvalidArgument(
            "rootfs: / is this host's own root, which cannot be a container's too",
            hint="overlay=True (--rootfs /:O) runs on a view of it, which leaves it untouched",
        )
    return {
        "rootfs": rootfs,
        "overlay": overlay,
        "labels": r.table(given, "labels"),
        "annotations": r.table(given, "annotations"),
        "create_command": r.argv(given.get("create_command", ()), "create_command"),
    }


def _process(given: Mapping[str, Any]) -> dict[str, Any]:
    groups = r.strings(given, "group_add")
    for group in groups:
        if group == "keep-groups":
            if len(groups) > 1:
                raise InvalidArgument(
                    "group_add: keep-groups keeps exactly those of the user",
                    hint="leave the others out",
                )
            return {**_process({**given, "group_add": ()}), "keep_groups": True}
        if not group or ":" in group or any(c.isspace() for c in group):
            raise InvalidArgument(f"group_add: {group!r} is not a group's name or number")
        n.check_id(group, "group_add")
    return {
        "entrypoint": r.entrypoint(given.get("entrypoint", ())),
        "env": p.parse_env(r.pairs(given, "env"), "env", os.environ),
        "workdir": n.inside(given["workdir"], "workdir") if given.get("workdir") else "",
        "user": n.check_user(given.get("user", "")),
        "group_add": tuple(dict.fromkeys(groups)),
        "umask": p.parse_umask(given["umask"]) if "umask" in given else None,
        "tty": r.flag(given, "tty"),
        "interactive": r.flag(given, "interactive"),
        "init": r.flag(given, "init"),
        "init_path": n.existing(given["init_path"], "init_path") if given.get("init_path") else "",
    }


def _file_systems(given: Mapping[str, Any]) -> dict[str, Any]:
    found = [m.parse_volume(spec) for spec in r.strings(given, "volumes")]
    for item in r.items(given, "mounts", (str, Mount)):
        found.append(m.check_mount(item) if isinstance(item, Mount) else m.parse_mount(item))
    for target, words in r.pairs(given, "tmpfs", separator=":"):
        found.append(m.parse_tmpfs(target, words or ""))
    m.check_targets(found)
    devices: list[Device] = []
    cdi_devices: list[str] = []
    for item in r.items(given, "devices", (str, Device)):
        if isinstance(item, Device):
            devices.append(m.check_device(item))
        elif cdi.is_qualified(item):
            cdi_devices.append(cdi.parse_name(item))
        else:
            devices.append(m.parse_device(item))
    gpus = given.get("gpus", ())
    cdi_devices += cdi.parse_gpus([gpus] if isinstance(gpus, str) else r.strings(given, "gpus"))
    targets = [device.target for device in devices]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument(f"devices: two of them are to be {target}")
    return {
        "mounts": tuple(found),
        "devices": tuple(devices),
        "cdi_devices": tuple(dict.fromkeys(cdi_devices)),
        "read_only": r.flag(given, "read_only"),
        "read_only_tmpfs": r.flag(given, "read_only_tmpfs", True),
        "shm_size": r.size(given, "shm_size"),
    }


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    memory, reservation = r.size(given, "memory"), r.size(given, "memory_reservation")
    if memory is not None and memory < p.MIN_MEMORY:
        raise InvalidArgument(
            f"memory: {memory} bytes are too few to start a container in",
            hint=f"at least {p.MIN_MEMORY >> 20} MiB",
        )
    if memory is not None and reservation is not None and reservation > memory:
        raise InvalidArgument(
            f"memory_reservation: {reservation} is above the memory limit of {memory}"
        )
    swappiness = given.get("memory_swappiness")
    limit = given.get("pids_limit")
    if limit is not None:
        limit = p.integer(limit, "pids_limit", -1, 1 << 22) or -1
    weight = given.get("blkio_weight")
    adjust = given.get("oom_score_adj")
    return {
        "memory": memory,
        "memory_swap": _memory_swap(given, memory),
        "memory_reservation": reservation,
        "memory_swappiness": None
        if swappiness in (None, -1, "-1")  # podman's word for the kernel's own
        else p.integer(swappiness, "memory_swappiness", 0, 100),
        "pids_limit": limit,
        "blkio_weight": None if weight is None else p.integer(weight, "blkio_weight", 10, 1000),
        **blockio.parse_all(given),
        "oom_score_adj": None
        if adjust is None
        else p.integer(adjust, "oom_score_adj", -1000, 1000),
        "ulimits": _ulimits(given),
    }


def limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of limits, of the cgroup and of the process."""
    return {**_limits(given), **_cpu(given)}


def _memory_swap(given: Mapping[str, Any], memory: int | None) -> int | None:
    value = given.get("memory_swap")
    if value is None:
        return None
    if memory is None:
        raise InvalidArgument(
            "memory_swap: it is memory and swap together, and no memory limit is given",
            hint="give memory= too",
        )
    if value in (-1, "-1"):
        return -1
    swap = p.parse_size(value, "memory_swap")
    if swap < memory:
        raise InvalidArgument(
            f"memory_swap: {swap} is below the memory limit of {memory}, which it includes",
            hint="the same value means no swap at all; -1 means any amount",
        )
    return swap


def _cpu(given: Mapping[str, Any]) -> dict[str, Any]:
    quota, period = given.get("cpu_quota"), given.get("cpu_period")
    if "cpus" in given:
        if quota is not None or period is not None:
            raise InvalidArgument(
                "cpus: cpu_quota and cpu_period say the same in another way",
                hint="give either cpus, or quota and period",
            )
        quota, period = p.parse_cpus(given["cpus"])
    else:
        # the kernel's own bounds for cpu.cfs_quota_us and cpu.cfs_period_us
        if quota is not None:
            unlimited = quota in (-1, "-1")
            quota = -1 if unlimited else p.integer(quota, "cpu_quota", 1000, (1 << 44) - 1)
        if period is not None:
            period = p.integer(period, "cpu_period", 1000, 1_000_000)
    shares = given.get("cpu_shares")
    return {
        "cpu_quota": quota,
        "cpu_period": period,
        "cpu_shares": None if shares is None else p.integer(shares, "cpu_shares", 2, 262_144),
        "cpuset_cpus": p.parse_cpuset(given.get("cpuset_cpus", ""), "cpuset_cpus"),
        "cpuset_mems": p.parse_cpuset(given.get("cpuset_mems", ""), "cpuset_mems"),
    }


def _ulimits(given: Mapping[str, Any]) -> tuple[Ulimit, ...]:
    value = given.get("ulimits", ())
    found: list[Ulimit] = []
    if hasattr(value, "items"):
        for name, limits in value.items():
            soft = hard = limits
            if not isinstance(limits, (int, str)):
                try:
                    soft, hard = limits
                except (TypeError, ValueError):
                    raise InvalidArgument(
                        f"ulimits: {limits!r} is neither a limit nor (soft, hard)"
                    ) from None
            found.append(p.make_ulimit(p.text(name, "ulimits"), soft, hard))
    else:
        for item in r.items(given, "ulimits", (str, Ulimit)):
            if isinstance(item, Ulimit):
                found.append(p.make_ulimit(item.name, item.soft, item.hard))
            elif item != "host":  # podman's word for what is the default here
                found.append(p.parse_ulimit(item))
    names = [limit.name for limit in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgument(f"ulimits: {name} is given twice")
    return tuple(found)


def _privilege(given: Mapping[str, Any]) -> dict[str, Any]:
    add = p.parse_capabilities(r.strings(given, "cap_add"), "cap_add")
    drop = p.parse_capabilities(r.strings(given, "cap_drop"), "cap_drop")
    for name in add:
        if name in drop:
            raise InvalidArgument(f"cap_add: {name} is in cap_drop too", hint="leave one out")
    security = s.parse_security(r.strings(given, "security_opt"))
    more = [path for item in r.strings(given, "unmask") for path in s.parse_paths(item, "unmask")]
    security["unmask"] += tuple(more)
    return {
        "privileged": r.flag(given, "privileged"),
        "cap_add": add,
        "cap_drop": drop,
        **security,
    }


def _namespaces(given: Mapping[str, Any]) -> dict[str, Any]:
    modes: dict[str, Any] = {
        kind: s.namespace(kind, given.get(kind)) for kind in NAMESPACES if kind != "userns"
    }
    ids = _user_namespace(given)
    hostname = n.check_hostname(given.get("hostname", ""))
    if hostname and modes["uts"] not in ("", "private"):
        raise InvalidArgument(
            f"hostname: {hostname!r} would be the name of others, because uts is {modes['uts']}",
            hint="leave out hostname or uts",
        )
    sysctls = s.check_sysctls(r.table(given, "sysctls"), ipc=modes["ipc"], network=modes["network"])
    return {**modes, **ids, "hostname": hostname, "sysctls": sysctls}


def _user_namespace(given: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("userns", "uidmap", "gidmap", "subuidname", "subgidname")
    if not any(given.get(name) for name in wanted):
        return {}
    from longshore.options import usernamespaces as u  # few containers have one

    ids: dict[str, Any] = {"userns": u.mode(given.get("userns"))}
    for name in ("uidmap", "gidmap"):
        ids[name] = u.id_map(r.strings(given, name), name)
    for name in ("subuidname", "subgidname"):
        ids[name] = n.check_user(given.get(name, ""))
    u.check_together(ids)
    return ids


def _life(given: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "remove": r.flag(given, "remove"),
        "sdnotify": service.sdnotify(given),
    }
    if "stop_signal" in given:
        fields["stop_signal"] = p.parse_signal(given["stop_signal"], "stop_signal")
    for name in ("stop_timeout", "run_timeout"):
        if name in given:
            fields[name] = p.seconds(given[name], name)
    return fields


def _machinery(given: Mapping[str, Any]) -> dict[str, Any]:
    manager = p.text(given.get("cgroup_manager", ""), "cgroup_manager")
    if manager not in ("", "cgroupfs", "systemd"):
        raise InvalidArgument(
            f"cgroup_manager: {manager!r} is not known", hint="cgroupfs or systemd"
        )
    spec = given.get("spec")
    if spec is not None and not callable(spec):
        raise InvalidArgument(
            f"spec: {spec!r} cannot be called", hint="a function; spec_patch= takes a mapping"
        )
    fields: dict[str, Any] = {
        "runtime": _program(given.get("runtime", ""), "runtime"),
        "cgroup_parent": _cgroup_parent(given.get("cgroup_parent", "")),
        "cgroup_manager": manager,
        "cgroups": service.cgroups(given),
        "spec_patch": _spec_patch(given.get("spec_patch", {})),
        **_log(given),
    }
    for name in ("pidfile", "conmon_pidfile", "cidfile"):
        if name in given:
            fields[name] = n.writable_file(given[name], name, new=name == "cidfile")
    return fields


def _program(value: object, what: str) -> str:
    word = p.text(value, what)
    if word.startswith("-") or ("/" in word and not word.startswith("/")) or word != word.strip():
        raise InvalidArgument(
            f"{what}: {word!r} is neither a name nor an absolute path", hint="such as crun"
        )
    return word


def _cgroup_parent(value: object) -> str:
    path = p.text(value, "cgroup_parent")
    if not path:
        return ""
    parts = path.strip("/").split("/")
    if any(c.isspace() for c in path) or path.startswith("-") or not parts[0]:
        raise InvalidArgument(f"cgroup_parent: {path!r} is not a cgroup's path")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(f"cgroup_parent: {path!r} is not a plain path", hint="/a/b")
    if not path.startswith("/") and not path.endswith(".slice"):
        raise InvalidArgument(
            f"cgroup_parent: {path!r} is not an absolute path",
            hint=f"/{path}, or a systemd slice",
        )
    return path.rstrip("/")


def _log(given: Mapping[str, Any]) -> dict[str, Any]:
    driver = p.text(given.get("log_driver", ""), "log_driver")
    if driver in ("journald", "passthrough", "passthrough-tty"):
        raise HostUnsupported(f"log_driver={driver}", "this version does not have it yet")
    if driver not in ("", "k8s-file", "json-file", "none"):
        raise InvalidArgument(f"log_driver: {driver!r} is not known", hint="k8s-file or none")
    fields: dict[str, Any] = {"log_driver": "k8s-file" if driver == "json-file" else driver}
    for name, value in r.table(given, "log_opt").items():
        what = f"log_opt {name}"
        if name == "path":
            if ":" in str(value):  # conmon cuts the path there (ctr_logging.c)
                raise InvalidArgument(f"{what}: conmon cannot log to a path with ':' ({value!r})")
            fields["log_path"] = n.writable_file(value, what)
        elif name == "max-size":
            fields["log_size_max"] = p.parse_size(value, what)
        elif name == "max-file":
            fields["log_max_files"] = p.integer(value, what, 1, 1000)
        elif name == "tag":
            raise HostUnsupported(
                f"log_opt tag={value}", "conmon takes a tag only for journald, which is to come"
            )
        else:
            raise InvalidArgument(
                f"log_opt: {name!r} is not known",
                hint=p.nearest(name, ("path", "max-size", "max-file"))
                or "path, max-size or max-file",
            )
    if driver == "none" and len(fields) > 1:
        raise InvalidArgument("log_opt: there is no log, because log_driver is none")
    return fields


def _spec_patch(value: object) -> dict[str, Any]:
    import json

    if not value:
        return {}
    if not hasattr(value, "keys"):
        raise InvalidArgument(
            f"spec_patch: {type(value).__name__} is not a mapping",
            hint='such as {"process": {"oomScoreAdj": 10}}',
        )
    try:
        patch: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as err:
        raise InvalidArgument(f"spec_patch: it is not JSON: {err}") from None
    return patch


def _check_together(fields: Mapping[str, Any]) -> None:
    """Refuse what would be ignored: options that another one leaves without a meaning."""
    if fields["shm_size"] is not None and fields["ipc"] not in ("", "private", "shareable"):
        raise InvalidArgument(
            f"shm_size: /dev/shm is not the container's own, because ipc is {fields['ipc']}",
            hint="leave out shm_size or ipc",
        )
    targets = [mount.target for mount in fields["mounts"]]
    if fields["ipc"].startswith("container:") and "/dev/shm" not in targets:
        for target in targets:
            if target.startswith("/dev/shm/"):
                raise InvalidArgument(
                    f"mounts: {target} would be hidden by the /dev/shm of the container whose IPC "
                    f"is joined (ipc={fields['ipc']})",
                    hint="another target, or a mount of its own on /dev/shm too",
                )
    if fields["init_path"] and not fields["init"]:
        raise InvalidArgument("init_path: init is not asked for", hint="init=True (--init)")
