"""``container prune`` and ``system prune``: remove what is not in use."""

from __future__ import annotations

import sys

from longshore.cli.flags import EACH, SWITCH, Command, Flag
from longshore.errors import HasDependents, LongshoreError
from longshore.lifecycle import Op, permitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def _container(app: App, parsed: Parsed) -> int:
    if not _agreed(parsed, "This will remove every container that does not run."):
        return 0
    return _prune(app, parsed)


def _system(app: App, parsed: Parsed) -> int:
    if not _agreed(parsed, "This will remove:\n  - every container that does not run\n"):
        return 0
    return _prune(app, parsed, heading="Deleted Containers")


def _agreed(parsed: Parsed, warning: str) -> bool:
    if parsed.on("force"):
        return True
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def _prune(app: App, parsed: Parsed, heading: str = "") -> int:
    filters = parsed.many("filter")
    if filters:
        removed, code = _matching(app, filters)
    else:
        removed, code = app.engine.prune(), 0
    if heading and removed:
        print(heading)
    for ident in removed:
        print(ident)
    return code


def _matching(app: App, filters: list[str]) -> tuple[list[str], int]:
    from longshore.cli.filters import matcher

    matches = matcher(filters, app.engine)
    removed: list[str] = []
    code = 0
    for one in app.engine.inspect_all():
        if one.status in permitted(Op.REMOVE) and matches(one):
            try:
                app.engine.get(one.id).remove(missing_ok=True)
            except HasDependents:
                continue  # it is in use
            except LongshoreError as err:
                app.report(err)
                code = code or err.exit_code
            else:
                removed.append(one.id)
    return removed, code


_FLAGS = (
    Flag("filter", "", EACH, "Take the containers that match", metavar="KEY=VALUE"),
    Flag("force", "f", SWITCH, "Do not ask"),
)
CONTAINER = Command(
    _container,
    usage="[options]",
    about="Removes every container that does not run, and prints their ids.",
    examples=("container prune --force --filter until=24h",),
    flags=_FLAGS,
)
SYSTEM = Command(
    _system,
    usage="[options]",
    about="Removes what is not in use: at present, every container that does not run.",
    examples=("system prune --force",),
    flags=(
        *_FLAGS,
        Flag("all", "a", SWITCH, "Accepted because podman has it; there are no images yet"),
        Flag("volumes", "", SWITCH, "Accepted because podman has it; there are no volumes yet"),
    ),
)
