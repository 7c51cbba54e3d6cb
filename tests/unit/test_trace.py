"""engine/trace.py: phases in order, whose sum is the whole."""

from __future__ import annotations

import pytest

from longshore.engine import trace as trace_module
from longshore.engine.trace import UNTRACED, Trace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(trace_module.time, "perf_counter", lambda: now[0])
    return now


def test_phases_are_kept_in_order(clock: list[float]) -> None:
    trace = Trace()
    assert (trace.phases, trace.total) == ([], 0.0)
    clock[0] += 0.5
    trace.mark("first")
    clock[0] += 2
    trace.mark("second")
    trace.mark("second")
    clock[0] += 50  # after the last mark: of no phase
    assert trace.phases == [("first", 0.5), ("second", 2.0), ("second", 0.0)]
    assert trace.total == 2.5 == sum(seconds for _, seconds in trace.phases)


def test_the_list_is_the_callers_own() -> None:
    trace = Trace()
    trace.mark("one")
    trace.phases.clear()
    assert len(trace.phases) == 1


def test_untraced_keeps_nothing() -> None:
    before = UNTRACED.total
    UNTRACED.mark("x")
    assert (UNTRACED.phases, UNTRACED.total) == ([], before)
