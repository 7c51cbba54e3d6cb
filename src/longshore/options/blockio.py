"""Limits of block devices: ``/dev/sda:1m`` and its like, as podman's --device-read-bps has them."""

from __future__ import annotations

import os
import stat

from longshore.errors import InvalidArgument
from longshore.options import parse as p
from longshore.options import read as r

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

RATES = ("device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")
OPTIONS = ("blkio_weight_device", *RATES)


def parse_all(given: Mapping[str, Any], *, zero: bool = False) -> dict[str, dict[str, int]]:
    """Return all of them; see `parse`."""
    return {name: parse(given, name, zero=zero) for name in OPTIONS}


def parse(given: Mapping[str, Any], name: str, *, zero: bool = False) -> dict[str, int]:
    """Return path → number: bytes or operations a second, or a weight.

    With ``zero`` that is a number too: it takes a limit away. The path has to be that of a block
    device, and of a whole one: the kernel refuses partitions (block/blk-cgroup.c).
    """
    value = given.get(name, ())
    found: list[tuple[str, Any]] = []
    if hasattr(value, "items"):
        found = [(p.text(path, name), number) for path, number in value.items()]
    else:
        for item in r.strings(given, name):
            path, colon, text = item.rpartition(":")
            if not colon or not text:
                raise InvalidArgument(f"{name}: {item!r} is not PATH:NUMBER", hint="/dev/sda:1m")
            found.append((path, text))
    result: dict[str, int] = {}
    for path, number in found:
        what = f"{name} {path}"
        if path in result:
            raise InvalidArgument(f"{what}: it is given twice")
        result[path] = 0 if zero and number in (0, "0") else _number(name, number, what)
        numbers(path, what)
    return result


def _number(name: str, value: object, what: str) -> int:
    if name == "blkio_weight_device":
        return p.integer(value, what, 10, 1000)
    if name.endswith("_bps"):
        return p.parse_size(value, what)
    return p.integer(value, what, 1, (1 << 32) - 1)


def numbers(path: str, what: str) -> tuple[int, int]:
    """Return the numbers of a whole block device; InvalidArgument if a path is none. I/O."""
    if not path.startswith("/"):
        raise InvalidArgument(f"{what}: the path is not absolute", hint="such as /dev/sda:1m")
    try:
        info = os.stat(path)
    except OSError as err:
        raise InvalidArgument(f"{what}: {err.strerror}") from None
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidArgument(f"{what}: it is no block device", hint="lsblk lists them")
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    if os.path.exists(f"/sys/dev/block/{major}:{minor}/partition"):
        raise InvalidArgument(
            f"{what}: it is a partition, and the kernel limits whole devices",
            hint="name the disk that it is a part of (lsblk)",
        )
    return major, minor
