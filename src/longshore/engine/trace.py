"""Where the time of an operation goes: named phases, in order."""

from __future__ import annotations

import time


class Trace:
    """Collects phases. `mark` says that a phase has just ended."""

    __slots__ = ("_last", "_phases", "_start")

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._phases: list[tuple[str, float]] = []

    def mark(self, phase: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self._phases.append((phase, now - self._last))
        self._last = now

    @property
    def phases(self) -> list[tuple[str, float]]:
        """The phases so far, with their seconds."""
        return list(self._phases)

    @property
    def total(self) -> float:
        """Seconds from the beginning to the last mark."""
        return self._last - self._start


class _Nothing(Trace):
    """A trace that keeps nothing, so that code need not ask whether it is traced."""

    __slots__ = ()

    def mark(self, phase: str) -> None:
        pass


UNTRACED = _Nothing()
