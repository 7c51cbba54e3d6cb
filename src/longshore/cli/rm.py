"""``longshore rm``: remove containers."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import LIST, NUMBER, SWITCH, Command, Flag
from longshore.errors import LongshoreError, NoSuchContainer, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


_MISSING, _RUNNING = 1, 2  # podman-rm(1)


def run(app: App, parsed: Parsed) -> int:
    """Remove containers."""
    force, timeout = parsed.on("force"), parsed.number("time")
    return targets.each(
        app,
        parsed,
        targets.select(app, parsed),
        lambda box: box.remove(force=force, timeout=timeout),
        code_of=_code_of,
        together=force,
    )


def _code_of(error: LongshoreError) -> int:
    if isinstance(error, NoSuchContainer):
        return _MISSING
    return _RUNNING if isinstance(error, WrongState) else error.exit_code


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Removes containers that do not run, with --force also those that do. The exit code is 1 when a
container does not exist, 2 when one runs and --force was not given.""",
    examples=("rm box", "rm -f box web", "rm --all"),
    flags=(
        targets.all_flag("every container"),
        targets.CIDFILE,
        Flag("filter", "", LIST, targets.FILTER.help, metavar=targets.FILTER.metavar),
        Flag("force", "f", SWITCH, "Remove also what runs or is damaged"),
        targets.IGNORE,
        targets.LATEST,
        Flag("time", "t", NUMBER, "With --force, seconds of grace before it is killed"),
        Flag("volumes", "v", SWITCH, "Accepted because podman has it; there are no volumes yet"),
    ),
    most=None,
    completes="container",
)
