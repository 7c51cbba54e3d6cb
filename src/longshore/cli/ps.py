"""``longshore ps``: list containers."""

from __future__ import annotations

import sys
import time

from longshore.cli import table
from longshore.cli.flags import INT, LIST, SWITCH, TEXT, Command, Flag
from longshore.errors import InvalidArgument
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.inspection import Inspection

_HEADINGS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
_ORDERS: Mapping[str, Callable[[Inspection], Any]] = {
    "command": lambda one: one.config.command,
    "created": lambda one: one.created_ns,
    "id": lambda one: one.id,
    "image": lambda one: one.config.image,
    "names": lambda one: one.config.name,
    "runningfor": lambda one: one.created_ns,
    "status": lambda one: one.status.value,
}
_RUNNING = (Status.RUNNING, Status.INITIALIZED)


def run(app: App, parsed: Parsed) -> int:
    """List containers."""
    if parsed.on("quiet") and parsed.on("ns"):
        raise InvalidArgument("--quiet and --ns cannot be used together")
    found = _chosen(app, parsed)
    whole = parsed.on("no-trunc")
    form = parsed.maybe("format")
    if form is not None:
        text = _formatted(form, found, parsed)
    elif parsed.on("quiet"):
        text = "".join(table.short_id(one.id, whole=whole) + "\n" for one in found)
    else:
        headings: Sequence[str] = _HEADINGS
        if parsed.on("ns"):
            from longshore.cli.psrow import NS_HEADINGS, namespaces_line

            headings = NS_HEADINGS
            lines = [namespaces_line(one, whole=whole) for one in found]
        else:
            now = time.time_ns()
            lines = [_line(one, now, whole=whole) for one in found]
        text = table.columns(lines if parsed.on("noheading") else [headings, *lines])
    sys.stdout.write(text)
    return 0


def _chosen(app: App, parsed: Parsed) -> list[Inspection]:
    filters = parsed.many("filter")
    last = 1 if parsed.on("latest") else parsed.integer("last")
    every = parsed.on("all") or (last is not None and last >= 0)
    every = every or any(text.startswith(("status=", "exited=")) for text in filters)
    matches = None
    if filters:
        from longshore.cli.filters import matcher

        matches = matcher(filters, app.engine)
    found = [
        one
        for one in app.engine.inspect_all()
        if (every or one.status in _RUNNING) and (matches is None or matches(one))
    ]
    if last is not None and last >= 0:
        found = sorted(found, key=_ORDERS["created"], reverse=True)[:last]
    return sorted(found, key=_ORDERS[parsed.text("sort")])


def _line(one: Inspection, now: int, *, whole: bool) -> Sequence[str]:
    return (
        table.short_id(one.id, whole=whole),
        one.config.image,
        table.short_command(one.config.entrypoint + one.config.command, whole=whole),
        table.ago(one.created_ns, now) if one.created_ns else "",
        table.status_words(one, now),
        "",
        one.config.name,
    )


def _formatted(form: str, found: list[Inspection], parsed: Parsed) -> str:
    from longshore.cli import formatting
    from longshore.cli.psrow import HEADINGS, json_row, template_row

    now = time.time_ns()
    if formatting.is_json(form):
        from longshore.cli.govalues import to_json

        return to_json([json_row(one, now) for one in found], indent=2) + "\n"
    if form.strip() == "table":
        form = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedAt}}\t{{.Status}}\t{{.Names}}"
    rows = [template_row(one, now, whole=parsed.on("no-trunc")) for one in found]
    return formatting.rows(form, rows, {} if parsed.on("noheading") else HEADINGS)


COMMAND = Command(
    run,
    usage="[options]",
    about="Lists the containers that run; --all lists every one.",
    examples=(
        "ps -a",
        "ps --filter status=exited --filter label=app=web",
        'ps -a --format "table {{.ID}}\\t{{.Names}}\\t{{.Status}}"',
    ),
    flags=(
        Flag("all", "a", SWITCH, "Show every container, not only those that run"),
        Flag("filter", "f", LIST, "Show the containers that match", metavar="KEY=VALUE"),
        Flag("format", "", TEXT, "Print as JSON, as a table or through a Go template"),
        Flag("last", "n", INT, "Show the last containers made, this many", default="-1"),
        Flag("latest", "l", SWITCH, "Show the container that was made last"),
        Flag("no-trunc", "", SWITCH, "Show whole ids and commands"),
        Flag("noheading", "", SWITCH, "Leave the heading out"),
        Flag("ns", "", SWITCH, "Show the namespaces of each container"),
        Flag("quiet", "q", SWITCH, "Print ids only"),
        Flag("sort", "", TEXT, "Order", metavar="WORD", choices=tuple(_ORDERS), default="created"),
    ),
)
