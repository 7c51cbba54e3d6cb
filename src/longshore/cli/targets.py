"""Which containers a command is about, and doing one thing to each of them.

A failure with one container never keeps the others from their turn: each error is printed, and the
first one's exit code is the command's.
"""

from __future__ import annotations

import sys

from longshore.cli.flags import EACH, LIST, SWITCH, Flag
from longshore.errors import InvalidArgument, LongshoreError, NoSuchContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.engine.inspection import Inspection
    from longshore.lifecycle import Status

_WORKERS = 16  # containers stopped side by side; each waits, none of them computes

LATEST = Flag("latest", "l", SWITCH, "Take the container that was made last")
CIDFILE = Flag(
    "cidfile",
    "",
    EACH,
    "Take the container whose id is in this file",
    metavar="FILE",
    completes="file",
)
IGNORE = Flag("ignore", "i", SWITCH, "A container that does not exist is no error")
FILTER = Flag("filter", "f", LIST, "Take the containers that match", metavar="KEY=VALUE")


def all_flag(which: str, short: str = "a") -> Flag:
    """Return the ``--all`` of a command; ``which`` says what all are."""
    return Flag("all", short, SWITCH, f"Take {which}")


def newest(found: Sequence[Inspection]) -> Inspection:
    """Return the container that was made last."""
    if not found:
        raise NoSuchContainer("there is no container")
    return max(found, key=lambda one: one.created_ns)


def select(app: App, parsed: Parsed, every: Collection[Status] | None = None) -> list[str]:
    """Return what to work on, as names or ids in the order given.

    ``every`` are the statuses that ``--all`` means; None is any.
    """
    table = parsed.flag_names()
    wants_all = "all" in table and parsed.on("all")
    wants_latest = "latest" in table and parsed.on("latest")
    filters = parsed.many("filter") if "filter" in table else []
    files = parsed.many("cidfile") if "cidfile" in table else []
    named = [*parsed.args, *(_id_in(path, parsed) for path in files)]
    chosen = [
        shown
        for shown, asked in (("--all", wants_all), ("--latest", wants_latest), ("names", named))
        if asked
    ]
    if len(chosen) > 1:
        raise InvalidArgument(f"{chosen[0]} and {chosen[1]} cannot be used together")
    if named and not filters:
        return [name for name in named if name]
    if not chosen and not filters:
        raise InvalidArgument("you must give at least one name or id")
    found = app.engine.inspect_all()
    if wants_latest:
        found = [newest(found)]
    elif named:
        found = [one for one in found if any(_means(name, one) for name in named)]
    elif every is not None:
        found = [one for one in found if one.status in every]
    if filters:
        from longshore.cli.filters import matcher

        matches = matcher(filters, app.engine)
        found = [one for one in found if matches(one)]
    return [one.id for one in found]


def _means(name: str, one: Inspection) -> bool:
    return name == one.config.name or one.id.startswith(name)


def _id_in(path: str, parsed: Parsed) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(256).split("\n", 1)[0].strip()
    except OSError as err:
        if isinstance(err, FileNotFoundError) and _ignores(parsed):
            return ""
        raise InvalidArgument(f"cannot read the cidfile {path}: {err.strerror}") from err


def _ignores(parsed: Parsed) -> bool:
    known = parsed.flag_names()
    if "ignore" not in known:
        return False
    return parsed.on("ignore") or ("force" in known and parsed.on("force"))  # podman-rm(1)


def each(
    app: App,
    parsed: Parsed,
    refs: Sequence[str],
    action: Callable[[Container], None],
    *,
    code_of: Callable[[LongshoreError], int] | None = None,
    together: bool = False,
    shown: bool = True,
) -> int:
    """Do ``action`` to every container and print the name of each that went well.

    ``together`` does several at a time, for actions that wait; what is printed keeps its order.
    """
    forgiving = _ignores(parsed) or ("all" in parsed.flag_names() and parsed.on("all"))
    engine = app.engine  # made here, before there are threads

    def attempt(ref: str) -> LongshoreError | None:
        try:
            action(engine.get(ref))
        except LongshoreError as err:
            return err
        return None

    first = 0
    if together and len(refs) > 1:
        outcomes = _side_by_side(attempt, refs)
    else:
        outcomes = map(attempt, refs)
    for ref, error in zip(refs, outcomes, strict=True):
        if error is None:
            if shown:
                print(ref)
                sys.stdout.flush()
        elif not (forgiving and isinstance(error, NoSuchContainer)):
            app.report(error)
            first = first or (code_of(error) if code_of else error.exit_code)
    return first


def _side_by_side(
    attempt: Callable[[str], LongshoreError | None], refs: Sequence[str]
) -> map[LongshoreError | None]:
    import threading

    done = [threading.Event() for _ in refs]
    outcomes: list[LongshoreError | BaseException | None] = [None] * len(refs)
    waiting = iter(range(len(refs)))
    turn = threading.Lock()

    def work() -> None:
        while True:
            with turn:
                index = next(waiting, None)
            if index is None:
                return
            try:
                outcomes[index] = attempt(refs[index])
            except BaseException as err:
                outcomes[index] = err
            done[index].set()

    def outcome(index: int) -> LongshoreError | None:
        done[index].wait()
        found = outcomes[index]
        if found is None or isinstance(found, LongshoreError):
            return found
        raise found

    for _ in range(min(_WORKERS, len(refs))):
        threading.Thread(target=work, daemon=True).start()
    return map(outcome, range(len(refs)))


def warn_of_logout(container: Container) -> None:
    """Say so when a container that was left running will not outlive its user's login."""
    from longshore import _log
    from longshore.engine.rootless import ended_by_logout

    machinery = container._machinery
    words = ended_by_logout(machinery, machinery.store.peek(container.id))
    if words:
        _log.warn(words)
