"""``longshore stats``: what running containers use."""

from __future__ import annotations

import sys
import time

from longshore.cli import table, targets
from longshore.cli.flags import NUMBER, SWITCH, TEXT, Command, Flag
from longshore.errors import InvalidArgument, NoSuchContainer, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.models import Stats

_UNKNOWN = "--"  # as podman shows what cannot be measured
_CLEAR = "\x1b[H\x1b[2J"
_COLUMNS: Mapping[str, str] = {
    "ID": "ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET IO",
    "BlockIO": "BLOCK IO",
    "PIDs": "PIDS",
    "CPUTime": "CPU TIME",
    "AvgCPU": "AVG CPU %",
}
_HEADINGS: Mapping[str, str] = {
    **_COLUMNS,
    "Container": "ID",
    "MemUsageBytes": "MEM USAGE / LIMIT",
    "PIDS": "PIDS",
    "WorkingSet": "WORKING SET",
    "Cache": "CACHE",
    "Swap": "SWAP",
}


def run(app: App, parsed: Parsed) -> int:
    """Print one look, or one after the other until Ctrl-C."""
    interval = parsed.number("interval")
    if interval is None or interval < 0.1:
        raise InvalidArgument("--interval: at least 0.1 seconds")
    named = targets.select(app, parsed) if parsed.args or parsed.on("latest") else []
    if named and parsed.on("all"):
        raise InvalidArgument("--all and names cannot be used together")
    before: dict[str, Stats] = {}
    form = parsed.maybe("format")
    resets = sys.stdout.isatty() and form is None and not parsed.on("no-reset")
    strict = True
    while True:
        found = _look(app, named, strict=strict)
        rows = [_row(one, before.get(one.id), whole=parsed.on("no-trunc")) for one in found]
        if parsed.on("all") and not named:
            rows += _idle(app, found, whole=parsed.on("no-trunc"))
        text = _shown(form, rows)
        sys.stdout.write((_CLEAR if resets and not parsed.on("no-stream") else "") + text)
        sys.stdout.flush()
        if parsed.on("no-stream") or (named and not found):
            return 0
        before = {one.id: one for one in found}
        strict = False  # one that ends while it is watched is no error
        time.sleep(interval)


def _look(app: App, named: list[str], *, strict: bool) -> list[Stats]:
    if not named:
        return sorted(app.engine.stats(), key=lambda one: one.name)
    found: list[Stats] = []
    for ref in named:
        try:
            found.append(app.engine.get(ref).stats())
        except (NoSuchContainer, WrongState):
            if strict:
                raise
    return found


def _row(one: Stats, before: Stats | None, *, whole: bool) -> dict[str, str]:
    usage = f"{_size(one.working_set)} / {_size(one.memory_limit or _host_memory())}"
    return {
        "ID": table.short_id(one.id, whole=whole),
        "Container": table.short_id(one.id, whole=whole),
        "Name": one.name,
        "CPUPerc": _percent(one.cpu_percent(before)),
        "AvgCPU": _percent(one.cpu_percent()),
        "CPUTime": _UNKNOWN if one.cpu is None else f"{one.cpu:.6f}s",
        "MemUsage": usage,
        "MemUsageBytes": f"{one.working_set} / {one.memory_limit or _host_memory()}",
        "MemPerc": _share(one.working_set, one.memory_limit or _host_memory()),
        "NetIO": f"{_size(one.network_received)} / {_size(one.network_sent)}",
        "BlockIO": f"{_size(one.io_read)} / {_size(one.io_written)}",
        "PIDs": _UNKNOWN if one.pids is None else str(one.pids),
        "PIDS": _UNKNOWN if one.pids is None else str(one.pids),
        "WorkingSet": _size(one.working_set),
        "Cache": _size(one.cache),
        "Swap": _size(one.swap),
    }


def _idle(app: App, found: list[Stats], *, whole: bool) -> list[dict[str, str]]:
    """Return rows for the containers that do not run and use nothing."""
    live = {one.id for one in found}
    blank = dict.fromkeys(_HEADINGS, _UNKNOWN)
    return [
        {**blank, "ID": table.short_id(one.id, whole=whole), "Name": one.config.name}
        for one in app.engine.inspect_all()
        if one.id not in live
    ]


def _shown(form: str | None, rows: list[dict[str, str]]) -> str:
    if form is None:
        lines = [[row[key] for key in _COLUMNS] for row in rows]
        return table.columns([list(_COLUMNS.values()), *lines])
    from longshore.cli import formatting

    if formatting.is_json(form):
        from longshore.cli.govalues import to_json

        return to_json([_json(row) for row in rows], indent=1) + "\n"
    return formatting.rows(form, rows, dict(_HEADINGS))


def _json(row: dict[str, str]) -> dict[str, Any]:
    """Return a row under the keys that podman's JSON has."""
    return {
        "id": row["ID"],
        "name": row["Name"],
        "cpu_time": row["CPUTime"],
        "cpu_percent": row["CPUPerc"],
        "avg_cpu": row["AvgCPU"],
        "mem_usage": row["MemUsage"],
        "mem_percent": row["MemPerc"],
        "net_io": row["NetIO"],
        "block_io": row["BlockIO"],
        "pids": row["PIDs"],
    }


def _size(count: int | None) -> str:
    return _UNKNOWN if count is None else table.size(count)


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _share(part: int | None, whole: int) -> str:
    return _UNKNOWN if part is None or whole <= 0 else f"{part / whole * 100:.2f}%"


def _host_memory() -> int:
    import os

    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


COMMAND = Command(
    run,
    usage="[options] [CONTAINER...]",
    about="""
Shows what running containers use, again every few seconds until Ctrl-C; --no-stream shows it once.
Memory is the working set: without file pages that were not used lately. The first CPU % is the
average since the start, later ones of the interval. What this host cannot measure is --.""",
    examples=(
        "stats --no-stream",
        'stats --no-stream --format "table {{.Name}}\\t{{.WorkingSet}}\\t{{.Cache}}\\t{{.Swap}}"',
        "stats -i 1 box",
    ),
    flags=(
        Flag("all", "a", SWITCH, "Show every container, not only those that run"),
        Flag("format", "", TEXT, "Print as JSON, as a table or through a Go template"),
        Flag("interval", "i", NUMBER, "Seconds from one look to the next", default="5"),
        targets.LATEST,
        Flag("no-reset", "", SWITCH, "Do not clear the screen before each look"),
        Flag("no-stream", "", SWITCH, "Look once"),
        Flag("no-trunc", "", SWITCH, "Show whole ids"),
    ),
    most=None,
    completes="running",
)
