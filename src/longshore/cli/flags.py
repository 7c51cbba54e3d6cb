"""Commands declared as tables of flags, and the parser that reads them.

One table gives three things: what is accepted, what ``--help`` prints and what the shell completes.
The standard parser is not used: its import alone costs more than a container's record, and its
manners (abbreviations, refused values that begin with ``-``) are not those of podman's pflag.
"""

from __future__ import annotations

from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from longshore.cli.app import App

# What a flag takes.
SWITCH = "bool"  # nothing, or =true / =false
TEXT = "string"
INT = "int"
UINT = "uint"
NUMBER = "float"
EACH = "stringArray"  # may be repeated; every value as it is
LIST = "strings"  # may be repeated; a value may hold several, with commas
MAYBE = "optional"  # a value, unless the next word is a flag
ATTACHED = "attached"  # one of its choices, only with =; alone it is the first of them

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MANY = (EACH, LIST)


class Flag:
    """One flag of a command. ``completes`` names what its value is: container, file, or words."""

    __slots__ = (
        "choices",
        "completes",
        "default",
        "help",
        "hidden",
        "kind",
        "metavar",
        "name",
        "short",
    )

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        help: str,  # noqa: A002 - the word of every flag table
        *,
        metavar: str = "",
        default: str = "",
        choices: tuple[str, ...] = (),
        completes: str = "",
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.metavar = metavar or kind
        self.default = default
        self.choices = choices
        self.completes = completes
        self.hidden = hidden

    @property
    def spelled(self) -> str:
        """The flag as a message names it: ``-n, --last``."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One command: its flags, its texts, and the function that does it.

    ``least`` and ``most`` bound the number of arguments (None: no bound). With ``trailing``, flags
    end at the first argument, because what follows is somebody else's command line.
    """

    __slots__ = (
        "about",
        "completes",
        "examples",
        "flags",
        "least",
        "most",
        "run",
        "trailing",
        "usage",
    )

    def __init__(
        self,
        run: Callable[[App, Parsed], int],
        *,
        usage: str,
        about: str = "",
        examples: tuple[str, ...] = (),
        flags: Sequence[Flag] = (),
        least: int = 0,
        most: int | None = 0,
        trailing: bool = False,
        completes: str = "",
    ) -> None:
        self.run = run
        self.usage = usage
        self.about = about
        self.examples = examples
        self.flags = flags
        self.least = least
        self.most = most
        self.trailing = trailing
        self.completes = completes

    def check_count(self, verb: str, count: int) -> None:
        """Refuse a number of arguments that the command has no use for."""
        if self.least <= count and (self.most is None or count <= self.most):
            return
        if self.most == 0:
            raise InvalidArgument(f"'{verb}' takes no arguments", hint=see(verb))
        wanted = str(self.least) if self.most == self.least else f"at least {self.least}"
        if self.most is not None and count > self.most:
            wanted = str(self.most) if self.most == self.least else f"at most {self.most}"
        noun = "argument" if wanted.endswith(" 1") or wanted == "1" else "arguments"
        raise InvalidArgument(
            f"'{verb}' takes {wanted} {noun}, not {count}",
            hint=f"usage: longshore {verb} {self.usage}",
        )


class Parsed:
    """What a command line said: flags by name, and the arguments that are left.

    ``helped`` is True when help was asked for; nothing after that was read.
    """

    __slots__ = ("_given", "_table", "args", "helped")

    def __init__(self, table: Mapping[str, Flag]) -> None:
        self._table = table
        self._given: dict[str, list[str]] = {}
        self.args: list[str] = []
        self.helped = False

    def add(self, flag: Flag, value: str) -> None:
        """Take one value of a flag; a value that the flag cannot have is refused here."""
        check(flag, value)
        if flag.kind in _MANY:
            values = [value] if flag.kind == EACH else split_commas(value)
            self._given.setdefault(flag.name, []).extend(values)
        else:
            self._given[flag.name] = [value]

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line."""
        assert name in self._table, name
        return name in self._given

    def flag_names(self) -> Collection[str]:
        """Return the names of the flags that the command has."""
        return self._table.keys()

    def on(self, name: str) -> bool:
        """Return the state of a switch; a MAYBE flag without a value is on too."""
        flag = self._table[name]
        value = self._given.get(name, [flag.default])[0]
        return value in _TRUE

    def text(self, name: str) -> str:
        """Return a flag's text, or its default."""
        values = self._given.get(name)  # an empty word given to a list is no value
        return values[0] if values else self._table[name].default

    def maybe(self, name: str) -> str | None:
        """Return a flag's text, or None when it was not given."""
        assert name in self._table, name
        return self._given[name][0] if name in self._given else None

    def integer(self, name: str) -> int | None:
        """Return a whole number, or None when there is neither a value nor a default."""
        value = self.text(name)
        return int(value) if value else None

    def number(self, name: str) -> float | None:
        """Return a number, or None when there is neither a value nor a default."""
        value = self.text(name)
        return float(value) if value else None

    def many(self, name: str) -> list[str]:
        """Return every value of a flag that may be repeated."""
        assert name in self._table, name
        return list(self._given.get(name, ()))


def see(verb: str) -> str:
    """Return the pointer to a command's help; ``verb`` is empty for the program itself."""
    return f"see 'longshore {verb} --help'" if verb else "see 'longshore --help'"


def check(flag: Flag, value: str) -> None:
    """Refuse a value that is not of the flag's kind or not one of its choices."""
    why = ""
    if flag.kind == SWITCH:
        if value not in _TRUE and value not in _FALSE:
            why = "it is true or false"
    elif flag.kind in (INT, UINT):
        digits = value[1:] if value[:1] in ("-", "+") else value
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            why = "it takes a whole number"
        elif flag.kind == UINT and value[:1] == "-":
            why = "it cannot be negative"
    elif flag.kind == NUMBER:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not 0 <= number < float("inf") or "_" in value:
            why = "it takes a number that is not negative"
    if flag.choices and value not in flag.choices:
        why = "it is one of " + ", ".join(flag.choices)
    if why:
        raise InvalidArgument(f'invalid value "{value}" for {flag.spelled}: {why}')


def split_commas(value: str) -> list[str]:
    """Split ``a,b`` at its commas; double quotes keep one together, as in a CSV line."""
    if '"' not in value:
        return value.split(",") if value else []
    import csv

    try:
        return list(*csv.reader([value], strict=True))
    except csv.Error as err:
        raise InvalidArgument(f'cannot split "{value}" at its commas: {err}') from err


def parse(
    words: Sequence[str],
    flags: Iterable[Flag],
    *,
    verb: str = "",
    trailing: bool = False,
    inherited: Iterable[Flag] = (),
    into: Parsed | None = None,
) -> Parsed:
    """Read a command line.

    Flags of ``inherited`` are accepted as well, unless the command has its own of that name; their
    values go to ``into``.
    """
    table = {flag.name: flag for flag in flags}
    shorts = {flag.short: flag for flag in table.values() if flag.short}
    outer = {flag.name: flag for flag in inherited if flag.name not in table}
    parsed = Parsed(table)
    position, count = 0, len(words)

    def take(flag: Flag, value: str | None, shown: str) -> None:
        nonlocal position
        if value is None:
            following = words[position] if position < count else None
            if flag.kind == ATTACHED:
                value = flag.choices[0]
            elif flag.kind == SWITCH or (
                flag.kind == MAYBE and (following is None or following.startswith("-"))
            ):
                value = "true"
            elif following is None:
                raise InvalidArgument(f"flag needs an argument: {shown}", hint=see(verb))
            else:
                value = following
                position += 1
        target = parsed if flag.name in table else into
        (parsed if target is None else target).add(flag, value)

    while position < count:
        word = words[position]
        position += 1
        if not word.startswith("-") or word == "-":
            parsed.args.append(word)
            if trailing:
                break
        elif word == "--":
            break
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name == "help":
                parsed.helped = True
                return parsed
            flag = table.get(name) or outer.get(name)
            if flag is None:
                raise unknown(f"--{name}", [*table.values(), *outer.values()], verb)
            take(flag, value if equals else None, f"--{name}")
        else:
            rest = word[1:]
            while rest:
                letter, rest = rest[0], rest[1:]
                flag = shorts.get(letter)
                if flag is None:
                    if letter == "h":
                        parsed.helped = True
                        return parsed
                    raise unknown(f"-{letter}", table.values(), verb, inside=word)
                if flag.kind == SWITCH and not rest.startswith("="):
                    take(flag, None, f"-{letter}")
                    continue
                take(flag, rest.removeprefix("=") if rest else None, f"-{letter} in {word}")
                rest = ""
    parsed.args.extend(words[position:])
    return parsed


def unknown(shown: str, flags: Iterable[Flag], verb: str, *, inside: str = "") -> InvalidArgument:
    """Return the error for a flag that a command does not have, with the nearest that it has."""
    from longshore.cli.help import nearest

    if inside:
        return InvalidArgument(f"unknown shorthand flag: {shown} in {inside}", hint=see(verb))
    guess = nearest(shown, [f"--{flag.name}" for flag in flags if not flag.hidden])
    return InvalidArgument(
        f"unknown flag: {shown}", hint=f"did you mean {guess}? {see(verb)}" if guess else see(verb)
    )
