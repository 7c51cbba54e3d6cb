"""Read objects of somebody else's JSON or YAML, key by key, with errors that name the place."""

from __future__ import annotations

import json

from longshore._value import is_list, is_table
from longshore.errors import InvalidArgument
from longshore.options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")


class Plain(str):
    """A word of a YAML file without quotes: what it is depends on what it is for."""

    __slots__ = ()


def read_json(content: bytes, path: str) -> object:
    """Return a JSON document. InvalidArgument, also for an object with the same key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} is there twice")
        return found

    try:
        return json.loads(content.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as err:
        raise InvalidArgument(f"{path} is not JSON: {err}") from None


class Fields:
    """One object. What is null is not there; what nobody has asked for is an error in `close`."""

    __slots__ = ("_data", "_known", "where")

    def __init__(self, data: object, where: str) -> None:
        """``where`` is the file, and the place in it."""
        self.where = where
        self._known: set[str] = set()
        if not is_table(data):
            raise self.error("it is not an object")
        self._data: dict[str, Any] = data

    def error(self, message: str, hint: str | None = None) -> InvalidArgument:
        """Return an error that names the place."""
        return InvalidArgument(f"{self.where}: {message}", hint=hint)

    def _take(self, name: str) -> Any:
        self._known.add(name)
        value = self._data.get(name)
        return None if isinstance(value, Plain) and value in _NULL else value

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return self._take(name) is not None

    def text(self, name: str, *, needed: bool = False) -> str:
        """Return a text, "" without one."""
        value = self._take(name)
        if value is None or value == "":
            if needed:
                raise self.error(f"{name} is missing")
            return ""
        return str(parse.text(value, f"{self.where}: {name}"))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(
            str(parse.text(value, f"{self.where}: {name}[{index}]"))
            for index, value in enumerate(self._list(name))
        )

    def variables(self, name: str) -> tuple[str, ...]:
        """Return a list of NAME=VALUE."""
        found = self.texts(name)
        for word in found:
            if word.find("=") <= 0:
                raise self.error(f"{name}: {word!r} is not NAME=VALUE")
        return found

    def whole(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number of a range, or None."""
        value = self._take(name)
        if value is None:
            return None
        return _whole(value, f"{self.where}: {name}", low, high)

    def wholes(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of whole numbers of a range."""
        return tuple(
            _whole(value, f"{self.where}: {name}[{index}]", low, high)
            for index, value in enumerate(self._list(name))
        )

    def flag(self, name: str) -> bool | None:
        """Return True, False or None."""
        value = self._take(name)
        if isinstance(value, Plain) and value in (*_TRUE, *_FALSE):
            return value in _TRUE
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{name}: {value!r} is neither true nor false")
        return value

    def table(self, name: str) -> dict[str, str]:
        """Return an object whose values are texts."""
        inner = self.object(name)
        return {} if inner is None else {key: inner.text(key) for key in inner._data}

    def object(self, name: str) -> Fields | None:
        """Return an object, or None."""
        value = self._take(name)
        return None if value is None else Fields(value, f"{self.where}: {name}")

    def objects(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        return [
            Fields(value, f"{self.where}: {name}[{index}]")
            for index, value in enumerate(self._list(name))
        ]

    def close(self) -> None:
        """Refuse keys that were not asked for: what they mean would be left out."""
        for name in self._data:
            if name not in self._known:
                raise self.error(
                    f"{name!r} is not known here", hint=parse.nearest(name, self._known)
                )

    def _list(self, name: str) -> list[Any]:
        value = self._take(name)
        if value is None:
            return []
        if not is_list(value):
            raise self.error(f"{name}: it is not a list")
        return value


def _whole(value: object, what: str, low: int, high: int) -> int:
    if isinstance(value, Plain):
        try:
            # as YAML writes them: 438, 0o666, 0x1b6, and 0666 of YAML 1.1
            octal = len(value) > 1 and value[0] == "0" and value.isdecimal()
            value = int(value, 8 if octal else 0)
        except ValueError:
            pass
    if isinstance(value, str):
        raise InvalidArgument(f"{what}: {value!r} is not a whole number")
    return parse.integer(value, what, low, high)
