"""The hidden ``__complete``: what can stand at the end of a command line.

Prints one candidate a line with a tab and what it is; a last line ``:file`` or ``:dir`` asks the
shell for paths. It never fails: a command line that makes no sense has no candidates.
"""

from __future__ import annotations

from longshore.cli.app import GLOBALS
from longshore.cli.flags import ATTACHED, MAYBE, SWITCH
from longshore.errors import LongshoreError
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longshore.cli.app import App
    from longshore.cli.flags import Command, Flag

_LIVE = (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)
_KINDS: dict[str, tuple[Status, ...]] = {
    "container": tuple(Status),
    "running": _LIVE,
    "paused": (Status.PAUSED,),
    "startable": (Status.CREATED, Status.STOPPED, Status.EXITED),
}
_PATHS = ("file", "dir")


def answer(app: App, words: Sequence[str]) -> int:
    """Print what can stand in the place of the last word."""
    for line in candidates(app, words):
        print(line)
    return 0


def candidates(app: App, words: Sequence[str]) -> list[str]:
    """Return the lines for a command line whose last word is being typed."""
    from longshore.cli import GROUPS, VERBS, load

    if not words:
        return []
    *before, current = words
    rest, waiting = _skip(before, GLOBALS, app, trailing=True)
    if waiting is not None:
        return _values(waiting, current)
    if rest[:1] == ["help"]:
        rest = rest[1:]
    verbs = {name: entry[2] for name, entry in VERBS.items()}
    verbs |= {name: summary for name, (summary, _) in GROUPS.items()}
    entry = None
    if rest[:1] and rest[0] in GROUPS:
        group = GROUPS[rest[0]][1]
        verbs = {name: line for name, (_, _, line) in group.items()}
        rest = rest[1:]
        entry = group.get(rest[0]) if rest else None
    elif rest:
        entry = VERBS.get(rest[0])
    if not rest:
        if current.startswith("-"):
            return _flags(GLOBALS, current)
        return _matching(((name, verbs[name]) for name in sorted(verbs)), current)
    if entry is None:
        return []
    return _of_command(app, load(entry), rest[1:], current)


def _of_command(app: App, command: Command, words: Sequence[str], current: str) -> list[str]:
    args, waiting = _skip(words, (*command.flags, *GLOBALS), app, trailing=command.trailing)
    if waiting is not None:
        return _values(waiting, current)
    if current.startswith("-") and not (command.trailing and args):
        return _flags(command.flags, current)
    if command.completes == "shell":
        return _matching(((name, "") for name in ("bash", "fish", "zsh")), current)
    if command.trailing:
        return [":file"]
    if command.most is not None and len(args) >= command.most:
        return []
    if command.most == 2 and args:
        return []  # the new name of `rename`
    return _containers(app, command.completes, current, args)


def _skip(
    words: Sequence[str], flags: Iterable[Flag], app: App, *, trailing: bool
) -> tuple[list[str], Flag | None]:
    """Return the words that are no flags, and the flag that still waits for its value."""
    names: dict[str, Flag] = {}
    for flag in flags:
        names.setdefault(f"--{flag.name}", flag)
        if flag.short:
            names.setdefault(f"-{flag.short}", flag)
    args: list[str] = []
    waiting: Flag | None = None
    for position, word in enumerate(words):
        if waiting is not None:
            _remember(app, waiting, word)
            waiting = None
        elif word == "--":
            return [*args, *words[position + 1 :]], None
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            known = names.get(name)
            if known is None and not word.startswith("--"):
                known = names.get(f"-{name[-1]}")  # the last of a group
            if known is None:
                continue
            if equals:
                _remember(app, known, value)
            elif known.kind not in (SWITCH, MAYBE, ATTACHED) or (
                known.kind == MAYBE
                and not "".join(words[position + 1 : position + 2]).startswith("-")
            ):
                waiting = known
        else:
            args.append(word)
            if trailing:
                return [*args, *words[position + 1 :]], None
    return args, waiting


def _remember(app: App, flag: Flag, value: str) -> None:
    # --root and its like say whose containers are to be listed
    if flag in GLOBALS:
        try:
            app.options.add(flag, value)
        except LongshoreError:
            pass


def _flags(flags: Iterable[Flag], current: str) -> list[str]:
    shown = [flag for flag in flags if not flag.hidden]
    name, equals, value = current.partition("=")
    if equals:
        flag = next((flag for flag in shown if f"--{flag.name}" == name), None)
        lines = _values(flag, value) if flag is not None else []
        return [line if line.startswith(":") else f"{name}={line}" for line in lines]
    return _matching(((f"--{flag.name}", flag.help) for flag in shown), current)


def _values(flag: Flag, current: str) -> list[str]:
    if flag.choices:
        return _matching(((choice, "") for choice in flag.choices), current)
    if flag.completes in _PATHS:
        return [f":{flag.completes}"]
    if flag.name == "filter":
        from longshore.cli.filters import KNOWN

        return _matching(((f"{key}=", "") for key in sorted(KNOWN)), current)
    return []


def _containers(app: App, kind: str, current: str, taken: Sequence[str]) -> list[str]:
    wanted = _KINDS.get(kind)
    if wanted is None:
        return []
    try:
        found = app.engine.inspect_all()
    except LongshoreError:
        return []
    here = [one for one in found if one.status in wanted and one.config.name not in taken]
    names = ((one.config.name, one.status.value) for one in here)
    ids = ((one.id[:12], one.config.name) for one in here if current and one.id.startswith(current))
    return _matching((*names, *ids), current)


def _matching(found: Iterable[tuple[str, str]], current: str) -> list[str]:
    return [f"{word}\t{about}" for word, about in found if word.startswith(current)]
