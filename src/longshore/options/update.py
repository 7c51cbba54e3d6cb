"""What `update` is asked to change, put into what a container was created with."""

from __future__ import annotations

from longshore._value import Value, is_table
from longshore.errors import InvalidArgument
from longshore.options import ContainerConfig, blockio, check
from longshore.options import parse as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from longshore.options import UpdateOptions

_LIMITS = """
    memory memory_swap memory_reservation memory_swappiness cpu_shares cpu_period cpu_quota
    cpuset_cpus cpuset_mems pids_limit blkio_weight
"""
FIELDS: tuple[str, ...] = (*_LIMITS.split(), *blockio.OPTIONS)  # of ContainerConfig
KNOWN: tuple[str, ...] = (*FIELDS, "cpus")
# Options that 0 takes away; those of memory by -1 too, which is podman's other word for it
_BY_ZERO = ("memory", "memory_reservation", "memory_swap", "cpu_shares", "cpu_period")
_SECTIONS = {"memory": "memory", "cpu": "cpu", "pids": "pids", "blkio": "blockIO"}


class Change(Value):
    """A container's new config, the fields that were named, and the devices' new limits.

    ``devices`` is by field: path → number, where 0 takes it away.
    """

    config: ContainerConfig
    fields: tuple[str, ...]
    devices: Mapping[str, Any] = {}


def merge(config: ContainerConfig, options: UpdateOptions) -> Change:
    """Return what a container's config is to become; InvalidArgument for what makes no sense.

    Nothing is touched. Options that hang together (memory and swap, cpus and quota) are checked as
    they will be together.
    """
    for key in options:
        if key not in KNOWN:
            raise InvalidArgument(
                f"{key!r} is no limit that can be changed", hint=p.nearest(key, KNOWN)
            )
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    if not given:
        raise InvalidArgument("there is nothing to change", hint='such as memory="128m"')
    merged: dict[str, Any] = {name: getattr(config, name) for name in FIELDS}
    merged = {name: value for name, value in merged.items() if value is not None}
    devices = {n: blockio.parse(given, n, zero=True) for n in blockio.OPTIONS if n in given}
    for name, numbers in devices.items():
        both = {**merged[name], **numbers}
        merged[name] = {path: number for path, number in both.items() if number}
    if "cpus" in given:
        both_said = [name for name in ("cpu_quota", "cpu_period") if name in given]
        for name in ("cpu_quota", "cpu_period"):
            merged.pop(name, None)
        given |= {name: given[name] for name in both_said}  # `check` refuses both
    for name, value in given.items():
        if name not in devices:
            _put(merged, name, value)
    if "memory" not in merged and "memory_swap" not in given:
        merged.pop("memory_swap", None)
    fields = check.limits(merged)
    changed = set(given)
    if "cpus" in changed:
        changed |= {"cpu_quota", "cpu_period"}
    for name in changed - {"cpus"}:
        _refuse_patched(config, name)
    return Change(
        config=config.replace(**{name: fields[name] for name in FIELDS}),
        fields=tuple(name for name in FIELDS if name in changed),
        devices=devices,
    )


def _put(merged: dict[str, Any], name: str, value: Any) -> None:
    none = str(value) in ("0", "0.0")
    if name in ("memory", "memory_reservation") and str(value) == "-1":
        none = True
    if name == "cpus" and none:
        merged["cpu_quota"] = -1
    elif name == "cpu_quota" and none:
        merged[name] = -1
    elif name in _BY_ZERO and none:
        merged.pop(name, None)
    else:
        merged[name] = value


def _refuse_patched(config: ContainerConfig, name: str) -> None:
    """Refuse what the next start would not have: a spec patch is stronger than an option."""
    at: Any = config.spec_patch
    section = next(s for begin, s in _SECTIONS.items() if name.startswith((begin, "device_")))
    section = "blockIO" if name.startswith("device_") else section
    for key in ("linux", "resources", section):
        at = at.get(key) if is_table(at) else None
    if at is not None:
        raise InvalidArgument(
            f"{name}: the container was created with a spec patch for resources.{section}, "
            "which the next start would follow",
            hint="create it again with the option instead of the patch",
        )
