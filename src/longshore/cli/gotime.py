"""A moment as Go's time.Time, for templates: how it prints, its methods and its layouts. Pure."""

from __future__ import annotations

import re
import time

from longshore.cli.table import go_time, rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

_ZERO = time.struct_time((1, 1, 1, 0, 0, 0, 0, 1, 0))  # Go's zero time: a Monday, in UTC
_ZERO_SECONDS = -62135596800
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# What Go takes for a part of the moment that is "Mon Jan 2 15:04:05 MST 2006" (time, Layout). The
# longer of two that begin alike comes first.
_PART = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|_2(?!006)|__2|002|0[1-6]|15|PM|pm"
    r"|[-Z]07:00:00|[-Z]070000|[-Z]07:00|[-Z]0700|[-Z]07|[.,](?:0+|9+)(?![0-9])|[12345]"
)


class Named(int):
    """A number that prints as a word: a month, a day of the week."""

    word: str

    def __new__(cls, number: int, word: str) -> Self:
        """``word`` is what it prints as."""
        made = super().__new__(cls, number)
        made.word = word
        return made

    def __str__(self) -> str:
        return self.word


class GoTime:
    """A moment in nanoseconds since the epoch; None is Go's zero time.

    It prints as Go prints one, in the local zone, and is RFC 3339 in JSON.
    """

    __slots__ = ("_utc", "ns")

    def __init__(self, ns: int | None, *, utc: bool = False) -> None:
        self.ns = ns
        self._utc = utc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GoTime) and other.ns == self.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __str__(self) -> str:
        if self._utc:
            return self._format("2006-01-02 15:04:05.999999999 -0700 MST")
        return go_time(self.ns)

    @property
    def json(self) -> str:
        """The moment as JSON has it."""
        return (
            self._format("2006-01-02T15:04:05.999999999Z07:00") if self._utc else rfc3339(self.ns)
        )

    def method(self, name: str) -> Callable[..., Any] | None:
        """Return one of Go's methods of a time, or None."""
        methods: dict[str, Callable[..., Any]] = {
            "Day": lambda: self._moment.tm_mday,
            "After": self._after,
            "Before": self._before,
            "Equal": self._equal,
            "Format": self._format,
            "Hour": lambda: self._moment.tm_hour,
            "IsZero": lambda: self.ns is None,
            "Local": lambda: GoTime(self.ns),
            "Minute": lambda: self._moment.tm_min,
            "Month": lambda: Named(self._moment.tm_mon, _MONTHS[self._moment.tm_mon - 1]),
            "Nanosecond": lambda: self._fraction,
            "Second": lambda: self._moment.tm_sec,
            "String": lambda: str(self),
            "UTC": lambda: GoTime(self.ns, utc=True),
            "Unix": lambda: self._since_epoch // 10**9,
            "UnixMicro": lambda: self._since_epoch // 10**3,
            "UnixMilli": lambda: self._since_epoch // 10**6,
            "UnixNano": lambda: self._since_epoch,
            "Weekday": lambda: Named((self._moment.tm_wday + 1) % 7, _DAYS[self._moment.tm_wday]),
            "Year": lambda: self._moment.tm_year,
            "YearDay": lambda: self._moment.tm_yday,
        }
        return methods.get(name)

    @property
    def _moment(self) -> time.struct_time:
        if self.ns is None:
            return _ZERO
        return (time.gmtime if self._utc else time.localtime)(self.ns // 10**9)

    @property
    def _fraction(self) -> int:
        return 0 if self.ns is None else self.ns % 10**9

    @property
    def _since_epoch(self) -> int:
        return _ZERO_SECONDS * 10**9 if self.ns is None else self.ns

    def _after(self, other: GoTime) -> bool:
        return self._since_epoch > other._since_epoch

    def _before(self, other: GoTime) -> bool:
        return self._since_epoch < other._since_epoch

    def _equal(self, other: GoTime) -> bool:
        return self._since_epoch == other._since_epoch

    def _format(self, layout: str) -> str:
        moment, fraction = self._moment, f"{self._fraction:09d}"
        local = self.ns is not None and not self._utc
        return _PART.sub(lambda part: _shown(part[0], moment, fraction, local=local), layout)


def _shown(part: str, moment: time.struct_time, fraction: str, *, local: bool) -> str:
    if part[0] in ".,":
        digits = fraction[: len(part) - 1].ljust(len(part) - 1, "0")
        if part[1] == "9":
            digits = digits.rstrip("0")
        return part[0] + digits if digits else ""
    if part[0] in "-Z":
        return _offset(part, moment.tm_gmtoff if local else 0)
    hour = moment.tm_hour % 12 or 12
    month, day = _MONTHS[moment.tm_mon - 1], _DAYS[moment.tm_wday]
    return {
        "January": month, "Jan": month[:3], "01": f"{moment.tm_mon:02d}", "1": f"{moment.tm_mon}",
        "Monday": day, "Mon": day[:3], "MST": moment.tm_zone if local else "UTC",
        "2006": f"{moment.tm_year:04d}", "06": f"{moment.tm_year % 100:02d}",
        "02": f"{moment.tm_mday:02d}", "_2": f"{moment.tm_mday:2d}", "2": f"{moment.tm_mday}",
        "002": f"{moment.tm_yday:03d}", "__2": f"{moment.tm_yday:3d}",
        "15": f"{moment.tm_hour:02d}", "03": f"{hour:02d}", "3": f"{hour}",
        "04": f"{moment.tm_min:02d}", "4": f"{moment.tm_min}",
        "05": f"{moment.tm_sec:02d}", "5": f"{moment.tm_sec}",
        "PM": "PM" if moment.tm_hour >= 12 else "AM", "pm": "pm" if moment.tm_hour >= 12 else "am",
    }[part]  # fmt: skip


def _offset(part: str, seconds: int) -> str:
    if part[0] == "Z" and seconds == 0:
        return "Z"
    colon = ":" if ":" in part else ""
    count = (len(part.replace(":", "")) - 1) // 2  # hours, minutes, seconds
    pieces = (abs(seconds) // 3600, abs(seconds) // 60 % 60, abs(seconds) % 60)
    sign = "-" if seconds < 0 else "+"
    return sign + colon.join(f"{piece:02d}" for piece in pieces[:count])
