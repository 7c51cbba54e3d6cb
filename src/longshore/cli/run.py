"""``longshore run``: make a container, start it, show what it prints, end with its code."""

from __future__ import annotations

import os
import signal
import sys

from longshore.cli import creation
from longshore.cli.flags import SWITCH, TEXT, Command, Flag
from longshore.cli.signals import Taking
from longshore.errors import LongshoreError
from longshore.linux import grace
from longshore.linux.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.engine.trace import Trace
    from longshore.models import ExitInfo

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run(app: App, parsed: Parsed) -> int:
    """Run a new container, attached or not."""
    grace.hasten()
    detached = parsed.on("detach")
    from longshore.engine.trace import UNTRACED, Trace

    traced = parsed.given("trace")
    trace = Trace() if traced else UNTRACED
    engine = app.engine
    trace.mark("settings")
    container = creation.make(engine, parsed, app.argv, starts=True)
    trace.mark("create")
    if detached:
        with in_order(), forgetting(container, asked=parsed.on("rm")):
            _start(container, parsed, trace)
        if os.geteuid() != 0:
            from longshore.cli import targets

            targets.warn_of_logout(container)
        print(container.id)
        code = 0
    else:
        code = _attached(app, container, parsed, trace)
    if traced:
        show_trace(trace, parsed.text("trace"))
    return code


class Ended(KeyboardInterrupt):
    """A signal that ends this process: as Ctrl-C, so that what was begun is taken back first."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class in_order:  # noqa: N801 - reads as what it does
    """For a start: while it is entered, SIGTERM and SIGHUP raise `Ended`.

    The first one only, and then for good: what takes the start back is not cut short by those that
    follow (a terminal that is closed sends several). Ctrl-C still does that.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, object] = {}
        self._seen = False

    def __enter__(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._before[number] = signal.signal(number, self._take)

    def __exit__(self, *_: object) -> None:
        if not self._seen:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # as it was given

    def _take(self, number: int, _: FrameType | None) -> None:
        if not self._seen:
            self._seen = True
            raise Ended(number)


class forgetting:  # noqa: N801 - reads as what it does; contextlib's would cost an import
    """Removes a container, if that was asked for, when it cannot be started."""

    def __init__(self, container: Container, *, asked: bool) -> None:
        self._container = container
        self._asked = asked

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or not self._asked:
            return
        try:
            self._container.remove(force=True, missing_ok=True)
        except LongshoreError as more:
            error.add_note(f"container {self._container.id} could not be removed: {more}")


def _start(container: Container, parsed: Parsed, trace: Trace) -> None:
    size = None
    if parsed.on("tty"):
        from longshore.linux import ttys

        size = ttys.size((0, 1, 2))
    container.start(console_size=size, trace=trace)


def _attached(app: App, container: Container, parsed: Parsed, trace: Trace) -> int:
    with container.attended():  # leaving it cleans up, and with --rm removes
        if _has_more_to_it(app, parsed):
            from longshore.cli import attach

            forget = parsed.on("rm")
            stdin = parsed.on("interactive")
            found = attach.attended(app, container, parsed, stdin=stdin, forget=forget, trace=trace)
            if found is None:
                return 0
            code = found
        else:
            with in_order(), forgetting(container, asked=parsed.on("rm")):
                container.start(trace=trace)
            with Signals(container, proxy=parsed.on("sig-proxy")):
                follow(container)
                code = code_of(app, container.wait())
        trace.mark("run")
    trace.mark("clean up")
    return code


def _has_more_to_it(app: App, parsed: Parsed) -> bool:
    """Whether there is more to be done than to show a log that nobody else has written to."""
    settings = app.engine.settings
    special = ("interactive", "tty", "log-driver", "log-opt")
    return (
        any(parsed.given(flag) for flag in special)
        or settings.log_driver == "none"
        or settings.log_size_max > 0
    )


def code_of(app: App, info: ExitInfo) -> int:
    """Return a container's exit code as a process can have it; an unknown one is reported."""
    if info.code >= 0:
        return info.code
    why = info.message or info.reason.value
    app.report(LongshoreError(f"the exit code of the container is not known: {why}"))
    return LongshoreError.exit_code


def follow(container: Container) -> None:
    """Copy what a container prints, byte for byte, until it has ended."""
    sys.stdout.flush()
    for stream, data in container.output():
        write_all(2 if stream == "stderr" else 1, data)


class Signals:
    """While it is entered, signals sent to this process go to the container instead.

    They are forwarded, in order, by a thread: the main thread may be holding the container's lock
    when one arrives.

    A signal that is meant to end this process, and that the container's pid 1 cannot receive, ends
    the container if this process is its ``owner``, and else this process; `last_words` come before
    that.
    """

    def __init__(self, container: Container, *, proxy: bool, owner: bool = True) -> None:
        self.numbers = _FORWARDED if proxy else ()
        self.last_words: Callable[[], None] = _nothing
        self._container = container
        self._owner = owner
        self._ours: set[int] = set()
        self._taking = Taking(self.numbers, self._forward, self._end)

    def __enter__(self) -> Self:
        self._taking.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._taking.__exit__()

    def _end(self, number: int, _: FrameType | None) -> None:
        if number in self._ours:
            self.last_words()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _forward(self, number: int) -> None:
        try:
            if number in _ENDING and self._container.drops(number):
                if not self._owner:
                    self._end_this(number)
                # Ctrl-C is meant to end it: as outside of a container, it does
                number = signal.SIGKILL
            self._container.kill(number)
        except LongshoreError:
            pass  # it has ended meanwhile

    def _end_this(self, number: int) -> None:
        """End this process by a signal; only the main thread can let go of a handler."""
        import time

        self._ours.add(number)
        while True:  # once more, if the main thread has just looked
            os.kill(os.getpid(), number)
            time.sleep(0.1)


def _nothing() -> None:
    return


def show_trace(trace: Trace, form: str) -> None:
    """Print where the time went, on standard error."""
    phases = trace.phases
    if form == "json":
        import json

        lines = [json.dumps([{"phase": name, "ms": round(s * 1e3, 3)} for name, s in phases])]
    else:
        width = max((len(name) for name, _ in phases), default=5)
        lines = [f"{name:<{width}}  {seconds * 1e3:9.2f} ms" for name, seconds in phases]
        lines.append(f"{'total':<{width}}  {sum(s for _, s in phases) * 1e3:9.2f} ms")
    sys.stdout.flush()
    sys.stderr.write("\n".join(lines) + "\n")


DETACH_KEYS = Flag(
    "detach-keys",
    "",
    TEXT,
    "Keys that leave the container running; none: one cannot (by default ctrl-p,ctrl-q)",
    metavar="KEYS",
)

COMMAND = Command(
    run,
    usage="[options] {IMAGE|--rootfs PATH[:O]} [COMMAND [ARG...]]",
    about="""
Makes a container, starts it, and shows what it prints until it ends. The exit code is the
container's own; 125 is a failure of Longshore's, 126 a command that cannot be executed, and 127
one that does not exist.

With -it it has your terminal, until the detach keys; what is then left running ends as without
you. A reader of the output that leaves early (`| head`) ends this command and not the container.

--rootfs PATH runs from a directory; PATH:O leaves it untouched, so that /:O is a private view of
this host. Names of images come in a later version.""",
    examples=(
        "run --rm --rootfs /:O sh -c 'id; ps ax'",
        "run -d --name box --rootfs /:O sleep 1000",
        "run -it --rm --rootfs /:O sh",
        "run --rm -m 64m --network none --rootfs /srv/tree:O /bin/sh -c 'echo hi'",
    ),
    flags=(
        *creation.FLAGS,
        Flag("detach", "d", SWITCH, "Leave the container running and print its id"),
        DETACH_KEYS,
        Flag("sig-proxy", "", SWITCH, "Pass signals on to the container", default="true"),
    ),
    most=None,
    trailing=True,
)
