"""``longshore restart``: stop containers and start them again."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import SWITCH, Command, Flag
from longshore.cli.stop import LIVE, TIME
from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Restart containers, side by side when there are several."""
    timeout = parsed.number("time")
    if parsed.on("running"):
        if parsed.args or parsed.on("all") or parsed.on("latest"):
            raise InvalidArgument("--running cannot be used together with names, --all or --latest")
        found = app.engine.inspect_all()
        refs: list[str] = [one.id for one in found if one.status in LIVE]
    else:
        refs = targets.select(app, parsed)
    return targets.each(app, parsed, refs, lambda box: box.restart(timeout), together=True)


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="Stops containers as `stop` does and starts them; one that does not run is started.",
    examples=("restart box", "restart -t 0 --running"),
    flags=(
        targets.all_flag("every container, whatever it does"),
        targets.CIDFILE,
        targets.FILTER,
        targets.LATEST,
        Flag("running", "", SWITCH, "Take every running container"),
        TIME,
    ),
    most=None,
    completes="container",
)
