"""Limits of a container that runs: what the runtime's ``update`` is told, and what is then true.

The words of `Resources` are the runtime-spec's (config-linux.md), which are those of cgroup v1;
the control files are the kernel's, of the host's version. Runtimes do not take all of it (measured:
crun 1.8.1 fails with pids or quota of -1 on cgroupfs, runc 1.1.5 ignores swappiness and rates of
devices without a word), so what they need not convert may be written by us.
"""

from __future__ import annotations

from longshore._value import Value
from longshore.linux.controls import Control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.oci.schema import BlockIO, Cpu, Memory, Resources, ThrottleDevice, WeightDevice
    from longshore.options import ContainerConfig

# field: (the runtime-spec's list, v1's file, v2's word in io.max)
_RATES = {
    "device_read_bps": ("throttleReadBpsDevice", "read_bps", "rbps"),
    "device_write_bps": ("throttleWriteBpsDevice", "write_bps", "wbps"),
    "device_read_iops": ("throttleReadIOPSDevice", "read_iops", "riops"),
    "device_write_iops": ("throttleWriteIOPSDevice", "write_iops", "wiops"),
}
# What runc 1.1 gives back its first value with every update, whatever that is for (measured)
_REVERTED = {
    1: (
        ("memory", "memory.swappiness"),
        *(("blkio", f"blkio.throttle.{names[1]}_device") for names in _RATES.values()),
        ("blkio", "blkio.weight_device|blkio.bfq.weight_device"),
    ),
    2: (("io", "io.max"), ("io", "io.weight|io.bfq.weight")),
}
_PERIOD = 100_000  # the kernel's default, in microseconds
_SHARES = 1024  # v1's default
_WEIGHT = 100  # v2's


class Facts(Value):
    """What the limits of a run depend on besides the config."""

    version: int  # of cgroups
    systemd: bool = False  # makes the cgroups: then only the runtime may change what it knows
    swap: bool = True  # has a limit of its own
    # what a cgroup without a limit of its own has: that of the one above
    cpus: str = ""
    mems: str = ""
    swappiness: int = 60  # v1 only


class Plan:
    """What the runtime is told, and what the kernel has to say afterwards."""

    __slots__ = ("controls", "resources")

    def __init__(self) -> None:
        self.resources: Resources = {}
        self.controls: list[Control] = []


def plan(
    config: ContainerConfig,
    fields: Sequence[str],
    devices: Mapping[str, Mapping[tuple[int, int], int]],
    facts: Facts,
) -> Plan:
    """Return how the named fields of a config come into force, those without a limit too.

    ``devices`` is by field: (major, minor) → number, where 0 takes it away.
    """
    found = Plan()
    named = frozenset(fields)
    _memory(found, config, named, facts)
    _cpu(found, config, named, facts)
    _cpuset(found, config, named, facts)
    if "pids_limit" in named:
        limit = config.pids_limit if config.pids_limit is not None else -1
        if limit > 0 or facts.systemd:
            found.resources["pids"] = {"limit": limit}
        _add(found, "pids", "pids.max", "max" if limit <= 0 else str(limit), own=limit <= 0)
    _block_io(found, config, named, devices, facts)
    return found


def unnamed(fields: Sequence[str], version: int) -> list[Control]:
    """Return the files that a runtime may change though no field of theirs is named.

    Whatever is named is in `plan`, device by device, and comes after these are put back.
    """
    return [
        Control(controller=controller, name=name, value="", kind="weight")
        for controller, name in _REVERTED[version]
        if not ("blkio_weight" in fields and name.startswith("io.weight"))
    ]


def _add(
    found: Plan,
    controller: str,
    name: str,
    value: str,
    *,
    key: str = "",
    kind: str = "limit",
    own: bool = False,
) -> None:
    control = Control(controller=controller, name=name, value=value, key=key, kind=kind, own=own)
    found.controls.append(control)


def _memory(found: Plan, config: ContainerConfig, named: frozenset[str], facts: Facts) -> None:
    memory: Memory = {}
    old = facts.version == 1
    if named & {"memory", "memory_swap"}:
        limit = -1 if config.memory is None else config.memory
        swap = config.memory_swap
        if swap is None:
            swap = 2 * limit if limit != -1 else -1  # podman-run(1), --memory-swap
        memory["limit"] = limit
        if facts.swap:
            memory["swap"] = swap
        if old:
            _add(found, "memory", "memory.limit_in_bytes", str(limit))
        else:
            _add(found, "memory", "memory.max", "max" if limit == -1 else str(limit), own=True)
        if facts.swap and old:
            _add(found, "memory", "memory.memsw.limit_in_bytes", str(swap))
        elif facts.swap:
            more = "max" if swap == -1 else str(swap - limit)
            _add(found, "memory", "memory.swap.max", more, own=True)
    if "memory_reservation" in named:
        soft = config.memory_reservation
        if old or soft is not None:
            memory["reservation"] = -1 if soft is None else soft
        if old:
            value = "-1" if soft is None else str(soft)
            _add(found, "memory", "memory.soft_limit_in_bytes", value)
        else:
            _add(found, "memory", "memory.low", str(soft or 0), kind="weight", own=True)
    if "memory_swappiness" in named and old:
        wanted = config.memory_swappiness
        wanted = facts.swappiness if wanted is None else wanted
        memory["swappiness"] = wanted
        _add(found, "memory", "memory.swappiness", str(wanted), kind="weight", own=True)
    if memory:
        found.resources["memory"] = memory


def _cpu(found: Plan, config: ContainerConfig, named: frozenset[str], facts: Facts) -> None:
    cpu: Cpu = {}
    old = facts.version == 1
    if named & {"cpu_quota", "cpu_period"}:
        quota = -1 if config.cpu_quota is None else config.cpu_quota
        period = _PERIOD if config.cpu_period is None else config.cpu_period
        if quota > 0 or facts.systemd:
            cpu["quota"] = quota
            cpu["period"] = period
        own = quota <= 0
        if old:
            # the quota first: one that is taken away goes with any period
            _add(found, "cpu", "cpu.cfs_quota_us", str(quota), own=own)
            _add(found, "cpu", "cpu.cfs_period_us", str(period), kind="weight", own=own)
        else:
            _add(found, "cpu", "cpu.max", f"{'max' if own else quota} {period}", own=own)
    if "cpu_shares" in named:
        shares = config.cpu_shares
        if shares is not None or facts.systemd:
            cpu["shares"] = _SHARES if shares is None else shares
        if old:
            value = str(_SHARES if shares is None else shares)
            _add(found, "cpu", "cpu.shares", value, kind="weight", own=True)
        else:
            value = str(_WEIGHT) if shares is None and not facts.systemd else ""
            _add(found, "cpu", "cpu.weight", value, kind="weight", own=shares is None)
    if cpu:
        found.resources["cpu"] = cpu


def _cpuset(found: Plan, config: ContainerConfig, named: frozenset[str], facts: Facts) -> None:
    for field, wanted, free, name in (
        ("cpuset_cpus", config.cpuset_cpus, facts.cpus, "cpus"),
        ("cpuset_mems", config.cpuset_mems, facts.mems, "mems"),
    ):
        if field not in named:
            continue
        # all that the cgroup above has: a list cannot become empty again where processes are
        # (v2, Linux 6.1: ENOSPC)
        value = wanted or free
        cpu = found.resources.setdefault("cpu", {})
        if name == "cpus":
            cpu["cpus"] = value
        else:
            cpu["mems"] = value
        _add(found, "cpuset", f"cpuset.{name}", value, kind="set")


def _block_io(
    found: Plan,
    config: ContainerConfig,
    named: frozenset[str],
    devices: Mapping[str, Mapping[tuple[int, int], int]],
    facts: Facts,
) -> None:
    block: BlockIO = {}
    old = facts.version == 1
    controller = "blkio" if old else "io"
    if "blkio_weight" in named and config.blkio_weight is not None:
        block["weight"] = config.blkio_weight
        if old:
            value = str(config.blkio_weight)
            _add(found, controller, "blkio.weight|blkio.bfq.weight", value, kind="weight")
        else:
            _add(found, controller, "io.weight|io.bfq.weight", "", kind="weight")
    weights: list[WeightDevice] = []
    for (major, minor), weight in devices.get("blkio_weight_device", {}).items():
        if weight:
            weights.append({"major": major, "minor": minor, "weight": weight})
        name = "blkio.weight_device|blkio.bfq.weight_device" if old else "io.weight|io.bfq.weight"
        value = str(weight) if weight or old else "default"
        key = f"{major}:{minor}"
        _add(found, controller, name, value, key=key, kind="weight", own=True)
    if weights:
        block["weightDevice"] = weights
    for field, (words, file, key) in _RATES.items():
        rates: list[ThrottleDevice] = []
        for (major, minor), rate in devices.get(field, {}).items():
            if rate:
                rates.append({"major": major, "minor": minor, "rate": rate})
            name = f"blkio.throttle.{file}_device" if old else "io.max"
            value = str(rate) if old else f"{key}={rate or 'max'}"
            _add(found, controller, name, value, key=f"{major}:{minor}", own=True)
        if rates:
            block[words] = rates  # type: ignore[literal-required]  # keys are those of the table
    if block:
        found.resources["blockIO"] = block
