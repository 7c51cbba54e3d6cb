"""Unit files as systemd.syntax(7) has them, and command lines in them (systemd.service(5))."""

from __future__ import annotations

from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
_NUMBERS = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
_BLANK = " \t\n\r"
_TRUE = frozenset({"1", "yes", "true", "on", "y", "t"})
_FALSE = frozenset({"0", "no", "false", "off", "n", "f"})


class UnitFile:
    """The sections of a unit in their order; a key may be there any number of times."""

    __slots__ = ("sections",)

    def __init__(self) -> None:
        self.sections: dict[str, list[tuple[str, str]]] = {}

    def merge(self, other: UnitFile) -> None:
        """Add what a drop-in says: later lines are stronger, or add to a list."""
        for section, lines in other.sections.items():
            self.sections.setdefault(section, []).extend(lines)

    def add(self, section: str, key: str, value: str) -> None:
        """Add a line."""
        self.sections.setdefault(section, []).append((key, value))

    def has(self, section: str, key: str) -> bool:
        """Whether a key is there at all."""
        return any(name == key for name, _ in self.sections.get(section, ()))

    def last(self, section: str, key: str, default: str = "") -> str:
        """Return the value that counts of a key that has one."""
        found = default
        for name, value in self.sections.get(section, ()):
            if name == key:
                found = value
        return found

    def all(self, section: str, key: str) -> list[str]:
        """Return every value of a key that is a list; an empty one clears those before it."""
        found: list[str] = []
        for name, value in self.sections.get(section, ()):
            if name == key:
                found = [*found, value] if value else []
        return found

    def text(self) -> str:
        """Return the file."""
        parts: list[str] = []
        for section, lines in self.sections.items():
            parts.append(f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in lines))
        return "\n".join(parts)


def parse(text: str, name: str) -> UnitFile:
    """Read a unit file; InvalidArgument names the line that is none."""
    unit = UnitFile()
    section = ""
    for number, line in _lines(text):
        if line.startswith("["):
            if not line.endswith("]") or len(line) < 3:
                raise InvalidArgument(f"{name}, line {number}: {line!r} is not a section's name")
            section = line[1:-1]
            unit.sections.setdefault(section, [])
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise InvalidArgument(f"{name}, line {number}: {line!r} is not KEY=VALUE")
        if not section:
            raise InvalidArgument(f"{name}, line {number}: {line!r} is in no section")
        unit.add(section, key.strip(), value.strip())
    return unit


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that say something, those that go on behind a backslash as one."""
    joined, first = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not joined):
            continue
        if line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2:
            joined, first = f"{joined}{line[:-1]} ", first or number
            continue
        whole = (joined + line).strip()
        if whole:
            yield first or number, whole
        joined, first = "", 0
    if joined.strip():
        yield first, joined.strip()


def boolean(value: str, what: str) -> bool:
    """Return a truth as systemd writes it."""
    word = value.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidArgument(f"{what}={value}: it is neither yes nor no")


def words(value: str, what: str) -> list[str]:
    """Split a line into words: quotes keep one together, C escapes are read. % and $ stay."""
    found: list[str] = []
    at, end = 0, len(value)
    while at < end:
        if value[at] in _BLANK:
            at += 1
            continue
        word, quote = "", ""
        while at < end:
            char = value[at]
            at += 1
            if char == "\\" and at < end:
                char, at = _escaped(value, at, what)
                word += char
            elif quote:
                if char == quote:
                    quote = ""
                else:
                    word += char
            elif char in "\"'":
                quote = char
            elif char in _BLANK:
                break
            else:
                word += char
        if quote:
            raise InvalidArgument(f"{what}={value}: a {quote} is not closed")
        found.append(word)
    return found


def _escaped(value: str, at: int, what: str) -> tuple[str, int]:
    letter = value[at]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 1
    size, base = _NUMBERS.get(letter, (3, 8))
    start = at + 1 if letter in _NUMBERS else at
    digits = value[start : start + size]
    try:
        number = int(digits, base) if len(digits) == size else -1
        if 0 < number < 0x110000:
            return chr(number), start + size
    except ValueError:
        pass
    if letter in _NUMBERS or letter.isdigit():
        raise InvalidArgument(f"{what}={value}: \\{letter}{digits} is not a character")
    return f"\\{letter}", at + 1  # as systemd leaves what it does not know


def quoted(word: str, *, literal: bool = False) -> str:
    """Write one word of a command line. ``literal``: its % and $ mean nothing to systemd."""
    if literal:
        word = word.replace("%", "%%").replace("$", "$$")
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    if plain != word or not word or any(c in " ';" for c in word):
        return f'"{plain}"'
    return word


def command(argv: Iterable[str], *, literal: bool = False) -> str:
    """Write a command line for ExecStart= and its like."""
    return " ".join(quoted(word, literal=literal) for word in argv)


def folded(groups: Sequence[Sequence[str]]) -> str:
    """Write a command line over several lines, a group of words each; all of it is literal."""
    return " \\\n\t".join(command(group, literal=True) for group in groups)
