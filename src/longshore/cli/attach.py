"""``longshore attach``, and what `run` and `start` do with a container's streams and terminal."""

from __future__ import annotations

import os

from longshore import _log
from longshore.cli import targets
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.cli.run import DETACH_KEYS, Signals, code_of, forgetting, in_order
from longshore.cli.terminal import converse, parse_detach_keys
from longshore.engine.trace import UNTRACED
from longshore.errors import InvalidArgument
from longshore.linux import ttys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.engine.trace import Trace

__all__ = ["COMMAND", "attended"]


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
        detached = converse(streams, signals, tty=config.tty, stdin=stdin, keys=keys)
        if streams.dropped:
            _log.warn(
                f"{streams.dropped} bytes that {config.name} printed are not shown, because they "
                "were not read in time, and it keeps no log"
            )
    return 0 if detached else code_of(app, container.wait())


def attended(
    app: App,
    container: Container,
    parsed: Parsed,
    *,
    stdin: bool,
    forget: bool = False,
    trace: Trace = UNTRACED,
) -> int | None:
    """Start a container, attached; return its exit code, or None when its user has detached.

    Inside `Container.attended`. All that it prints is shown: it waits where nobody reads that. With
    ``forget`` one that does not start is removed.
    """
    keys = _keys(app, parsed)
    config = container.inspect().config
    stdin = stdin and config.interactive
    if config.tty and stdin and not os.isatty(0):
        _log.warn("--tty and --interactive: standard input is no terminal")
    size = ttys.size((0, 1, 2)) if config.tty else None
    with in_order(), forgetting(container, asked=forget):
        streams = container.attach(
            start=True, stdin=stdin, when_full="block", console_size=size, trace=trace
        )
    with streams:
        signals = Signals(container, proxy=parsed.on("sig-proxy"))
        if converse(streams, signals, tty=config.tty, stdin=stdin, keys=keys, known=size):
            return None
    return code_of(app, container.wait())


def _keys(app: App, parsed: Parsed) -> bytes:
    text = parsed.maybe("detach-keys")
    return parse_detach_keys(app.engine.settings.detach_keys if text is None else text)


COMMAND = Command(
    run,
    usage="[options] CONTAINER",
    about="""
Shows what a running container prints from now on, and passes on what is typed if it was made with
--interactive. Ends with the container's exit code, or with 0 after the detach keys.

Detaching leaves the container as it is, but one that was made with --interactive and without --tty:
its input ends.""",
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
