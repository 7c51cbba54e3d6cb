"""``longshore start``: start containers that exist."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.errors import HostUnsupported
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Start containers."""
    for flag in ("attach", "interactive"):
        if parsed.on(flag):
            raise HostUnsupported(
                f"start --{flag}",
                "this version has no attach yet",
                hint="start it, and read it with `longshore logs -f`",
            )
    return targets.each(
        app, parsed, targets.select(app, parsed, _STARTABLE), lambda box: box.start()
    )


_STARTABLE = (Status.CREATED, Status.STOPPED, Status.EXITED)

COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="Starts containers and returns as soon as their programs run.",
    examples=("start box", "start --latest"),
    flags=(
        targets.all_flag("every container that does not run", short=""),
        Flag("attach", "a", SWITCH, "Show its output (not in this version)"),
        targets.FILTER,
        Flag("interactive", "i", SWITCH, "Pass standard input on (not in this version)"),
        targets.LATEST,
    ),
    most=None,
    completes="startable",
)
