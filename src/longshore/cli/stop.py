"""``longshore stop``: stop running containers."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import NUMBER, Command, Flag
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Stop containers, side by side when there are several."""
    timeout = parsed.number("time")
    refs = targets.select(app, parsed, LIVE)
    return targets.each(
        app, parsed, refs, lambda box: _forget(box.stop(timeout)), together=timeout != 0
    )


def _forget(_: object) -> None:
    """Drop the exit; the name of the container is all that is printed."""


LIVE = (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)
TIME = Flag("time", "t", NUMBER, "Seconds to wait before it is killed (default: its own, or 10)")

COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Sends the stop signal and, when the time is over, SIGKILL. A container whose first process cannot
receive the signal is not waited for. Stopping what does not run is no error.""",
    examples=("stop box", "stop -t 2 box web", "stop --all"),
    flags=(
        targets.all_flag("every running container"),
        targets.CIDFILE,
        targets.FILTER,
        targets.IGNORE,
        targets.LATEST,
        TIME,
    ),
    most=None,
    completes="running",
)
