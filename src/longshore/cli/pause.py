"""``longshore pause`` and ``unpause``: freeze containers, and let them go on."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import Command
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def _pause(app: App, parsed: Parsed) -> int:
    refs = targets.select(app, parsed, (Status.RUNNING,))
    return targets.each(app, parsed, refs, lambda box: box.pause())


def _unpause(app: App, parsed: Parsed) -> int:
    refs = targets.select(app, parsed, (Status.PAUSED,))
    return targets.each(app, parsed, refs, lambda box: box.unpause())


PAUSE = Command(
    _pause,
    usage="[options] CONTAINER [CONTAINER...]",
    about="Freezes every process of running containers.",
    examples=("pause box", "pause --all"),
    flags=(
        targets.all_flag("every running container"),
        targets.CIDFILE,
        targets.FILTER,
        targets.LATEST,
    ),
    most=None,
    completes="running",
)
UNPAUSE = Command(
    _unpause,
    usage="[options] CONTAINER [CONTAINER...]",
    about="Lets the processes of paused containers go on.",
    examples=("unpause box", "unpause --all"),
    flags=(
        targets.all_flag("every paused container"),
        targets.CIDFILE,
        targets.FILTER,
        targets.LATEST,
    ),
    most=None,
    completes="paused",
)
