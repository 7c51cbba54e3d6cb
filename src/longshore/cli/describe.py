"""A container as ``inspect`` prints it: podman's document, made from an `Inspection`. Pure, but for
reading the bundle's config.json, and for CDI devices what /dev has.

Keys that have no meaning here hold podman's empty values, so that what reads podman's document
reads this one.
"""

from __future__ import annotations

import os

from longshore.cli.gotime import GoTime
from longshore.cli.govalues import GoMap, texts
from longshore.cli.table import exit_code
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from longshore.engine.engine import Engine
    from longshore.engine.inspection import Inspection
    from longshore.models import ExitInfo, Mount
    from longshore.options import ContainerConfig

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_ZERO = ("Dns", "DnsOptions", "DnsSearch", "ExtraHosts")


def document(one: Inspection, engine: Engine) -> dict[str, Any]:
    """Return podman's `inspect` document of a container."""
    config = one.config
    spec = _spec(one)
    process: dict[str, Any] = spec.get("process") or {}
    capabilities: dict[str, Any] = process.get("capabilities") or {}
    argv = list(process.get("args") or (*config.entrypoint, *config.command))
    return {
        "Id": one.id,
        "Created": GoTime(one.created_ns),
        "Path": argv[0] if argv else "",
        "Args": argv[1:],
        "State": _state(one, spec),
        "Image": "",
        "ImageDigest": "",
        "ImageName": config.image,
        "Rootfs": config.rootfs,
        "Pod": "",
        "ResolvConfPath": "",
        "HostnamePath": _source(spec, "/etc/hostname"),
        "HostsPath": _source(spec, "/etc/hosts"),
        "StaticDir": os.path.dirname(one.log_path),
        "OCIConfigPath": f"{one.bundle_path}/config.json" if spec else "",
        "OCIRuntime": one.runtime_name,
        "ConmonPidFile": config.conmon_pidfile,
        "PidFile": config.pidfile,
        "Name": config.name,
        "RestartCount": one.restart_count,
        "Driver": "overlay" if config.overlay else "",
        "MountLabel": one.mount_label,
        "ProcessLabel": process.get("selinuxLabel", one.process_label),
        "AppArmorProfile": process.get("apparmorProfile", ""),
        "EffectiveCaps": list(capabilities.get("effective") or ()),
        "BoundingCaps": list(capabilities.get("bounding") or ()),
        "ExecIDs": list(one.exec_ids),
        "GraphDriver": {
            "Name": "overlay" if config.overlay else "",
            "Data": GoMap(LowerDir=config.rootfs, MergedDir=one.rootfs_path)
            if config.overlay
            else None,
        },
        "Mounts": [_mount(mount) for mount in config.mounts if mount.type != "tmpfs"],
        "Dependencies": sorted(set(config.joined.values())),
        "NetworkSettings": {
            "EndpointID": "",
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": "",
            "Bridge": "",
            "SandboxID": "",
            "HairpinMode": False,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "Ports": GoMap(),
            "SandboxKey": "",
            "Networks": GoMap(),
        },
        "Namespace": "",
        "IsInfra": False,
        "IsService": False,
        "Config": _config(one, process),
        "HostConfig": _host_config(one, engine, spec),
    }


def _state(one: Inspection, spec: dict[str, Any]) -> dict[str, Any]:
    ended = one.exit
    return {
        "OciVersion": spec.get("ociVersion", ""),
        "Status": one.status.value,
        "Running": one.status is Status.RUNNING,
        "Paused": one.status is Status.PAUSED,
        "Restarting": False,
        "OOMKilled": ended.oom_killed if ended else False,
        "Dead": False,
        "Pid": one.pid or 0,
        "ConmonPid": one.monitor_pid or 0,
        "ExitCode": exit_code(one),
        "Error": one.error,
        "StartedAt": GoTime(one.started_ns),
        "FinishedAt": GoTime(one.finished_ns),
        "Health": {"Status": "", "FailingStreak": 0, "Log": None},
        "CgroupPath": one.cgroup_path,
        "CheckpointedAt": GoTime(None),
        "RestoredAt": GoTime(None),
        "Exit": exit_document(ended) if ended else None,
        "Exits": [exit_document(info) for info in one.exits],
    }


def exit_document(info: ExitInfo) -> dict[str, Any]:
    """Return how one run ended. What could not be measured is null."""
    usage = info.usage
    return {
        "Code": info.code,
        "Reason": info.reason.value,
        "Signal": info.signal,
        "OOMKilled": info.oom_killed,
        "StartedAt": GoTime(info.started_ns),
        "FinishedAt": GoTime(info.finished_ns),
        "Message": info.message,
        "Usage": {
            "MemoryPeak": usage.memory_peak,
            "CPUUser": usage.cpu_user,
            "CPUSystem": usage.cpu_system,
            "IORead": usage.io_read,
            "IOWritten": usage.io_written,
            "PidsPeak": usage.pids_peak,
        },
    }


def _config(one: Inspection, process: dict[str, Any]) -> dict[str, Any]:
    config = one.config
    umask = process.get("user", {}).get("umask") if config.umask is None else config.umask
    return {
        "Hostname": one.hostname,
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": False,
        "Env": list(process.get("env") or (f"{k}={v}" for k, v in config.env.items())),
        "Cmd": list(config.command),
        "Image": config.image,
        "Volumes": None,
        "WorkingDir": process.get("cwd") or config.workdir or "/",
        "Entrypoint": " ".join(config.entrypoint),
        "OnBuild": None,
        "Labels": texts(config.labels),
        "Annotations": texts(config.annotations),
        "StopSignal": config.stop_signal,
        "HealthcheckOnFailureAction": "none",
        "CreateCommand": list(config.create_command),
        "Umask": f"{0o22 if umask is None else umask:04o}",
        "Timeout": int(config.run_timeout),
        "StopTimeout": int(config.stop_timeout),
        "Passwd": False,
        "sdNotifyMode": config.sdnotify or "container",
    }


def _host_config(one: Inspection, engine: Engine, spec: dict[str, Any]) -> dict[str, Any]:
    config = one.config
    quota, period = config.cpu_quota or 0, config.cpu_period or 0
    security = [f"label={label}" for label in config.selinux_opts]
    security += [f"{key}={value}" for key, value in _security(one) if value]
    security += ["no-new-privileges"] if config.no_new_privileges else []
    shm = 65536000 if config.shm_size is None else config.shm_size
    return {
        "Binds": [_bind(mount) for mount in config.mounts if mount.type == "bind"],
        "CgroupManager": one.cgroup_manager or engine.settings.cgroup_manager or "cgroupfs",
        "CgroupMode": config.cgroupns or "",
        "ContainerIDFile": config.cidfile,
        "LogConfig": {
            "Type": config.log_driver or "k8s-file",
            "Config": None,
            "Path": one.log_path,
            "Tag": "",
            "Size": f"{max(config.log_size_max, 0)}B",
            "MaxFile": config.log_max_files,
        },
        "NetworkMode": config.network or "none",
        "PortBindings": GoMap(),
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        "AutoRemove": config.remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": list(config.cap_add),
        "CapDrop": list(config.cap_drop),
        **{key: [] for key in _ZERO},
        "GroupAdd": list(config.group_add),
        "IpcMode": config.ipc or "shareable",
        "Cgroup": "",
        "Cgroups": config.cgroups or "default",
        "Links": None,
        "OomScoreAdj": config.oom_score_adj or 0,
        "PidMode": config.pid or "private",
        "Privileged": config.privileged,
        "PublishAllPorts": False,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": security,
        "Tmpfs": GoMap({m.target: ",".join(m.options) for m in config.mounts if m.type == "tmpfs"}),
        "UTSMode": config.uts or "private",
        "UsernsMode": config.userns,
        "ShmSize": shm,
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": config.cpu_shares or 0,
        "Memory": config.memory or 0,
        "NanoCpus": quota * 10**9 // period if quota > 0 and period else 0,
        "CgroupParent": config.cgroup_parent,
        "BlkioWeight": config.blkio_weight or 0,
        **_block_io(config),
        "CgroupConf": None,
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": config.cpuset_cpus,
        "CpusetMems": config.cpuset_mems,
        "Devices": _devices(config, spec),
        "DiskQuota": 0,
        "KernelMemory": 0,
        "MemoryReservation": config.memory_reservation or 0,
        "MemorySwap": _memory_swap(one, spec),
        "MemorySwappiness": -1 if config.memory_swappiness is None else config.memory_swappiness,
        "OomKillDisable": False,
        "Init": config.init,
        "PidsLimit": 2048 if config.pids_limit is None else config.pids_limit,
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in config.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _block_io(config: ContainerConfig) -> dict[str, Any]:
    def listed(limits: Mapping[str, int], key: str = "Rate") -> list[dict[str, Any]] | None:
        return [{"Path": path, key: number} for path, number in limits.items()] or None

    return {
        "BlkioWeightDevice": listed(config.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": listed(config.device_read_bps),
        "BlkioDeviceWriteBps": listed(config.device_write_bps),
        "BlkioDeviceReadIOps": listed(config.device_read_iops),
        "BlkioDeviceWriteIOps": listed(config.device_write_iops),
    }


def _memory_swap(one: Inspection, spec: dict[str, Any]) -> int:
    """Return the limit of memory and swap that is now, or that the next start is to set."""
    config = one.config
    if config.memory_swap is not None:
        return config.memory_swap
    limits: dict[str, Any] = spec.get("linux") or {}
    for key in ("resources", "memory"):
        limits = limits.get(key) or {}
    # of the last start; an update since has another limit of memory
    if spec and (limits.get("limit") == config.memory or config.spec_patch):
        return int(limits.get("swap") or 0)
    return 2 * (config.memory or 0)  # podman-run(1), --memory-swap


def _devices(config: ContainerConfig, spec: dict[str, Any]) -> list[dict[str, str]]:
    """Return the device files: those asked for, and as of a start those of CDI devices."""
    found = {d.target: (d.source, d.permissions) for d in config.devices}
    if config.cdi_devices:
        from longshore.oci.context import host_devices

        here = {(d.type, d.major, d.minor): d.path for d in host_devices((), every=True)}
        linux: dict[str, Any] = spec.get("linux") or {}
        resources: dict[str, Any] = linux.get("resources") or {}
        rules: list[dict[str, Any]] = resources.get("devices") or []
        nodes: list[dict[str, Any]] = linux.get("devices") or []
        access = {_numbers(rule): str(rule.get("access", "")) for rule in rules}
        for node in nodes:
            numbers, path = _numbers(node), str(node["path"])
            found.setdefault(path, (here.get(numbers, path), access.get(numbers, "")))
    return [
        {"PathOnHost": host, "PathInContainer": target, "CgroupPermissions": permissions}
        for target, (host, permissions) in found.items()
    ]


def _numbers(device: dict[str, Any]) -> tuple[Any, Any, Any]:
    return device.get("type"), device.get("major"), device.get("minor")


def _security(one: Inspection) -> tuple[tuple[str, str], ...]:
    config = one.config
    return (
        ("seccomp", config.seccomp),
        ("apparmor", config.apparmor),
        ("mask", ":".join(config.mask)),
        ("unmask", ":".join(config.unmask)),
    )


def _mount(mount: Mount) -> dict[str, Any]:
    options = mount.options
    special = ("ro", "rw", *_PROPAGATION)
    return {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Driver": "",
        "Mode": "",
        "Options": [option for option in options if option not in special],
        "RW": "ro" not in options,
        "Propagation": next((o for o in options if o in _PROPAGATION), "rprivate"),
    }


def _bind(mount: Mount) -> str:
    options = mount.options if "ro" in mount.options else ("rw", *mount.options)
    return f"{mount.source}:{mount.target}:{','.join(dict.fromkeys(options))}"


def _spec(one: Inspection) -> dict[str, Any]:
    """Return the spec of the last start, or nothing when there was none."""
    import json

    try:
        with open(f"{one.bundle_path}/config.json", "rb") as file:
            spec = json.load(file)
    except (OSError, ValueError):
        return {}
    return spec if isinstance(spec, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _source(spec: dict[str, Any], target: str) -> str:
    mounts: list[dict[str, Any]] = spec.get("mounts") or []
    return next((str(m.get("source", "")) for m in mounts if m.get("destination") == target), "")
