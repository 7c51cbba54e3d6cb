"""``longshore create``: make a container and leave it to be started."""

from __future__ import annotations

from longshore.cli import creation
from longshore.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Create a container and print its id."""
    from longshore.engine.trace import Trace

    trace = Trace()
    container = creation.make(app.engine, parsed, app.argv)
    trace.mark("create")
    print(container.id)
    if parsed.given("trace"):
        from longshore.cli.run import show_trace

        show_trace(trace, parsed.text("trace"))
    return 0


COMMAND = Command(
    run,
    usage="[options] {IMAGE|--rootfs PATH[:O]} [COMMAND [ARG...]]",
    about="""
Checks everything that was asked, makes the container and prints its id. Nothing runs until
`longshore start`.""",
    examples=("create --name box --rootfs /:O sleep 1000",),
    flags=creation.FLAGS,
    most=None,
    trailing=True,
)
