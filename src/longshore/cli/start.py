"""``longshore start``: start containers that exist, and attach to one of them if asked."""

from __future__ import annotations

import os

from longshore.cli import targets
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.cli.run import DETACH_KEYS, in_order
from longshore.errors import InvalidArgument
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container


def run(app: App, parsed: Parsed) -> int:
    """Start containers."""
    refs = targets.select(app, parsed, _STARTABLE)
    if not parsed.on("attach") and not parsed.on("interactive"):
        with in_order():
            return targets.each(app, parsed, refs, _start)
    if len(refs) != 1:
        raise InvalidArgument("one container at a time can be started and attached to")
    from longshore.cli import attach

    container = app.engine.get(refs[0])
    with container.attended():
        code = attach.attended(app, container, parsed, stdin=parsed.on("interactive"))
    return 0 if code is None else code


def _start(container: Container) -> None:
    container.start()
    if os.geteuid() != 0:
        targets.warn_of_logout(container)


_STARTABLE = (Status.CREATED, Status.STOPPED, Status.EXITED)

COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Starts containers and returns as soon as their programs run. With --attach it shows what one
container prints, and ends with its exit code.""",
    examples=("start box", "start --latest", "start -ai box"),
    flags=(
        targets.all_flag("every container that does not run", short=""),
        Flag("attach", "a", SWITCH, "Show what it prints, until it ends"),
        DETACH_KEYS,
        targets.FILTER,
        Flag("interactive", "i", SWITCH, "Attach, and pass standard input on"),
        targets.LATEST,
        Flag("sig-proxy", "", SWITCH, "When attached, pass signals on", default="true"),
    ),
    most=None,
    completes="startable",
)
