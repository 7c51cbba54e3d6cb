"""Read one option of its loosest permitted type into the strictest: lists, tables, words."""

from __future__ import annotations

from longshore.errors import InvalidArgument
from longshore.options.parse import parse_size, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def flag(given: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """Return True or False; other values that Python takes for true are refused."""
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise InvalidArgument(f"{name}: {value!r} is neither True nor False")
    return value


def size(given: Mapping[str, Any], name: str) -> int | None:
    """Return bytes, or None when it was not given."""
    return parse_size(given[name], name) if name in given else None


def items(given: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> list[Any]:
    """Return the elements of a list; one text alone is not taken for a list of letters."""
    value = given.get(name, ())
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise InvalidArgument(f"{name}: {value!r} is not a list", hint=f"{name}=[{value!r}]")
    if hasattr(value, "items"):
        meant = [f"{key}:{item}" for key, item in value.items()]
        raise InvalidArgument(
            f"{name}: {value!r} is a mapping; a list is meant",
            hint=f"{name}={meant!r}" if name == "volumes" else f"{name}=[…]",
        )
    found = list(value)
    for item in found:
        if not isinstance(item, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidArgument(f"{name}: {item!r} is not {expected}")
    return found


def strings(given: Mapping[str, Any], name: str) -> list[str]:
    """Return the texts of a list."""
    return [text(item, name) for item in items(given, name, (str,))]


def pairs(
    given: Mapping[str, Any], name: str, *, separator: str = "="
) -> Iterable[tuple[str, str | None]]:
    """Return (key, value) of a mapping or of texts; the value is None where a text has none."""
    value = given.get(name, ())
    if hasattr(value, "items"):
        for key, item in value.items():
            if not isinstance(item, str):
                raise InvalidArgument(f"{name}: {key!r}: {item!r} is not text", hint="use str()")
        return list(value.items())
    found: list[tuple[str, str | None]] = []
    for item in strings(given, name):
        key, mark, rest = item.partition(separator)
        found.append((key, rest if mark else None))
    return found


def table(given: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return a mapping of texts; a key without a value has the empty one."""
    found: dict[str, str] = {}
    for key, value in pairs(given, name):
        if not text(key, name):
            shown = "" if value is None else f"={value}"
            raise InvalidArgument(f"{name}: {shown!r} has no name", hint="NAME=VALUE")
        found[key] = text(value or "", f"{name} {key}")
    return found


def argv(value: Any, what: str) -> tuple[str, ...]:
    """Return the words of a command; one text is refused with the list that was meant."""
    if value is None:
        return ()
    if isinstance(value, (str, bytes)):
        shown = value if isinstance(value, str) else value.decode("utf-8", "replace")
        raise InvalidArgument(
            f"{what}: {value!r} is one text; a list of words is meant",
            hint=f"{shown.split()!r}, or ['sh', '-c', {shown!r}] for a shell's syntax",
        )
    if not hasattr(value, "__iter__"):
        raise InvalidArgument(f"{what}: {value!r} is not a list of words")
    words = tuple(text(word, what) for word in value)
    if words and not words[0]:
        raise InvalidArgument(f"{what}: the program's name is empty")
    return words


def entrypoint(value: Any) -> tuple[str, ...]:
    """Return the words of an entrypoint: a list, one program, or a JSON list in a text."""
    if not isinstance(value, str):
        return argv(value, "entrypoint")
    if value.startswith("["):
        import json

        words: Any
        try:
            words = json.loads(value)
        except ValueError:
            words = None
        if isinstance(words, list):
            return argv(words, "entrypoint")
    return argv([value], "entrypoint") if value else ()
