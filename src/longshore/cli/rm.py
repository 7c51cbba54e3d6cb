"""``longshore rm``: remove containers."""

from __future__ import annotations

from longshore.cli import targets
from longshore.cli.flags import LIST, NUMBER, SWITCH, Command, Flag
from longshore.errors import LongshoreError, NoSuchContainer, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


_MISSING, _RUNNING = 1, 2  # podman-rm(1)


def run(app: App, parsed: Parsed) -> int:
    """Remove containers."""
    force, timeout, depend = parsed.on("force"), parsed.number("time"), parsed.on("depend")
    code = 0
    for refs in _waves(app, targets.select(app, parsed)):
        failed = targets.each(
            app,
            parsed,
            refs,
            lambda box: box.remove(force=force, timeout=timeout, depend=depend),
            code_of=_code_of,
            together=force,
        )
        code = code or failed
    return code


def _waves(app: App, refs: list[str]) -> list[list[str]]:
    """Return containers in groups of which each one's are needed by none of the later ones."""
    if len(refs) < 2:
        return [refs]
    needs: dict[str, set[str]] = {}
    ids: dict[str, str] = {}
    for ref in refs:
        try:
            one = app.engine.get(ref).inspect()
        except LongshoreError:
            continue  # its removal tells
        ids[ref] = one.id
        needs[one.id] = set(one.config.joined.values())
    waves: list[list[str]] = []
    while refs:
        needed = {other for ref in refs for other in needs.get(ids.get(ref, ""), ())}
        wave = [ref for ref in refs if ids.get(ref) not in needed]
        waves.append(wave)
        refs = [ref for ref in refs if ref not in wave]
    return waves


def _code_of(error: LongshoreError) -> int:
    if isinstance(error, NoSuchContainer):
        return _MISSING
    return _RUNNING if isinstance(error, WrongState) else error.exit_code


COMMAND = Command(
    run,
    usage="[options] CONTAINER [CONTAINER...]",
    about="""
Removes containers that do not run, with --force also those that do. The exit code is 1 when a
container does not exist, 2 when one runs and --force was not given. With --force it is no error
that one does not exist. One whose namespaces others use is removed after them: name them too, or
use --depend.""",
    examples=("rm box", "rm -f box web", "rm --all"),
    flags=(
        targets.all_flag("every container"),
        targets.CIDFILE,
        Flag("depend", "", SWITCH, "Remove the containers that depend on it, too"),
        Flag("filter", "", LIST, targets.FILTER.help, metavar=targets.FILTER.metavar),
        Flag("force", "f", SWITCH, "Remove also what runs or is damaged"),
        targets.IGNORE,
        targets.LATEST,
        Flag("time", "t", NUMBER, "With --force, seconds of grace before it is killed"),
        Flag("volumes", "v", SWITCH, "Accepted because podman has it; there are no volumes yet"),
    ),
    most=None,
    completes="container",
)
