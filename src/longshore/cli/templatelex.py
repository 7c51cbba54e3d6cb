"""The words of a template: text, and the tokens of its actions. Pure."""

from __future__ import annotations

import re

from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    Token = tuple[str, str, int]  # kind, word, where it begins

__all__ = ["Source", "TemplateError"]

_OPEN = re.compile(r"([ \t\r\n]*)\{\{(-[ \t\r\n]+)|\{\{")
_CLOSE = re.compile(r"(?:[ \t\r\n]+(-))?\}\}")
_COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.[^'\n]*)')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
        (?![\w.]))
    |(?P<field>\.[^\W\d]\w*)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<mark>:=|[=|(),.])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))",
    re.DOTALL,
)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class TemplateError(InvalidArgument):
    """A template that cannot be read, or that asks for what is not there."""


class Source:
    """The text of a template, cut into tokens.

    Text between actions is one token of kind ``text``; an action is its tokens and an ``end``.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def fail(self, why: str, offset: int, hint: str | None = None) -> NoReturn:
        """Raise `TemplateError` with the line and column of an offset."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        raise TemplateError(f"template {line}:{column}: {why}", hint=hint)

    def tokens(self) -> list[Token]:
        """Return every token."""
        tokens: list[Token] = []
        text, here, trim = self.text, 0, False
        while True:
            found = _OPEN.search(text, here)
            if found is None:
                piece = text[here:]
            else:
                trims = found.group(2) is not None
                piece = text[here : found.start() if trims else found.end() - 2]
            if trim:
                piece = piece.lstrip(" \t\r\n")
            if piece:
                tokens.append(("text", piece, here))
            if found is None:
                return tokens
            here, trim = self._action(found.end(), tokens)

    def _action(self, here: int, tokens: list[Token]) -> tuple[int, bool]:
        text, start = self.text, here
        comment = _COMMENT.match(text, here)
        if comment:
            close = _CLOSE.match(text, comment.end())
            if close is None:
                self.fail("a comment must end its action", here)
            return close.end(), close.group(1) is not None
        while True:
            close = _CLOSE.match(text, here)
            if close:
                tokens.append(("end", "", here))
                return close.end(), close.group(1) is not None
            token = _TOKEN.match(text, here)
            if token is None:
                if here >= len(text):
                    self.fail("unclosed action", start - 2)
                self.fail(f"unexpected {text[here]!r}", here)
            tokens.append((token.lastgroup or "", token.group(), here))
            here = token.end()

    def literal(self, kind: str, word: str, offset: int) -> str | int | float:
        """Return what a literal stands for."""
        if kind == "raw":
            return word[1:-1]
        if kind == "number":
            return self._number(word, offset)
        text = _ESCAPE.sub(lambda match: self._escape(match, offset), word[1:-1])
        if kind == "string":
            return text
        if len(text) != 1:
            self.fail("a character constant holds one character", offset)
        return ord(text)

    def _escape(self, match: re.Match[str], offset: int) -> str:
        simple, byte, short, long, octal, wrong = match.groups()
        if simple:
            return _PLAIN_ESCAPES.get(simple, simple)
        if wrong is not None:
            self.fail("unknown escape in a string", offset)
        code = int(octal, 8) if octal else int(byte or short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000 or (octal and code > 0xFF):
            self.fail("an escape that is not a character", offset)
        if (byte or octal) and code >= 0x80:
            return chr(0xDC00 + code)  # a byte; it is written out as one
        return chr(code)

    def _number(self, word: str, offset: int) -> int | float:
        bare = word.lstrip("+-").lower()
        if len(bare) > 300:
            self.fail("a number with too many digits", offset)
        number: int | float
        if bare.startswith("0x"):
            number = int(bare, 16)
        elif bare.isdigit():
            octal = bare.startswith("0") and len(bare) > 1
            if octal and not re.fullmatch("[0-7]+", bare):
                self.fail(f"bad number {word}", offset)
            number = int(bare, 8 if octal else 10)
        else:
            number = float(bare)
        if number == float("inf") or (isinstance(number, int) and number >= 2**63):
            self.fail(f"{word} overflows", offset)
        return -number if word.startswith("-") else number
