"""``longshore container exists``: the answer is the exit code."""

from __future__ import annotations

from longshore.cli.flags import Command
from longshore.errors import NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Return 0 when the container exists, 1 when it does not."""
    try:
        app.engine.get(parsed.args[0])
    except NoSuchContainer:
        return 1
    return 0


COMMAND = Command(
    run,
    usage="CONTAINER",
    about="Ends with 0 when the container exists, 1 when it does not, 125 when that is not known.",
    examples=("container exists box || longshore run -d --name box --rootfs /:O sleep 100",),
    least=1,
    most=1,
    completes="container",
)
