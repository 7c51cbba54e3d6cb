"""The functions of templates: Go's own, and those that podman adds (containers/common report)."""

from __future__ import annotations

from longshore.cli.gotime import GoTime
from longshore.cli.govalues import (
    GoMap,
    is_dict,
    is_list,
    show,
    sprint,
    sprintf,
    to_json,
    truth,
    type_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_LONGEST = 10_000  # spaces that `pad` may add on one side


class FunctionError(Exception):
    """What a function cannot do; the template adds where."""


def _comparable(first: Any, second: Any) -> None:
    for value in (first, second):
        if is_list(value) or is_dict(value) or callable(value):
            raise FunctionError(f"non-comparable type {type_name(value)}")
    if first is None or second is None:
        return
    if _family(first) != _family(second):
        raise FunctionError("incompatible types for comparison")


def _family(value: Any) -> str:
    # Go keeps ints and floats apart; comparing them is let through, because nobody wants the error.
    if isinstance(value, GoTime):
        return "time"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else "string"


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise FunctionError("missing argument for comparison")
    for other in others:
        _comparable(first, other)
        if first == other and (first is None) == (other is None):
            return True
    return False


def _ne(first: Any, second: Any) -> bool:
    _comparable(first, second)
    return bool(first != second)


def _lt(first: Any, second: Any) -> bool:
    _comparable(first, second)
    if first is None or second is None or isinstance(first, bool):
        raise FunctionError("invalid type for comparison")
    return bool(first < second)


def _le(first: Any, second: Any) -> bool:
    return _lt(first, second) or _eq(first, second)


def _gt(first: Any, second: Any) -> bool:
    return not _le(first, second)


def _ge(first: Any, second: Any) -> bool:
    return not _lt(first, second)


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if is_list(value) or isinstance(value, GoMap):
        return len(value)
    if value is None:
        raise FunctionError("len of nil pointer")
    raise FunctionError(f"len of type {type_name(value)}")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FunctionError(f"cannot index slice/array with type {type_name(value)}")
    return value


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = _entry(value, key)
    return value


def _entry(value: Any, key: Any) -> Any:
    if isinstance(value, GoMap):
        if not isinstance(key, str):
            raise FunctionError(f"value has type {type_name(key)}; should be string")
        # Go gives the zero of the element type; a map of texts has "" for it.
        zero = "" if all(isinstance(v, str) for v in value.values()) else None
        return value.get(key, zero)
    members: Sequence[Any]
    if is_list(value):
        members = value
    elif isinstance(value, str):
        members = list(value.encode("utf-8", "surrogateescape"))
    elif value is None:
        raise FunctionError("index of untyped nil")
    else:
        raise FunctionError(f"can't index item of type {type_name(value)}")
    if not 0 <= _whole(key) < len(members):
        raise FunctionError(f"index out of range: {key}")
    return members[key]


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str) and not is_list(value):
        raise FunctionError(f"can't slice item of type {type_name(value)}")
    if len(bounds) > (2 if isinstance(value, str) else 3):
        raise FunctionError("too many slice indexes")
    octets: Any = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    places = [_whole(bound) for bound in bounds]
    low = places[0] if places else 0
    high = places[1] if len(places) > 1 else len(octets)
    top = places[2] if len(places) > 2 else len(octets)
    for place in (low, high, top):
        if not 0 <= place <= len(octets):
            raise FunctionError(f"index out of range: {place}")
    if not low <= high <= top:
        raise FunctionError(f"invalid slice index: {low} > {high}")
    part = octets[low:high]
    return part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else part


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FunctionError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _join(values: Any, separator: Any) -> str:
    if isinstance(values, str) and is_list(separator):
        values, separator = separator, values  # docker's order, which a pipeline gives
    if not is_list(values):
        raise FunctionError(f"wrong type for value; expected []string; got {type_name(values)}")
    return _text(separator).join(map(show, values))


def _split(value: Any, separator: Any) -> list[str]:
    text, mark = _text(value), _text(separator)
    return text.split(mark) if mark else list(text)


def _title(value: Any) -> str:
    out, before = "", " "
    for char in _text(value):
        out += char.upper() if not (before.isalnum() or before == "_") else char
        before = char
    return out


def _pad(value: Any, before: Any, after: Any) -> str:
    text = _text(value)
    if not text:
        return text
    return " " * min(_LONGEST, _whole(before)) + text + " " * min(_LONGEST, _whole(after))


def _truncate(value: Any, length: Any) -> str:
    return _text(value)[: max(0, _whole(length))]


def _println(*values: Any) -> str:
    return " ".join(map(show, values)) + "\n"


def _last(*values: Any) -> Any:
    return values[-1]  # the template stops early by itself


def _not(value: Any) -> bool:
    return not truth(value)


def _print(*values: Any) -> str:
    return sprint(values)


def _printf(pattern: Any, *values: Any) -> str:
    return sprintf(_text(pattern), values)


def _json(value: Any) -> str:
    return to_json(value)


def _lower(value: Any) -> str:
    return _text(value).lower()


def _upper(value: Any) -> str:
    return _text(value).upper()


def _trim(value: Any) -> str:
    return _text(value).strip()


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "and": _last,
    "or": _last,
    "not": _not,
    "eq": _eq,
    "ne": _ne,
    "lt": _lt,
    "le": _le,
    "gt": _gt,
    "ge": _ge,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "json": _json,
    "join": _join,
    "split": _split,
    "lower": _lower,
    "upper": _upper,
    "title": _title,
    "trim": _trim,
    "pad": _pad,
    "truncate": _truncate,
}
