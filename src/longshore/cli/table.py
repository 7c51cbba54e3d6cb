"""How values look to a person: columns, ages, sizes, moments, statuses. Pure."""

from __future__ import annotations

import time

from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from longshore.engine.inspection import Inspection

_LEAST_WIDTH = 12  # podman's columns are never narrower
_GAP = 2
_SHORT_ID = 12
_SHOWN_COMMAND = 17  # characters of a command in `ps`, as podman shows
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which podman's readers know

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines of aligned columns. The first row is the heading, if there is one."""
    if not rows:
        return ""
    cells = [[printable(cell) for cell in row] for row in rows]
    count = max(map(len, cells))
    widths = [
        max(_LEAST_WIDTH, _GAP + max(len(row[i]) for row in cells if i < len(row)))
        for i in range(count)
    ]
    lines = [
        "".join(
            cell if i == len(row) - 1 else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """Return text on one line, with what a terminal would obey shown as an escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in text
    )


def short_id(ident: str, *, whole: bool = False) -> str:
    """Return the 12 characters that people know a container by, or all of them."""
    return ident if whole else ident[:_SHORT_ID]


def short_command(words: Sequence[str], *, whole: bool = False) -> str:
    """Return a command as one text, cut after 17 characters unless all are wanted."""
    text = " ".join(words)
    return text if whole or len(text) <= _SHOWN_COMMAND else text[:_SHOWN_COMMAND] + "..."


def duration(seconds: float) -> str:
    """Return a length of time in the words of podman and docker: ``About a minute``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // _MINUTE
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    days = hours // 24
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"


def ago(then_ns: int | None, now_ns: int) -> str:
    """Return how long ago a moment was; a moment that never came gives nothing."""
    return "" if then_ns is None else f"{duration((now_ns - then_ns) / 1e9)} ago"


def status_words(one: Inspection, now_ns: int) -> str:
    """Return a container's status as ``ps`` shows it: ``Exited (0) 3 minutes ago``."""
    if one.status is Status.RUNNING:
        started = one.started_ns
        return "Up" if started is None else f"Up {duration((now_ns - started) / 1e9)}"
    if one.status in (Status.EXITED, Status.STOPPED):
        code = exit_code(one)
        when = ago(one.finished_ns, now_ns)
        return f"Exited ({code}) {when}".rstrip()
    return str(one.status.value).capitalize()


def exit_code(one: Inspection) -> int:
    """Return the code of the last run; 0 for a container that never ended, as podman shows it."""
    return 0 if one.exit is None else one.exit.code


def size(count: float) -> str:
    """Return a number of bytes with three figures and a decimal unit: ``1.98MB``."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(count) < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}EB"


def rfc3339(ns: int | None, *, digits: bool = False) -> str:
    """Return a moment as RFC 3339 in the local zone, ``Z`` when that is UTC.

    The fraction has nine digits, or only those that are needed; None is Go's zero time.
    """
    if ns is None:
        return NEVER
    moment, offset = _local(ns)
    fraction = f".{ns % 10**9:09d}"
    if not digits:
        fraction = fraction.rstrip("0").rstrip(".")
    sign = "-" if offset < 0 else "+"
    zone = f"{sign}{abs(offset) // 3600:02d}:{abs(offset) // 60 % 60:02d}" if offset else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + fraction + zone


def go_time(ns: int | None) -> str:
    """Return a moment as Go prints one: ``2026-11-23 22:36:52.936134481 +0000 UTC``."""
    if ns is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    moment, offset = _local(ns)
    fraction = f".{ns % 10**9:09d}".rstrip("0").rstrip(".")
    sign = "-" if offset < 0 else "+"
    zone = f"{sign}{abs(offset) // 3600:02d}{abs(offset) // 60 % 60:02d} {moment.tm_zone}"
    return time.strftime("%Y-%m-%d %H:%M:%S", moment) + f"{fraction} {zone}"


def _local(ns: int) -> tuple[time.struct_time, int]:
    moment = time.localtime(ns // 10**9)
    return moment, moment.tm_gmtoff
