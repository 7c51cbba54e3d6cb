"""Limits: what goes to the cgroup, and what to the process."""

from __future__ import annotations

from longshore.errors import HostUnsupported
from longshore.oci.privilege import SYS_RESOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from longshore.models import Ulimit
    from longshore.oci.context import SpecContext
    from longshore.oci.schema import (
        BlockIO,
        Cpu,
        DeviceRule,
        Memory,
        Resources,
        Rlimit,
        ThrottleDevice,
    )
    from longshore.options import ContainerConfig

_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY

# v2's name of each controller, and v1's
_CONTROLLERS = {
    "memory": "memory",
    "cpu": "cpu",
    "cpuset": "cpuset",
    "pids": "pids",
    "io": "blkio",
}


def needed_controllers(config: ContainerConfig) -> tuple[str, ...]:
    """Return the cgroup controllers that the limits asked for need, by their names of v2.

    Defaults need none: they are left out where the host lacks the controller.
    """
    asked = {
        "memory": (config.memory, config.memory_reservation, config.memory_swappiness),
        "cpu": (
            config.cpu_quota if config.cpu_quota != -1 else None,
            config.cpu_period,
            config.cpu_shares,
        ),
        "cpuset": (config.cpuset_cpus or None, config.cpuset_mems or None),
        "pids": (config.pids_limit if config.pids_limit != -1 else None,),
        "io": (
            config.blkio_weight,
            config.blkio_weight_device or None,
            config.device_read_bps or None,
            config.device_write_bps or None,
            config.device_read_iops or None,
            config.device_write_iops or None,
        ),
    }
    return tuple(name for name, values in asked.items() if any(v is not None for v in values))


def has_controller(host: SpecContext, name: str) -> bool:
    """Whether the host has a controller, by its name of v2."""
    if host.controllers is None:
        return True
    return name in host.controllers or _CONTROLLERS[name] in host.controllers


def check_controllers(config: ContainerConfig, host: SpecContext) -> None:
    """Refuse limits that this host cannot hold: none is ever dropped in silence."""
    for name in needed_controllers(config):
        if not has_controller(host, name):
            raise HostUnsupported(
                f"a limit that was asked for needs the cgroup controller {name}",
                f"cgroup v{host.cgroup_version} with "
                f"{' '.join(sorted(host.controllers or ())) or 'no controllers'}",
                hint="leave the limit out, or have root give you the controller, with "
                "Delegate= in a drop-in of user@.service"
                if host.user_namespace
                else "leave the limit out, or enable the controller for the parent cgroup",
            )
    for option, asked, have in (
        ("cpuset_cpus", config.cpuset_cpus, host.processors),
        ("cpuset_mems", config.cpuset_mems, host.memory_nodes),
    ):
        if have and _highest(asked) > _highest(have):
            raise HostUnsupported(f"{option} of {asked}", f"{have} here", hint="leave it out")
    if config.memory_swap is not None and not host.swap_accounting:
        raise HostUnsupported(
            "memory_swap needs swap accounting",
            f"cgroup v{host.cgroup_version} without it",
            hint="leave it out, or boot with swapaccount=1",
        )
    if config.memory_swappiness is not None and host.cgroup_version == 2:
        raise HostUnsupported("memory_swappiness needs cgroup v1", "cgroup v2")


def _highest(ranges: str) -> int:
    """Return the last number of "0-2,7"; −1 of nothing."""
    return max((int(word) for word in ranges.replace("-", ",").split(",") if word), default=-1)


def resources(config: ContainerConfig, host: SpecContext) -> Resources:
    """Return the cgroup's limits, in the runtime-spec's words (those of v1; runtimes translate)."""
    check_controllers(config, host)
    result: Resources = {"devices": device_rules(config, host)}
    if memory := _memory(config, host):
        result["memory"] = memory
    cpu: Cpu = {}
    if config.cpu_shares is not None:
        cpu["shares"] = config.cpu_shares
    if config.cpu_quota not in (None, -1):  # a new cgroup has none, and crun 1.8 fails with -1
        cpu["quota"] = config.cpu_quota
    if config.cpu_period is not None:
        cpu["period"] = config.cpu_period
    if config.cpuset_cpus:
        cpu["cpus"] = config.cpuset_cpus
    if config.cpuset_mems:
        cpu["mems"] = config.cpuset_mems
    if cpu:
        result["cpu"] = cpu
    limit = config.pids_limit
    if limit is None and has_controller(host, "pids"):
        limit = host.default_pids_limit
    # a new cgroup has no limit: saying so would need the controller
    if limit is not None and limit > 0:
        result["pids"] = {"limit": limit}
    if block := block_io(config, host):
        result["blockIO"] = block
    return result


def block_io(config: ContainerConfig, host: SpecContext) -> BlockIO:
    """Return the limits of block devices."""
    block: BlockIO = {}
    if config.blkio_weight is not None:
        block["weight"] = config.blkio_weight
    if config.blkio_weight_device:
        block["weightDevice"] = [
            {"major": major, "minor": minor, "weight": weight}
            for path, weight in config.blkio_weight_device.items()
            for major, minor in [host.block_devices[path]]
        ]

    def rates(limits: Mapping[str, int]) -> list[ThrottleDevice]:
        return [
            {"major": major, "minor": minor, "rate": rate}
            for path, rate in limits.items()
            for major, minor in [host.block_devices[path]]
        ]

    if config.device_read_bps:
        block["throttleReadBpsDevice"] = rates(config.device_read_bps)
    if config.device_write_bps:
        block["throttleWriteBpsDevice"] = rates(config.device_write_bps)
    if config.device_read_iops:
        block["throttleReadIOPSDevice"] = rates(config.device_read_iops)
    if config.device_write_iops:
        block["throttleWriteIOPSDevice"] = rates(config.device_write_iops)
    return block


def _memory(config: ContainerConfig, host: SpecContext) -> Memory:
    memory: Memory = {}
    if config.memory is not None:
        memory["limit"] = config.memory
        if config.memory_swap is not None:
            memory["swap"] = config.memory_swap
        elif host.swap_accounting:
            memory["swap"] = 2 * config.memory  # podman-run(1), --memory-swap
    if config.memory_reservation is not None:
        memory["reservation"] = config.memory_reservation
    if config.memory_swappiness is not None:
        memory["swappiness"] = config.memory_swappiness
    return memory


def device_rules(config: ContainerConfig, host: SpecContext) -> list[DeviceRule]:
    """Return the device cgroup's rules: none but those asked for; the runtime adds its defaults."""
    if config.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[DeviceRule] = [{"allow": False, "access": "rwm"}]
    for node in host.devices:
        rules.append(
            {
                "allow": True,
                "type": node.type,
                "major": node.major,
                "minor": node.minor,
                "access": node.access,
            }
        )
    return rules


def rlimits(config: ContainerConfig, host: SpecContext) -> list[Rlimit]:
    """Return the limits asked for, and containers.conf's default ones as far as the host permits.

    None else: a container inherits the rest. One that the host does not permit is an error when
    it was asked for, and is lowered when it is a default.
    """
    may_raise = bool(host.bounding_mask >> SYS_RESOURCE & 1)
    asked = {limit.name for limit in config.ulimits}
    result = [_asked(limit, host.host_rlimits, may_raise) for limit in config.ulimits]
    for limit in _others(host.default_ulimits, asked):
        soft, hard = _spec(limit.soft), _spec(limit.hard)
        if limit.name in host.host_rlimits and not may_raise:
            most = _spec(host.host_rlimits[limit.name][1])
            soft, hard = min(soft, most), min(hard, most)
        result.append({"type": limit.name, "soft": soft, "hard": hard})
    return result


def _others(limits: Iterable[Ulimit], names: set[str]) -> Iterable[Ulimit]:
    return (limit for limit in limits if limit.name not in names)


def _asked(limit: Ulimit, host: Mapping[str, tuple[int, int]], may_raise: bool) -> Rlimit:
    soft, hard = limit.soft, limit.hard
    most = host.get(limit.name, (-1, -1))[1]
    if limit.name == "RLIMIT_NOFILE" and most != -1:
        # the kernel has no unlimited number of files (fs.nr_open): take all there are
        soft, hard = (most if n == -1 else n for n in (soft, hard))
    if not may_raise and _spec(hard) > _spec(most):
        raise HostUnsupported(
            f"ulimits: {limit.name} of {hard if hard != -1 else 'unlimited'}",
            f"a hard limit of {most}, and no CAP_SYS_RESOURCE to raise it",
            hint=f"at most {limit.name.removeprefix('RLIMIT_').lower()}={most}",
        )
    return {"type": limit.name, "soft": _spec(soft), "hard": _spec(hard)}


def _spec(limit: int) -> int:
    return _UNLIMITED if limit == -1 else limit
