"""Write k8s-file logs as conmon 2.1.6 does, from what a container writes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

from longshore.models import LogRecord

READ = 8192  # bytes that conmon reads at a time


def stamp(time_ns: int, zone_minutes: int = 0) -> bytes:
    """Render a time as conmon's snprintf does: nine digits, and the zone as a number."""
    zone = timezone(timedelta(minutes=zone_minutes))
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC).astimezone(zone)
    sign = "-" if zone_minutes < 0 else "+"
    hours, minutes = divmod(abs(zone_minutes), 60)
    clock = f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}"
    return f"{clock}{sign}{hours:02d}:{minutes:02d}".encode()


def render(records: Iterable[LogRecord], zone_minutes: int = 0) -> bytes:
    """Render records as the lines of a log."""
    return b"".join(
        b"%b %b %b %b\n"
        % (
            stamp(r.time_ns, zone_minutes),
            r.stream.encode(),
            b"P" if r.partial else b"F",
            r.data.removesuffix(b"\n"),
        )
        for r in records
    )


def records_of(writes: Iterable[tuple[str, int, bytes]]) -> list[LogRecord]:
    """Return the records that conmon makes of (stream, time, data) writes, one read each."""
    records = []
    for stream, time_ns, data in writes:
        for at in range(0, len(data), READ):
            for line in data[at : at + READ].split(b"\n")[:-1]:
                records.append(LogRecord(stream=stream, time_ns=time_ns, data=line + b"\n"))
            rest = data[at : at + READ].rpartition(b"\n")[2]
            if rest:
                records.append(LogRecord(stream=stream, time_ns=time_ns, data=rest, partial=True))
    return records
