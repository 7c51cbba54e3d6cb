"""What a cgroup's processes use now, and what they may: one look, a handful of small files.

Facts: cgroups(7), the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
What a host cannot measure is None, never 0.
"""

from __future__ import annotations

from longshore._value import Value
from longshore.linux.cgroups import Layout, read_control

_UNLIMITED = 1 << 60  # v1 writes "no limit" as the largest multiple of a page: nearly 2^63


class Counters(Value):
    """Sizes in bytes, times in seconds. All but the limits are of the whole tree below."""

    memory: int | None = None  # everything that is charged, caches too
    working_set: int | None = None  # without file pages that nobody has used lately
    cache: int | None = None  # file pages
    swap: int | None = None
    memory_limit: int | None = None  # the smallest on the way up; None is no limit
    cpu: float | None = None
    cpu_user: float | None = None
    cpu_system: float | None = None
    io_read: int | None = None
    io_written: int | None = None
    pids: int | None = None
    pids_limit: int | None = None


def read_counters(layout: Layout, path: str, limited: str) -> Counters:
    """Read what is charged to a cgroup, and the limits of the one (at or below it) that has them.

    Neither need exist: what cannot be read is None.
    """
    if layout.version == 1:
        return _v1(layout, path, limited)
    unified = layout.unified
    return Counters() if unified is None else _v2(unified.mount, path, limited)


def _v2(mount: str, path: str, limited: str) -> Counters:
    own = mount + path
    stat = _keyed(read_control(own, "memory.stat"))
    memory = _number(read_control(own, "memory.current"))
    cpu = _keyed(read_control(own, "cpu.stat"))
    io_text = read_control(own, "io.stat")
    return Counters(
        memory=memory,
        working_set=_less(memory, stat.get("inactive_file")),
        cache=stat.get("file"),
        swap=_number(read_control(own, "memory.swap.current")),
        memory_limit=_smallest(mount, limited, "memory.max"),
        cpu=_seconds(cpu.get("usage_usec"), 1e6),
        cpu_user=_seconds(cpu.get("user_usec"), 1e6),
        cpu_system=_seconds(cpu.get("system_usec"), 1e6),
        io_read=_io_v2(io_text, "rbytes="),
        io_written=_io_v2(io_text, "wbytes="),
        pids=_number(read_control(own, "pids.current")),
        pids_limit=_smallest(mount, limited, "pids.max"),
    )


def _io_v2(text: str, key: str) -> int | None:
    """Add up one figure of every device; an empty file is a cgroup that has done nothing."""
    words = [word for word in text.split() if word.startswith(key)]
    return sum(int(word[len(key) :]) for word in words) if words else None


def _smallest(mount: str, path: str, name: str) -> int | None:
    found: list[int] = []
    while path and path != "/":
        value = _number(read_control(mount + path, name))
        if value is not None:
            found.append(value)
        path = path.rpartition("/")[0]
    return min(found, default=None)


def _v1(layout: Layout, path: str, limited: str) -> Counters:
    def place(controller: str) -> str:
        hierarchy = layout.v1(controller)
        return "" if hierarchy is None else hierarchy.mount

    def text(controller: str, name: str) -> str:
        mount = place(controller)
        return read_control(mount + path, name) if mount else ""

    stat = _keyed(text("memory", "memory.stat"))
    memory = _number(text("memory", "memory.usage_in_bytes"))
    limits = _keyed(read_control(place("memory") + limited, "memory.stat"))
    limit = limits.get("hierarchical_memory_limit")
    io_text = text("blkio", "blkio.throttle.io_service_bytes_recursive")
    return Counters(
        memory=memory,
        working_set=_less(memory, stat.get("total_inactive_file")),
        cache=stat.get("total_cache"),
        swap=stat.get("total_swap"),
        memory_limit=None if limit is None or limit > _UNLIMITED else limit,
        cpu=_seconds(_number(text("cpuacct", "cpuacct.usage")), 1e9),
        cpu_user=_seconds(_number(text("cpuacct", "cpuacct.usage_user")), 1e9),
        cpu_system=_seconds(_number(text("cpuacct", "cpuacct.usage_sys")), 1e9),
        io_read=_io_v1(io_text, "Read"),
        io_written=_io_v1(io_text, "Write"),
        pids=_number(text("pids", "pids.current")),
        pids_limit=_smallest(place("pids"), limited, "pids.max") if place("pids") else None,
    )


def _io_v1(text: str, kind: str) -> int | None:
    if not text:
        return None
    lines = (line.split() for line in text.splitlines())  # "8:0 Read 4096"; at the end the total
    return sum(int(words[2]) for words in lines if len(words) == 3 and words[1] == kind)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _keyed(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None else max(0, whole - (part or 0))


def _seconds(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit
