"""Values as Go sees and prints them, for templates. Pure.

A plain dict stands for a struct: its fields are known, and asking for another is an error. A
`GoMap` stands for a map: any key may be asked for. A `GoTime` is a time.Time. None is nil.
"""

from __future__ import annotations

import re

from longshore.cli.gotime import GoTime, Named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeGuard

_WIDEST = 10_000  # characters that a width or precision may ask for
_PLAIN_DIGITS = 6  # a float with more digits before its point is written with an exponent


class GoMap(dict[str, "Any"]):
    """A dict that is a map to a template, not a struct."""

    __slots__ = ()


class NilMap(GoMap):
    """A map that was never made: empty to a template, and null in JSON."""

    __slots__ = ()


def texts(values: Mapping[str, str]) -> GoMap:
    """Return a map of texts, nil when there are none, as Go leaves what it does not fill."""
    return GoMap(values) if values else NilMap()


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether a value is a list to Go."""
    return isinstance(value, (list, tuple))


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is a struct or a map to Go."""
    return isinstance(value, dict)


def type_name(value: Any) -> str:
    """Return what Go would call the type of a value."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, GoMap):
        return "map[string]string"
    if isinstance(value, GoTime):
        return "time.Time"
    if is_dict(value):
        return "struct"
    if is_list(value):
        return "[]string"
    return "func"


def truth(value: Any) -> bool:
    """Return whether ``if`` takes a value: everything but zero, nil and what is empty."""
    if is_dict(value) and not isinstance(value, GoMap):
        return True
    return bool(value)


def show(value: Any, *, named: bool = False) -> str:
    """Return a value as ``%v`` prints it; with ``named``, as ``%+v``."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, (str, int, GoTime)):
        return str(value)
    if isinstance(value, GoMap):
        inner = " ".join(f"{k}:{show(v, named=named)}" for k, v in sorted(value.items()))
        return f"map[{inner}]"
    if is_dict(value):
        fields = [(k, show(v, named=named)) for k, v in value.items() if not callable(v)]
        return "{" + " ".join(f"{k}:{v}" if named else v for k, v in fields) + "}"
    if is_list(value):
        return "[" + " ".join(show(v, named=named) for v in value) + "]"
    return "<func>"


def show_float(number: float) -> str:
    """Return a float as ``%v`` prints it: shortest, with an exponent only when it is large."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    mantissa, _, exponent = f"{number!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign + "0"
    point = len(whole) + int(exponent or 0)  # where the point stands, counted from the digits
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if not -4 < point <= _PLAIN_DIGITS:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        power = point - 1
        return f"{sign}{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return sign + digits.ljust(point, "0")
    return f"{sign}{digits[:point]}.{digits[point:]}"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON, with the keys of maps sorted as Go sorts them."""
    import json

    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(_sorted_maps(value), indent=indent, separators=separators, ensure_ascii=False)


def _sorted_maps(value: Any) -> Any:
    if isinstance(value, NilMap):
        return None
    if isinstance(value, GoTime):
        return value.json
    if isinstance(value, GoMap):
        return {k: _sorted_maps(v) for k, v in sorted(value.items())}
    if is_dict(value):
        return {k: _sorted_maps(v) for k, v in value.items() if not callable(v)}
    if is_list(value):
        return [_sorted_maps(v) for v in value]
    return None if callable(value) else value


def quote(text: str) -> str:
    """Return text as a Go string literal in double quotes."""
    return '"' + "".join(_quoted(c, '"') for c in text) + '"'


def _quoted(char: str, mark: str) -> str:
    known = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    known |= {"\v": "\\v", "\\": "\\\\", mark: "\\" + mark}
    if char in known:
        return known[char]
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sprint(values: Sequence[Any]) -> str:
    """Join values as Go's Sprint: a space only between two that are not strings."""
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += show(value)
    return out


_VERB = re.compile(r"%([-+# 0]*)(\*|[0-9]+)?(?:(\.)(\*|[0-9]+)?)?(.)?", re.DOTALL)


def sprintf(pattern: str, values: Sequence[Any]) -> str:
    """Format as Go's Sprintf, with Go's way of showing a verb that does not fit its value."""
    taken = 0

    def argument() -> tuple[bool, Any]:
        nonlocal taken
        taken += 1
        return (True, values[taken - 1]) if taken <= len(values) else (False, None)

    def number(text: str | None) -> tuple[int | None, bool]:
        if text is None:
            return None, True
        if text != "*":
            return (int(text), True) if len(text) < 6 and int(text) <= _WIDEST else (None, False)
        _, value = argument()
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _WIDEST
        return (value, True) if fits else (None, False)

    def one(match: re.Match[str]) -> str:
        flags, verb = match.group(1), match.group(5)
        width, good = number(match.group(2))
        prefix = "" if good else "%!(BADWIDTH)"
        precision: int | None = None
        if match.group(3):
            precision, good = number(match.group(4) or "0")
            if not good:
                prefix += "%!(BADPREC)"
            elif precision is not None and precision < 0:
                precision = None
        if verb is None:
            return prefix + "%!(NOVERB)"
        if verb == "%":
            return prefix + "%"
        present, value = argument()
        if not present:
            return f"{prefix}%!{verb}(MISSING)"
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        return prefix + _pad(_format(verb, value, flags, precision), flags, width, value, verb)

    out = _VERB.sub(one, pattern)
    if taken < len(values):
        extra = ", ".join(
            "<nil>" if v is None else f"{type_name(v)}={show(v)}" for v in values[taken:]
        )
        out += f"%!(EXTRA {extra})"
    return out


def _pad(text: str, flags: str, width: int | None, value: Any, verb: str) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and verb != "q"
    if "0" in flags and numeric:
        sign = text[:1] if text[:1] in ("+", "-", " ") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _format(verb: str, value: Any, flags: str, precision: int | None) -> str:
    if verb == "T":
        return type_name(value)
    if verb == "v":
        if isinstance(value, str) and "#" in flags:
            return quote(value)
        return _signed(show(value, named="+" in flags), value, flags.replace("+", ""))
    if is_list(value):
        return "[" + " ".join(_format(verb, v, flags, precision) for v in value) + "]"
    if isinstance(value, GoMap):
        pairs = sorted(value.items())
        inner = [
            f"{_format(verb, k, flags, precision)}:{_format(verb, v, flags, precision)}"
            for k, v in pairs
        ]
        return "map[" + " ".join(inner) + "]"
    if is_dict(value):
        shown = [_format(verb, v, flags, precision) for v in value.values() if not callable(v)]
        return "{" + " ".join(shown) + "}"
    text: str | None = None
    if isinstance(value, (GoTime, Named)) and verb in "sq":  # fmt.Stringer
        value = str(value)
    if isinstance(value, str):
        text = _format_text(verb, value, precision)
    elif isinstance(value, bool):
        text = show(value) if verb == "t" else None
    elif isinstance(value, int):
        text = _format_int(verb, value, flags)
    elif isinstance(value, float):
        text = _format_float(verb, value, precision)
    if text is None:
        inside = "<nil>" if value is None else f"{type_name(value)}={show(value)}"
        return f"%!{verb}({inside})"
    return _signed(text, value, flags) if verb not in "qcU" else text


def _signed(text: str, value: Any, flags: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or text[:1] in "+-":
        return text
    return "+" + text if "+" in flags else " " + text if " " in flags else text


def _format_text(verb: str, value: str, precision: int | None) -> str | None:
    cut = value if precision is None else value[:precision]
    if verb == "s":
        return cut
    if verb == "q":
        return quote(cut)
    if verb in "xX":
        text = cut.encode("utf-8", "surrogateescape").hex()
        return text.upper() if verb == "X" else text
    return None


def _format_int(verb: str, value: int, flags: str) -> str | None:
    if verb == "d":
        return f"{value:d}"
    if verb in "xXob":
        if "#" in flags and verb == "o":
            return f"{'-' if value < 0 else ''}0{abs(value):o}"
        return format(value, f"#{verb}" if "#" in flags else verb)
    if verb in "cqU":
        if verb == "U":
            return f"U+{value:04X}"
        char = chr(value) if 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else "\ufffd"
        return char if verb == "c" else "'" + _quoted(char, "'") + "'"
    return None


def _format_float(verb: str, value: float, precision: int | None) -> str | None:
    if verb not in "eEfFgG":
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return show_float(value)
    if verb in "gG" and precision is None:
        return show_float(value)
    return format(value, f".{6 if precision is None else precision}{verb}")
