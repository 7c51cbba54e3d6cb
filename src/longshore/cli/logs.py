"""``longshore logs``: what containers have printed."""

from __future__ import annotations

import sys
import time

from longshore import _log
from longshore.cli import targets
from longshore.cli.flags import INT, SWITCH, TEXT, Command, Flag
from longshore.errors import LongshoreError
from longshore.linux.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from threading import Lock

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.models import LogRecord

# A line of one container is not cut by those of others, unless it is longer than this many bytes.
_LONGEST = 1 << 20
_COLORS = (32, 33, 34, 35, 36, 31)  # SGR: green first; no black and no white


def run(app: App, parsed: Parsed) -> int:
    """Print the logs of containers: of several by time, or side by side while they are followed."""
    refs = targets.select(app, parsed)
    now = time.time_ns()
    span = [_moment(parsed, name, now) for name in ("since", "until")]
    sys.stdout.flush()
    job = _Job(app, parsed, span, several=len(refs) > 1)
    for ref in refs:
        job.add(ref)
    if job.code and parsed.on("follow"):
        return job.code  # who waits for the end of the others would learn of it too late
    job.run()
    return job.code


def _moment(parsed: Parsed, name: str, now: int) -> int | None:
    text = parsed.maybe(name)
    if text is None:
        return None
    from longshore.cli.when import moment_ns

    return moment_ns(text, f"--{name}", now)


class _Job:
    """The containers of one command line. A failure with one does not keep the others from theirs.

    ``code`` is the exit code of the first failure.
    """

    def __init__(
        self, app: App, parsed: Parsed, span: Sequence[int | None], *, several: bool
    ) -> None:
        self.code = 0
        self._app = app
        self._parsed = parsed
        self._span = span
        self._several = several
        self._logs: list[tuple[Container, _Printer]] = []

    def add(self, ref: str) -> None:
        """Take a container, by name or id."""
        try:
            container = self._app.engine.get(ref)
            head = ""
            if self._parsed.on("names"):
                head = container.name
            elif self._several:
                head = container.id[:12]
        except LongshoreError as err:
            self._fail(err)
            return
        if head and self._parsed.on("color"):
            head = f"\x1b[{_COLORS[len(self._logs) % len(_COLORS)]}m{head}\x1b[0m"
        stamped = self._parsed.on("timestamps")
        printer = _Printer(container, head, stamped=stamped, whole=self._several)
        self._logs.append((container, printer))

    def run(self) -> None:
        """Print them."""
        if not self._several:
            for container, show in self._logs:
                for record in self._records(container):
                    show(record)
        elif self._parsed.on("follow"):
            self._follow()
        else:
            import heapq

            lines = (_lines(show, self._records(box)) for box, show in self._logs)
            for _, show, line in heapq.merge(*lines, key=lambda line: line[0]):
                for record in line:
                    show(record)
                show.end(line[-1].stream)

    def _records(self, container: Container) -> Iterator[LogRecord]:
        tail = self._parsed.integer("tail")
        try:
            yield from container.logs(
                follow=self._parsed.on("follow"),
                tail=None if tail is None or tail < 0 else tail,
                since_ns=self._span[0],
                until_ns=self._span[1],
            )
        except LongshoreError as err:
            self._fail(err)

    def _follow(self) -> None:
        """Print lines as they come. Each thread writes for itself: nothing piles up in memory."""
        import threading

        turn = threading.Lock()
        troubles: list[BaseException] = []

        def copy(container: Container, show: _Printer) -> None:
            try:
                for _, _, line in _lines(show, self._records(container)):
                    show.at_once(line, turn)
            except BaseException as err:  # standard output may be closed
                troubles.append(err)

        threads = [threading.Thread(target=copy, args=log, daemon=True) for log in self._logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if troubles:
            raise troubles[0]

    def _fail(self, err: LongshoreError) -> None:
        self._app.report(err)
        self.code = self.code or err.exit_code


def _lines(
    show: _Printer, records: Iterator[LogRecord]
) -> Iterator[tuple[int, _Printer, list[LogRecord]]]:
    """Yield the records line by line, with the time of the first piece of each."""
    lines: dict[str, list[LogRecord]] = {}
    sizes: dict[str, int] = {}
    for record in records:
        stream = record.stream
        line = lines.setdefault(stream, [])
        line.append(record)
        sizes[stream] = sizes.get(stream, 0) + len(record.data)
        if not record.partial or sizes[stream] > _LONGEST:
            yield line[0].time_ns, show, line
            del lines[stream], sizes[stream]
    for line in lines.values():
        yield line[0].time_ns, show, line


class _Printer:
    """Writes records to the streams they came from, each line with its name and time.

    With ``whole``, lines of others may follow: what ends without a newline gets one.
    """

    def __init__(self, container: Container, head: str, *, stamped: bool, whole: bool) -> None:
        self._container = container
        self._head = head
        self._stamped = stamped
        self._whole = whole
        self._begun: set[str] = set()  # streams whose line goes on

    def __call__(self, record: LogRecord) -> None:
        if record.gap:
            _log.warn(
                f"a part of the log of container {self._container.id[:12]} is missing: "
                "it was rotated away before it was read"
            )
            return
        head = ""
        if record.stream not in self._begun:
            if self._stamped:
                from longshore.cli.table import rfc3339

                head = rfc3339(record.time_ns, digits=True) + " "
            if self._head:
                head = f"{self._head} {head}"
        if record.partial:
            self._begun.add(record.stream)
        else:
            self._begun.discard(record.stream)
        self._write(record.stream, head.encode() + record.data)

    def at_once(self, line: list[LogRecord], turn: Lock) -> None:
        """Write all records of a line while no other container writes."""
        with turn:
            for record in line:
                self(record)
            self.end(line[-1].stream)

    def end(self, stream: str) -> None:
        """End a line that does not end by itself."""
        if self._whole and stream in self._begun:
            self._begun.discard(stream)
            self._write(stream, b"\n")

    @staticmethod
    def _write(stream: str, data: bytes) -> None:
        write_all(2 if stream == "stderr" else 1, data)


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Prints what containers have written, byte for byte, each stream to its own. With --follow it goes
on until the container ends. Of several containers the lines come by time, or as they come with
--follow, each with the container's id or name before it.""",
    examples=("logs box", "logs -f --tail 10 box", "logs -fn --color web db"),
    flags=(
        Flag("color", "", SWITCH, "Show the name or id of each container in a color of its own"),
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
