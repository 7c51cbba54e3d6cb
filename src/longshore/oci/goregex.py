"""Go's regular expressions (RE2's syntax, pkg.go.dev/regexp/syntax) as Python's, or a refusal.

Hook files are written for engines in Go. Most of the syntax is common; what the two read
differently is translated where that is exact, and refused where it is not.

Translated: ``$`` (Go: the very end; Python: also before a last newline), ``\\s`` (Go's has no
``\\v``), ``\\d \\w \\b`` (Go: ASCII), ``\\z``, ``{`` that counts nothing, POSIX classes such as
``[[:alpha:]]``, and what Python may once take for operations on sets in a class.

Refused: what Go does not have (look-around, back-references, possessive quantifiers), and what
Python does not (``\\p{Greek}``, ``\\Q…\\E``, flags other than ``i``, ``m`` and ``s`` or not at the
beginning, ``i`` with letters that are not ASCII). What Go finds in linear time can take Python very
long, as with ``(a+)+$``: whoever may write a hook file is trusted.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_COUNT = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}", re.ASCII)
_FLAGS = re.compile(r"\(\?([ims]+)\)")
_GROUP = re.compile(r"\((?:\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>)?", re.ASCII)
_HEX = re.compile(r"\\x[0-9A-Fa-f]{2}")
_POSIX_CLASS = re.compile(r"\[:(\^?)([a-z]*):\]")
_MOST = 1000  # repetitions; Go refuses more

_SPACE = r"\t\n\f\r "
# \B of Python finds nothing in an empty text (3.14 does)
_ESCAPES = {r"\s": f"[{_SPACE}]", r"\S": f"[^{_SPACE}]", r"\z": r"\Z", r"\B": r"(?!\b)"}
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


def compile_go(pattern: str) -> re.Pattern[str]:
    """Return the pattern whose ``search`` finds a match exactly where Go's ``MatchString`` does.

    ValueError says what Go would refuse too, or what cannot be said in Python.
    """
    flags = re.ASCII
    rest = pattern
    if match := _FLAGS.match(pattern):
        for letter in match[1]:
            flags |= {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}[letter]
        rest = pattern[match.end() :]
    if flags & re.IGNORECASE and not pattern.isascii():
        raise ValueError("the flag i with letters that are not ASCII: Python would not find all")
    try:
        return re.compile("".join(_pieces(rest, multiline=bool(flags & re.MULTILINE))), flags)
    except (re.error, OverflowError, RecursionError) as err:
        raise ValueError(f"{err}") from None


def _pieces(text: str, *, multiline: bool) -> Iterator[str]:
    """Yield a pattern's parts in Python's words, one by one."""
    at = 0
    counted = False  # a quantifier was the last thing
    while at < len(text):
        char = text[at]
        count = _COUNT.match(text, at) if char == "{" else None
        if count is not None or char in "*+?":
            piece = count[0] if count is not None else char
            at += len(piece)
            if counted:
                raise ValueError(f"{piece} after another quantifier")
            if count is not None:
                least = int(count[1])
                most = int(count[2]) if count[2] else least
                if max(least, most) > _MOST:
                    raise ValueError(f"{piece}: more than {_MOST} repetitions")
            if text[at : at + 1] == "?":
                piece += "?"
                at += 1
            counted = True
            yield piece
            continue
        counted = False
        if char == "\\":
            piece, at = _escape(text, at)
            yield _ESCAPES.get(piece, piece)
        elif char == "[":
            piece, at = _set(text, at)
            yield piece
        elif char == "(":
            group = _GROUP.match(text, at)
            assert group is not None
            at = group.end()
            if group[0] == "(" and text[at : at + 1] == "?":
                raise ValueError(f"{text[at - 1 : at + 3]}…: of (?…) only (?: and (?P<name>")
            yield group[0]
        else:
            at += 1
            yield {"$": "$" if multiline else r"\Z", "{": r"\{"}.get(char, char)


def _escape(text: str, at: int) -> tuple[str, int]:
    """Return an escape that both read alike, and where it ends."""
    follower = text[at + 1 : at + 2]
    if match := _HEX.match(text, at):
        return match[0], match.end()
    if follower and (follower in "AbBdDsSwWzafnrtv" or _is_mark(follower)):
        return text[at : at + 2], at + 2
    raise ValueError(f"\\{follower}: not an escape that both Go and Python have")


def _is_mark(char: str) -> bool:
    return char.isascii() and char.isprintable() and not char.isalnum()


def _set(text: str, start: int) -> tuple[str, int]:
    """Return a character class, and where it ends."""
    at = start + 1
    parts = ["["]
    if text[at : at + 1] == "^":
        parts.append("^")
        at += 1
    first = at
    while at < len(text):
        char = text[at]
        if char == "]" and at > first:
            return "".join([*parts, "]"]), at + 1
        if match := _POSIX_CLASS.match(text, at):
            if match[1] or match[2] not in _POSIX:
                raise ValueError(f"{match[0]}: not a class that can be said in Python")
            parts.append(_POSIX[match[2]])
            at = match.end()
        elif char == "\\":
            piece, at = _escape(text, at)
            if piece in (r"\b", r"\B", r"\A", r"\z", r"\S"):
                raise ValueError(f"{piece} in a class")
            parts.append(_SPACE if piece == r"\s" else piece)
        elif text.startswith("--", at):
            raise ValueError("-- in a class")
        else:
            # Python warns of these: they may become operations on sets
            parts.append(f"\\{char}" if char in "[&~|]" else char)
            at += 1
    raise ValueError("[ without ]")
