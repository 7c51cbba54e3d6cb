"""Read moments as people type them: RFC 3339, a date, seconds since the epoch, or ``10m`` ago."""

from __future__ import annotations

import re
import time

from longshore.errors import InvalidArgument

_UNITS = {
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "ns": 1,
}
_PART = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,18}))?(h|ms|m|s|us|µs|ns)")
_EPOCH = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")


def duration_ns(text: str) -> int | None:
    """Return the nanoseconds of a Go duration (``1h30m``, ``1.5s``), or None if it is not one."""
    total, position = 0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        whole, fraction, unit = part.group(1), part.group(2) or "", part.group(3)
        total += int(whole) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
        position = part.end()
    return total if position else None


def moment_ns(text: str, flag: str, now_ns: int | None = None) -> int:
    """Return a moment in nanoseconds since the epoch. A duration counts back from now."""
    back = duration_ns(text.removeprefix("-"))
    if back is not None:
        return (time.time_ns() if now_ns is None else now_ns) - back
    epoch = _EPOCH.fullmatch(text)
    if epoch:
        return int(epoch.group(1)) * 10**9 + int((epoch.group(2) or "").ljust(9, "0"))
    from datetime import datetime

    # datetime keeps microseconds; the other digits are put back by hand
    fraction = re.search(r"[.,]([0-9]{1,9})[0-9]*", text)
    bare = text if fraction is None else text[: fraction.start()] + text[fraction.end() :]
    try:
        seconds = int(datetime.fromisoformat(bare).timestamp())
    except (ValueError, OverflowError, OSError) as err:
        raise InvalidArgument(
            f'invalid value "{text}" for {flag}: it is not a moment',
            hint="try 10m, 2026-01-31, 2026-01-31T12:00:00Z, or seconds since the epoch",
        ) from err
    return seconds * 10**9 + (int(fraction.group(1).ljust(9, "0")) if fraction else 0)
