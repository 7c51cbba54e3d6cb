"""``longshore inspect``: everything that is known about containers."""

from __future__ import annotations

import sys

from longshore.cli import targets
from longshore.cli.flags import TEXT, Command, Flag
from longshore.errors import LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Show what is known; what is not found is an error after what is."""
    from longshore.cli import formatting
    from longshore.cli.describe import document
    from longshore.cli.govalues import to_json

    form = parsed.text("format")
    code = 0
    found: list[dict[str, Any]] = []
    errors: list[LongshoreError] = []
    for ref in targets.select(app, parsed):
        try:
            found.append(document(app.engine.get(ref).inspect(), app.engine))
        except LongshoreError as err:
            errors.append(err)
            code = code or err.exit_code
    if formatting.is_json(form):
        sys.stdout.write(to_json(found, indent=4) + "\n")
    else:
        sys.stdout.write("".join(formatting.one(form, each) for each in found))
    for error in errors:
        app.report(error)
    return code


_FORMAT = Flag("format", "f", TEXT, "Print through a Go template, or as JSON", default="json")
_ABOUT = """
Prints everything that is known about containers. The keys are podman's; State.Exit and
State.Exits are Longshore's own: how the last runs ended, why, and what they used."""

CONTAINER = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about=_ABOUT,
    examples=("container inspect box",),
    flags=(_FORMAT, targets.LATEST),
    most=None,
    completes="container",
)
COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about=_ABOUT,
    examples=(
        "inspect box",
        "inspect --format '{{.State.Status}} {{.State.Exit.Reason}}' box",
        "inspect -l --format '{{json .Config.Labels}}'",
    ),
    flags=(
        _FORMAT,
        targets.LATEST,
        Flag(
            "type",
            "t",
            TEXT,
            "What to look for",
            metavar="WORD",
            choices=("all", "container"),
            default="all",
        ),
    ),
    most=None,
    completes="container",
)
