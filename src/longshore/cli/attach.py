"""``longshore attach``, and what `run` and `start` do with a container's streams and terminal."""

from __future__ import annotations

import contextlib
import os
import sys

from longshore import _log
from longshore.cli import targets
from longshore.cli.flags import SWITCH, TEXT, Command, Flag
from longshore.cli.run import DETACH_KEYS, Signals, code_of, write_all
from longshore.cli.terminal import Keyboard, Terminal, end_by, parse_detach_keys
from longshore.errors import InvalidArgument
from longshore.linux import ttys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.attachment import Attachment
    from longshore.engine.container import Container
    from longshore.engine.trace import Trace
    from longshore.options import ContainerConfig

__all__ = ["COMMAND", "attended", "terminal_size"]


def run(app: App, parsed: Parsed) -> int:
    """Attach to a running container."""
    refs = targets.select(app, parsed)
    if len(refs) != 1:
        raise InvalidArgument("one container at a time can be attached to")
    keys = _keys(app, parsed)
    container = app.engine.get(refs[0])
    config = container.inspect().config
    stdin = config.interactive and not parsed.on("no-stdin")
    with container.attach(stdin=stdin) as streams:
        signals = Signals(container, proxy=parsed.on("sig-proxy"), owner=False)
        detached = _converse(streams, config, signals, stdin=stdin, keys=keys, late=True)
        if streams.dropped:
            _log.warn(
                f"{streams.dropped} bytes that {config.name} printed are not shown, because they "
                "were not read in time, and it keeps no log"
            )
    return 0 if detached else code_of(app, container.wait())


def attended(
    app: App, container: Container, parsed: Parsed, *, stdin: bool, trace: Trace
) -> int | None:
    """Start a container, attached; return its exit code, or None when its user has detached.

    Inside `Container.attended`. All that it prints is shown: it waits where nobody reads that.
    """
    keys = _keys(app, parsed)
    config = container.inspect().config
    stdin = stdin and config.interactive
    if config.tty and stdin and not os.isatty(0):
        _log.warn("--tty and --interactive: standard input is no terminal")
    size = terminal_size() if config.tty else None
    with container.attach(
        start=True, stdin=stdin, when_full="block", console_size=size, trace=trace
    ) as streams:
        signals = Signals(container, proxy=parsed.on("sig-proxy"))
        if _converse(streams, config, signals, stdin=stdin, keys=keys):
            return None
    return code_of(app, container.wait())


def terminal_size() -> tuple[int, int] | None:
    """Return the size (rows, columns) of the terminal that this process has; None: it has none."""
    return ttys.size((0, 1, 2))


def _keys(app: App, parsed: Parsed) -> bytes:
    text = parsed.maybe("detach-keys")
    return parse_detach_keys(app.engine.settings.detach_keys if text is None else text)


def _converse(
    streams: Attachment,
    config: ContainerConfig,
    signals: Signals,
    *,
    stdin: bool,
    keys: bytes,
    late: bool = False,
) -> bool:
    """Show what comes and pass on what is typed, to the container's end; whether it was left.

    ``late`` is for a program that has run for a while: it is made to draw its screen again.
    """

    def resized(size: tuple[int, int]) -> None:
        nonlocal late
        if late:
            # A size that stays the same is no news to it (SIGWINCH).
            late = False
            streams.resize(size[0], size[1] + 1)
        streams.resize(*size)

    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals)
        # From a pipe or a file every byte is the container's.
        keyboard = Keyboard(streams, keys if os.isatty(0) else b"") if stdin else None
        fd = 0 if stdin and os.isatty(0) else 1
        if config.tty and os.isatty(fd):
            terminal = Terminal(fd, keys=fd == 0, resized=resized, proxied=signals.numbers)
            stack.enter_context(terminal)
            signals.last_words = terminal.restore
        if keyboard is not None:
            stack.enter_context(keyboard)
        for stream, data in streams:
            write_all(2 if stream == "stderr" else 1, data)
    return keyboard is not None and keyboard.detached


COMMAND = Command(
    run,
    usage="[options] CONTAINER",
    about="""
Shows what a running container prints from now on, and passes on what is typed if it was made with
--interactive. Ends with the container's exit code, or with 0 after the detach keys.

Detaching leaves the container as it is, but one with --interactive and no --tty: its input ends.""",
    examples=("attach box", "attach --no-stdin --latest", "attach --detach-keys ctrl-x,x box"),
    flags=(
        DETACH_KEYS,
        targets.LATEST,
        Flag("no-stdin", "", SWITCH, "Do not pass standard input on"),
        Flag("sig-proxy", "", SWITCH, "Pass signals on to the container", default="true"),
    ),
    most=1,
    completes="running",
)
