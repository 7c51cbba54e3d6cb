"""The texts of ``--help``, made from the tables of commands and flags, and nearest matches."""

from __future__ import annotations

from longshore.cli.flags import ATTACHED, INT, SWITCH, UINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from longshore.cli.flags import Command, Flag


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that this one is a slip of, or begins, or nothing when there is none.

    One slip for each three letters: two words that have as many in common by chance are no help.
    """
    bare = word.lstrip("-")
    found: list[tuple[int, int, str]] = []
    for index, one in enumerate(known):
        name = one.lstrip("-")
        most = min(max(1, len(bare) // 3), len(bare) - 1)
        slips = _slips(bare, name) if abs(len(bare) - len(name)) <= most else most + 1
        if slips <= most:
            found.append((slips, index, one))
        elif len(bare) > 1 and name.startswith(bare):
            found.append((len(name), index, one))
    return min(found)[2] if found else ""


def _slips(one: str, other: str) -> int:
    """Count the letters to add, drop, change or swap with the next that make one word another."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        earlier, before, row = before, row, [i]
        for j, wanted in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]


def command_help(verb: str, summary: str, command: Command) -> str:
    """Return the help of one command."""
    parts = [summary, ""]
    if command.about:
        parts += ["Description:", *_indented(command.about), ""]
    parts += ["Usage:", f"  longshore {verb} {command.usage}", ""]
    if command.examples:
        parts += ["Examples:", *(f"  longshore {line}" for line in command.examples), ""]
    shown = [flag for flag in command.flags if not flag.hidden]
    if shown:
        parts += ["Options:", *_options(shown), ""]
    return "\n".join(parts)


def group_help(
    usage: str, summary: str, verbs: Mapping[str, str], flags: Sequence[Flag] = ()
) -> str:
    """Return the help of the program, or of a group of commands: what can come next."""
    width = max(map(len, verbs))
    rows = [f"  {name:<{width}}  {text}" for name, text in sorted(verbs.items())]
    parts = [summary, "", "Usage:", f"  {usage}", "", "Available Commands:", *rows, ""]
    shown = [flag for flag in flags if not flag.hidden]
    if shown:
        parts += ["Options:", *_options(shown), ""]
    return "\n".join(parts)


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.strip().split("\n")]


def _options(flags: Sequence[Flag]) -> list[str]:
    left: list[tuple[str, str]] = []
    for flag in sorted(flags, key=lambda f: f.name):
        short = f"-{flag.short}, " if flag.short else "    "
        metavar = "" if flag.kind == SWITCH else f" {flag.metavar}"
        if flag.kind == ATTACHED:
            metavar = f"[={flag.metavar}]"
        text = flag.help
        if flag.choices:
            text += f" ({', '.join(flag.choices)})"
        if flag.default and flag.default != "false":
            plain = flag.kind in (SWITCH, INT, UINT)
            text += f" (default {flag.default})" if plain else f' (default "{flag.default}")'
        left.append((f"  {short}--{flag.name}{metavar}", text))
    width = max(len(head) for head, _ in left)
    return [f"{head:<{width}}   {text}".rstrip() for head, text in left]
