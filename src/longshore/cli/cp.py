"""``longshore cp``: files into containers, out of them and between them."""

from __future__ import annotations

import sys

from longshore.cli.flags import SWITCH, Command, Flag
from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, TextIO

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed

_STREAM = "-"


def run(app: App, parsed: Parsed) -> int:
    """Copy from the first argument to the second."""
    source, target = parsed.args
    origin, source_path = split(source)
    goal, target_path = split(target)
    keep_owner = not parsed.on("archive")
    overwrite = parsed.on("overwrite")
    if origin is not None and goal is not None:
        app.engine.get(origin).copy_to(
            source_path,
            app.engine.get(goal),
            target_path,
            keep_owner=keep_owner,
            overwrite=overwrite,
        )
    elif goal is not None:
        box = app.engine.get(goal)
        stream = _binary(sys.stdin) if source == _STREAM else source
        box.copy_in(stream, target_path, keep_owner=keep_owner, overwrite=overwrite)
    elif origin is not None:
        box = app.engine.get(origin)
        out = _binary(sys.stdout) if target == _STREAM else target
        box.copy_out(source_path, out, keep_owner=keep_owner, overwrite=overwrite)
        sys.stdout.flush()
    else:
        raise InvalidArgument(
            "neither path is in a container", hint="CONTAINER:PATH is one that is"
        )
    return 0


def _binary(stream: TextIO) -> BinaryIO:
    if stream.isatty():
        raise InvalidArgument("a tar archive is not for a terminal", hint="redirect it")
    return stream.buffer


def split(word: str) -> tuple[str | None, str]:
    """Return the container and the path of an argument; None for a path of the host."""
    name, colon, path = word.partition(":")
    if not colon or word.startswith((".", "/")):
        return None, word
    if not name:
        raise InvalidArgument(f"{word!r} has no container before the colon", hint=f"./{word}")
    return name, path or "/"


COMMAND = Command(
    run,
    usage="[options] [CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
    about="""
One or both of the paths are in a container, which may run or not. Links in it lead nowhere out of
it. SRC/. is what is in a directory. With - for SRC_PATH a tar archive is read from standard input
and unpacked in a directory; with - for DEST_PATH one is written to standard output. A path of the
host that has a colon begins with / or a dot.""",
    examples=(
        "cp app.conf box:/etc/",
        "cp box:/var/log/. logs",
        "cp one:/data two:/data",
        "cp box:/etc - | tar t",
    ),
    flags=(
        Flag(
            "archive",
            "a",
            SWITCH,
            "Give what is copied to the user of its new place; =false keeps uid, gid and setuid",
            default="true",
        ),
        Flag("overwrite", "", SWITCH, "Let files replace directories, and the reverse"),
        Flag("pause", "", SWITCH, "Does nothing", default="true", hidden=True),
    ),
    least=2,
    most=2,
    completes="container",
)
