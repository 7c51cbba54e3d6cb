"""Frozen keyword-only value types that cost nothing to define.

The standard library's ``dataclass`` compiles source text for every class and imports ``inspect``:
together about a millisecond a class and ten at start-up, which the command line would pay at each
call. A `Value` subclass is declared and type-checked exactly like a frozen, keyword-only
dataclass; what differs is only that its methods are inherited instead of generated.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, Self, TypeGuard, TypeVar, dataclass_transform

    _T = TypeVar("_T")
else:

    def dataclass_transform(**_: object) -> Callable[[_T], _T]:
        """Stand in for `typing.dataclass_transform`; only type checkers need the real one."""
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Value:
    """A record of named fields, compared and hashed by value, that cannot be changed.

    Subclasses declare annotated fields, with defaults where they have one (defaults must be
    immutable). `from_json` takes for a field only what its annotation says: str, int, float, bool,
    tuples of one kind, mappings of text, and what ``_nested`` says how to rebuild (other values,
    enums); with ``| None`` also null.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[frozenset[str]] = frozenset()
    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    _kinds: ClassVar[Mapping[str, str]] = {}  # a field's annotation
    _readers: ClassVar[Mapping[str, Callable[[Any], Any]]]  # made from these by the first from_json
    _unknown: ClassVar[Mapping[str, Any]] = {}  # an instance's own: keys of a newer version

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # inspect.get_annotations is the documented way, and an import of 15 ms; a class that has
        # no annotations of its own would show its parent's, which the union below ignores
        noted = getattr(cls, "__annotations__", {})
        own = {name: kind for name, kind in noted.items() if not name.startswith("_")}
        cls._kinds = {**cls._kinds, **own}
        cls._fields = tuple(cls._kinds)
        cls._required = frozenset(n for n in cls._fields if not hasattr(cls, n))

    def __init__(self, **values: object) -> None:
        fields = self._fields
        for name in values:
            if name not in fields:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
        missing = self._required.difference(values)
        if missing:
            raise TypeError(f"{type(self).__name__} needs {', '.join(sorted(missing))}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only")

    def _items(self) -> tuple[tuple[str, Any], ...]:
        return tuple((name, getattr(self, name)) for name in self._fields)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._items() == other._items()

    def __hash__(self) -> int:
        return hash((type(self).__name__, *(_hashable(value) for _, value in self._items())))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self._items())
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: object) -> Self:
        """Return a copy with some fields changed."""
        changed = type(self)(**{**dict(self._items()), **changes})
        if self._unknown:
            changed.__dict__["_unknown"] = self._unknown
        return changed

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types; fields that equal their default are left out.

        What `from_json` has met and does not know is there again.
        """
        cls = type(self)
        plain = {
            name: _plain(value)
            for name, value in self.__dict__.items()
            if name[0] != "_" and (name in cls._required or not _is_same(value, getattr(cls, name)))
        }
        return {**plain, **self._unknown}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Rebuild a value from `to_json`; ValueError says which field does not fit, and why.

        Nothing is converted but an int to a float: a value that could be rebuilt holds what its
        annotations promise. Keys that this version does not know are kept for `to_json`.
        """
        if "_readers" not in cls.__dict__:
            cls._readers = {n: _reader(kind, cls._nested.get(n)) for n, kind in cls._kinds.items()}
        readers = cls._readers
        if not is_table(data):
            raise ValueError(f"{_shown(data)} is no object")
        values: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        name = ""
        try:
            for name, value in data.items():
                if name in readers:
                    values[name] = readers[name](value)
                else:
                    unknown[name] = _shallow(value)
        except (TypeError, ValueError) as err:
            raise ValueError(f"{name if name in readers else _shown(name)}: {err}") from err
        if not cls._required <= values.keys():
            raise ValueError(f"{', '.join(sorted(cls._required - values.keys()))}: missing")
        if unknown:
            values["_unknown"] = unknown
        made = cls.__new__(cls)
        made.__dict__.update(values)
        return made


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether something parsed is a list; its elements are still to be looked at."""
    return isinstance(value, list)


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether something is a tuple, of anything."""
    return isinstance(value, tuple)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether something parsed is a JSON object or a TOML table."""
    return isinstance(value, dict)


def _is_same(value: Any, default: Any) -> bool:
    # equal values may differ in what only a newer version knows
    if value != default:
        return False
    return not isinstance(value, Value) or value.to_json() == default.to_json()


def _hashable(value: Any) -> Any:
    """Return something that hashes alike for all that compares equal; a repr does not (1, 1.0)."""
    if is_table(value):
        return frozenset((key, _hashable(v)) for key, v in value.items())
    if is_list(value) or is_tuple(value):
        return tuple(_hashable(v) for v in value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_json()
    if is_list(value) or is_tuple(value):
        return [_plain(v) for v in value]
    if is_table(value):
        return {k: _plain(v) for k, v in value.items()}
    return getattr(value, "value", value)  # an enum member stands for its value


# reading JSON: each function returns what it was given, or raises

_LEAST, _MOST = -1 << 63, (1 << 64) - 1  # what 64 bits hold, with a sign or without
_DEEPEST = 100  # JSON inside JSON; Python's own limit depends on who calls


def _reader(kind: str, nested: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return what reads a field with this annotation."""
    if kind.endswith(" | None"):
        inner = _reader(kind.removesuffix(" | None"), nested)
        return lambda value: None if value is None else inner(value)
    if kind.startswith("tuple["):
        inner = _reader(kind.removeprefix("tuple[").removesuffix(", ...]"), nested)
        return lambda value: tuple(map(inner, _list(value)))
    if nested is None:
        return _READERS[kind]
    members = getattr(nested, "__members__", None)
    if members is None:
        return nested
    by_value = {member.value: member for member in members.values()}

    def member(value: Any) -> Any:
        found = by_value.get(value)
        if found is None:
            raise ValueError(f"there is no {_shown(value)}")
        return found

    return member


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{_shown(value)} is not text")
    if not value.isprintable():
        if "\0" in value:
            raise ValueError("there is a NUL byte in it")
        # names of files may hold any other byte (os.fsdecode)
        value.encode("utf-8", "surrogateescape")
    return value


def free_text(value: Any) -> str:
    """Read words of a foreign program, which may hold anything: what cannot be printed is not kept.

    For ``_nested``, in the place of what else reads text.
    """
    if type(value) is not str:
        raise TypeError(f"{_shown(value)} is not text")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def _whole(value: Any) -> int:
    # a bool is an int too, and not meant
    if type(value) is not int or not _LEAST <= value <= _MOST:
        raise TypeError(f"{_shown(value)} is not a whole number of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) is not float:
        return float(_whole(value))
    if value - value != 0:
        raise ValueError(f"{value} is not finite")
    return value


def _flag(value: Any) -> bool:
    if value is not True and value is not False:
        raise TypeError(f"{_shown(value)} is neither true nor false")
    return value


def _list(value: Any) -> list[Any]:
    if not is_list(value):
        raise TypeError(f"{_shown(value)} is no list")
    return value


def _texts(value: Any) -> dict[str, str]:
    texts = _table(value)
    for key, text in texts.items():
        _text(key)
        _text(text)
    return texts


def _table(value: Any) -> dict[str, Any]:
    if not is_table(value):
        raise TypeError(f"{_shown(value)} is no object")
    return value


def _shallow(value: Any, room: int = _DEEPEST) -> Any:
    """Read any JSON that is not nested so deeply that printing it could fail."""
    if is_table(value) or is_list(value):
        if room == 0:
            raise ValueError("it is nested too deeply")
        for inner in value.values() if is_table(value) else value:
            _shallow(inner, room - 1)
    return value


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "bool": _flag,
    "Mapping[str, str]": _texts,
    "Mapping[str, int]": lambda value: {_text(k): _whole(v) for k, v in _table(value).items()},
    "Mapping[str, Any]": lambda value: _shallow(_table(value)),
}
