"""``longshore unshare``: run a program in the user namespace of this user's containers."""

from __future__ import annotations

import os

from longshore.cli.flags import Command
from longshore.errors import HostUnsupported, ProgramNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Become the program; its exit code is the command's."""
    machinery = app.engine._machinery
    if machinery.rootless is None:
        raise HostUnsupported(
            "unshare enters the user namespace of an ordinary user",
            "root, whose containers have none" if machinery.user is None else "already inside",
            hint="run the program as it is",
        )
    words = list(parsed.args) or [os.environ.get("SHELL") or "/bin/sh"]
    entering = machinery.rootless.entering(keep_directory=True)
    env = {**os.environ, **machinery.rootless.markers}
    from longshore.engine.machinery import find_program

    if find_program(words[0]) is None:
        raise ProgramNotFound(f"{words[0]}: there is no such program")
    os.execve(entering[0], [*entering, *words], env)


COMMAND = Command(
    run,
    usage="[COMMAND [ARG...]]",
    about="""
Runs a program (your shell) as root of the user namespace that your containers are in, where the
files of their users belong to somebody: to look at them, to change or to remove them. It has no
more power over anything else than you have.""",
    examples=("unshare", "unshare cat /proc/self/uid_map", "unshare rm -r volume"),
    most=None,
    trailing=True,
)
