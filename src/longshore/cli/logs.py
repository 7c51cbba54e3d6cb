"""``longshore logs``: what containers have printed."""

from __future__ import annotations

import sys
import time

from longshore.cli import targets
from longshore.cli.flags import INT, SWITCH, TEXT, Command, Flag
from longshore.cli.run import write_all
from longshore.errors import InvalidArgument, LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.models import LogRecord


def run(app: App, parsed: Parsed) -> int:
    """Print the logs of containers; those of several are followed side by side."""
    refs = targets.select(app, parsed)
    now = time.time_ns()
    span = [_moment(parsed, name, now) for name in ("since", "until")]
    show = _Printer(named=parsed.on("names"), stamped=parsed.on("timestamps"))
    if parsed.on("follow") and len(refs) > 1:
        raise InvalidArgument(
            "one container at a time can be followed", hint="run one `logs -f` for each"
        )
    first = 0
    for ref in refs:
        try:
            _print(app, parsed, ref, span, show)
        except LongshoreError as err:
            app.report(err)
            first = first or err.exit_code
    return first


def _moment(parsed: Parsed, name: str, now: int) -> int | None:
    text = parsed.maybe(name)
    if text is None:
        return None
    from longshore.cli.when import moment_ns

    return moment_ns(text, f"--{name}", now)


def _print(app: App, parsed: Parsed, ref: str, span: list[int | None], show: _Printer) -> None:
    container = app.engine.get(ref)
    tail = parsed.integer("tail")
    show.name = container.name if show.named else ""
    sys.stdout.flush()
    for record in container.logs(
        follow=parsed.on("follow"),
        tail=None if tail is None or tail < 0 else tail,
        since_ns=span[0],
        until_ns=span[1],
    ):
        show(record)


class _Printer:
    """Writes records to the streams they came from, each line with its name and time."""

    def __init__(self, *, named: bool, stamped: bool) -> None:
        self.named = named
        self.stamped = stamped
        self.name = ""
        self._begun: set[str] = set()  # streams whose line goes on

    def __call__(self, record: LogRecord) -> None:
        head = ""
        if record.stream not in self._begun:
            if self.stamped:
                from longshore.cli.table import rfc3339

                head = rfc3339(record.time_ns, digits=True) + " "
            if self.named:
                head = f"{self.name} {head}"
        if record.partial:
            self._begun.add(record.stream)
        else:
            self._begun.discard(record.stream)
        write_all(2 if record.stream == "stderr" else 1, head.encode() + record.data)


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Prints what containers have written, byte for byte, each stream to its own. With --follow it goes
on until the container ends.""",
    examples=("logs box", "logs -f --tail 10 box", "logs --since 10m --timestamps box"),
    flags=(
        Flag("follow", "f", SWITCH, "Go on until the container ends"),
        targets.LATEST,
        Flag("names", "n", SWITCH, "Put the name of the container before each line"),
        Flag("since", "", TEXT, "Only what is newer: a moment, or how long ago", metavar="TIME"),
        Flag("tail", "", INT, "Lines from the end; -1: all", metavar="LINES", default="-1"),
        Flag("timestamps", "t", SWITCH, "Put the time before each line"),
        Flag("until", "", TEXT, "Only what is older: a moment, or how long ago", metavar="TIME"),
    ),
    most=None,
    completes="container",
)
