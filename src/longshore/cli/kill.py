"""``longshore kill``: send a signal to running containers."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import TEXT, Command, Flag
from longshore.cli.stop import LIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Send a signal to containers."""
    from longshore.options.parse import parse_signal

    number = parse_signal(parsed.text("signal"))  # a wrong one is refused before any is sent
    return targets.each(
        app, parsed, targets.select(app, parsed, LIVE), lambda box: box.kill(number)
    )


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="Sends a signal, SIGKILL unless another is named, to the first process of containers.",
    examples=("kill box", "kill -s HUP box"),
    flags=(
        targets.all_flag("every running container"),
        targets.CIDFILE,
        targets.LATEST,
        Flag("signal", "s", TEXT, "Signal to send, by name or number", default="KILL"),
    ),
    most=None,
    completes="running",
)
