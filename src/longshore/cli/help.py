"""The texts of ``--help``, made from the tables of commands and flags, and nearest matches."""

from __future__ import annotations

from longshore.cli.flags import ATTACHED, INT, SWITCH, UINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from longshore.cli.flags import Command, Flag


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like this one, or nothing when none is."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


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
