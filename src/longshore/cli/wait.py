"""``longshore wait``: wait for containers to end, and print their exit codes."""

from __future__ import annotations

import sys

from longshore.cli import targets
from longshore.cli.flags import LIST, TEXT, Command, Flag
from longshore.errors import InvalidArgument, LongshoreError, NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


_ENDS = ("exited", "next_exit", "removed")
_CONDITIONS = {"stopped": "exited"}  # podman's other word for it
_STATUSES = ("created", "initialized", "running", "paused")
_NO_CODE = -1  # as podman prints for one that has not ended


def run(app: App, parsed: Parsed) -> int:
    """Wait for containers, in the order given."""
    conditions = [_CONDITIONS.get(word, word) for word in parsed.many("condition")] or ["exited"]
    if len(set(conditions)) > 1:
        raise InvalidArgument("one --condition at a time")
    if conditions[0] not in (*_ENDS, *_STATUSES):
        raise InvalidArgument(
            f"there is no condition {conditions[0]!r} to wait for",
            hint=f"it is one of {', '.join((*_ENDS, *_STATUSES))}",
        )
    first = 0
    for ref in targets.select(app, parsed):
        try:
            code = _code(app, ref, conditions[0])
        except LongshoreError as err:
            app.report(err)
            first = first or err.exit_code
        else:
            print(code)
            sys.stdout.flush()
    return first


def _code(app: App, ref: str, condition: str) -> int:
    if condition in _STATUSES:
        from longshore.lifecycle import Status

        app.engine.get(ref).wait_status(Status(condition))
        return _NO_CODE
    try:
        return app.engine.get(ref).wait(condition=condition).code
    except NoSuchContainer:
        # Removed already: its last exit is kept for a while, under its whole id.
        kept = app.engine.exit_of(ref) if len(ref) == 64 and ref.isalnum() else None
        if kept is None or condition == "next_exit":
            raise
        return kept.code


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Waits until containers have ended and prints the exit code of each on a line of its own. One that
has ended already answers at once; so does one that was removed within the last hour, by its id.
Waiting for a status other than that prints -1 for each.""",
    examples=("wait box", "wait --condition removed box", "wait --condition running box"),
    flags=(
        Flag(
            "condition",
            "",
            LIST,
            "What to wait for: exited (the default), next_exit, removed, created, initialized, "
            "running or paused",
            metavar="WORD",
        ),
        Flag(
            "interval",
            "i",
            TEXT,
            "Accepted because podman has it; nothing is polled here, so it changes nothing",
            metavar="TIME",
        ),
        targets.LATEST,
    ),
    most=None,
    completes="container",
)
