"""``longshore rename``: give a container another name."""

from __future__ import annotations

from longshore.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Rename one container."""
    old, new = parsed.args
    app.engine.get(old).rename(new)
    return 0


COMMAND = Command(
    run,
    usage="CONTAINER NAME",
    about="Gives a container another name, whatever it does at the moment.",
    examples=("rename box old-box",),
    least=2,
    most=2,
    completes="container",
)
