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
    immutable). ``_nested`` names the fields that hold other values or enums, so that
    `from_json` can rebuild them; a tuple of them is rebuilt element by element.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[frozenset[str]] = frozenset()
    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # inspect.get_annotations is the documented way, and an import of 15 ms; a class that has
        # no annotations of its own would show its parent's, which the union below ignores
        own = [n for n in getattr(cls, "__annotations__", {}) if not n.startswith("_")]
        cls._fields = tuple(dict.fromkeys((*cls._fields, *own)))
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
        return type(self)(**{**dict(self._items()), **changes})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types; fields that equal their default are left out."""
        cls = type(self)
        return {
            name: _plain(value)
            for name, value in self.__dict__.items()
            if name in cls._required or value != getattr(cls, name)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a value from `to_json`. Keys this version does not know are left out."""
        nested = cls._nested
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in cls._fields:
                continue
            make = nested.get(name)
            if is_list(value):
                value = tuple(make(v) for v in value) if make else tuple(value)
            elif make is not None and value is not None:
                value = make(value)
            values[name] = value
        return cls(**values)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether something parsed is a list; its elements are still to be looked at."""
    return isinstance(value, list)


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether something is a tuple, of anything."""
    return isinstance(value, tuple)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether something parsed is a JSON object or a TOML table."""
    return isinstance(value, dict)


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
