"""``longshore run``: make a container, start it, show what it prints, end with its code."""

from __future__ import annotations

import os
import signal
import sys

from longshore.cli import creation
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.errors import LongshoreError
from longshore.linux import grace

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    container = creation.make(engine, parsed, app.argv)
    trace.mark("create")
    if detached:
        _start(container, trace, forget=parsed.on("rm"))
        print(container.id)
        code = 0
    else:
        code = _attached(app, container, parsed, trace)
    if traced:
        show_trace(trace, parsed.text("trace"))
    return code


def _start(container: Container, trace: Trace, *, forget: bool) -> None:
    """Start a container; with ``forget``, one that does not start is removed."""
    try:
        container.start(trace=trace)
    except BaseException as error:
        if forget:
            try:
                container.remove(force=True, missing_ok=True)
            except LongshoreError as more:
                error.add_note(f"container {container.id} could not be removed: {more}")
        raise


def _attached(app: App, container: Container, parsed: Parsed, trace: Trace) -> int:
    with container.attended():  # leaving it cleans up, and with --rm removes
        _start(container, trace, forget=parsed.on("rm"))
        with _Signals(container, proxy=parsed.on("sig-proxy")):
            if parsed.on("interactive"):
                _feed(container)
            if parsed.text("log-driver") != "none":
                follow(container)
            info = container.wait()
        trace.mark("run")
    trace.mark("clean up")
    return code_of(app, info)


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


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, however little the descriptor takes at a time."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody gave us a non-blocking descriptor
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()


def _feed(container: Container) -> None:
    """Copy standard input to a container, in a thread that nobody waits for."""
    import threading

    def copy() -> None:
        try:
            container.feed(0)
        except (LongshoreError, OSError):
            pass  # it has ended, and what it has not read is nobody's loss

    threading.Thread(target=copy, name="stdin", daemon=True).start()


class _Signals:
    """While it is entered, signals sent to this process go to the container instead.

    They are forwarded, in order, by a thread that exists once there is a signal: the main thread
    may be holding the container's lock when one arrives.
    """

    def __init__(self, container: Container, *, proxy: bool) -> None:
        self._container = container
        self._numbers = _FORWARDED if proxy else ()
        self._before: dict[signal.Signals, object] = {}
        self._pipe = -1

    def __enter__(self) -> Self:
        for number in self._numbers:
            # what our starter had ignored (nohup, a shell's &) stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it
        if self._pipe >= 0:
            os.close(self._pipe)  # the thread's end of file

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._pipe < 0:
            import threading

            source, self._pipe = os.pipe()
            threading.Thread(
                target=self._forward, args=(source,), name="signals", daemon=True
            ).start()
        os.write(self._pipe, bytes((number,)))

    def _forward(self, source: int) -> None:
        with open(source, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                for number in numbers:
                    try:
                        if number in _ENDING and self._container.drops(number):
                            # Ctrl-C is meant to end it: as outside of a container, it does
                            number = signal.SIGKILL
                        self._container.kill(number)
                    except LongshoreError:
                        pass  # it has ended meanwhile


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


COMMAND = Command(
    run,
    usage="[options] {IMAGE|--rootfs PATH[:O]} [COMMAND [ARG...]]",
    about="""
Makes a container, starts it, and shows what it prints until it ends. The exit code is the
container's own; 125 is a failure of Longshore's, 126 a command that cannot be executed, and 127
one that does not exist.

--rootfs PATH runs from a directory; PATH:O leaves it untouched, so that /:O is a private view of
this host. Names of images come in a later version.""",
    examples=(
        "run --rm --rootfs /:O sh -c 'id; ps ax'",
        "run -d --name box --rootfs /:O sleep 1000",
        "run --rm -m 64m --network none --rootfs /srv/tree:O /bin/sh -c 'echo hi'",
    ),
    flags=(
        *creation.FLAGS,
        Flag("detach", "d", SWITCH, "Leave the container running and print its id"),
        Flag("sig-proxy", "", SWITCH, "Pass signals on to the container", default="true"),
    ),
    most=None,
    trailing=True,
)
