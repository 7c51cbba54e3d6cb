"""``longshore container cleanup``: take back what ended containers have left behind."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container


def run(app: App, parsed: Parsed) -> int:
    """Clean up after containers; what runs is left alone."""
    forget = parsed.on("rm")
    refs = targets.select(app, parsed, _ENDED)

    def clean(container: Container) -> None:
        container.cleanup()
        if forget:
            container.remove(missing_ok=True)

    return targets.each(app, parsed, refs, clean)


_ENDED = (Status.STOPPED, Status.EXITED)

COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Writes the exit of ended containers down and takes away their mounts, cgroup and runtime state. It
happens by itself; this is for when it could not, because the host or a program failed.""",
    examples=("container cleanup --all",),
    flags=(
        targets.all_flag("every container that has ended"),
        targets.LATEST,
        Flag("rm", "", SWITCH, "Remove them afterwards"),
    ),
    most=None,
    completes="container",
)
