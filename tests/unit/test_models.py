"""The values that users get."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

from longshore import models
from longshore._value import Value
from longshore.models import (
    Device,
    Event,
    ExitInfo,
    ExitReason,
    Gap,
    LogRecord,
    Mount,
    RunResult,
    Ulimit,
    Usage,
)

MOMENT = 1_700_000_000_250_000_000
SAMPLES: list[Value] = [
    ExitInfo(code=0, reason=ExitReason.EXITED),
    ExitInfo(
        code=137, reason=ExitReason.OOM_KILLED, signal=9, oom_killed=True, started_ns=1,
        finished_ns=MOMENT, usage=Usage(memory_peak=1, cpu_user=0.5), message="words",
    ),
    Usage(),
    Usage(memory_peak=0, cpu_user=0.0, cpu_system=1.5, io_read=0, io_written=1, pids_peak=2),
    Mount(type="bind", target="/a", source="/b", options=("ro", "nosuid")),
    Ulimit(name="RLIMIT_NOFILE", soft=1, hard=-1),
    Device(source="/dev/null", target="/dev/zero"),
    Event(
        seq=1, time_ns=MOMENT, type="container", action="died", id="ab", name="box", exit_code=3,
        labels={"a": "b"}, attributes={"reason": "exited"},
    ),
    Gap(start=0, end=10),
]  # fmt: skip


def test_all_is_exact() -> None:
    own = {
        name
        for name, value in vars(models).items()
        if getattr(value, "__module__", "") == "longshore.models" and not name.startswith("_")
    }
    assert set(models.__all__) - own <= {"ContainerId"}
    assert own <= set(models.__all__)
    assert models.__all__ == sorted(models.__all__)


@pytest.mark.parametrize("value", SAMPLES, ids=lambda v: type(v).__name__)
def test_round_trips(value: Value) -> None:
    assert type(value).from_json(json.loads(json.dumps(value.to_json()))) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_nought_and_unknown_are_told_apart() -> None:
    assert Usage(memory_peak=0) != Usage()
    assert Usage(memory_peak=0).to_json() == {"memory_peak": 0}
    assert Usage().to_json() == {}


@pytest.mark.parametrize(
    ("code", "reason", "ok"),
    [
        (0, ExitReason.EXITED, True),
        (1, ExitReason.EXITED, False),
        (0, ExitReason.STOPPED, False),
        (0, ExitReason.TIMEOUT, False),
        (-1, ExitReason.MONITOR_LOST, False),
    ],
)
def test_ok_is_its_own_return_of_nought(code: int, reason: ExitReason, ok: bool) -> None:
    assert ExitInfo(code=code, reason=reason).ok is ok


def test_times() -> None:
    info = ExitInfo(code=0, reason=ExitReason.EXITED, finished_ns=MOMENT)
    assert info.started_at is None
    assert info.finished_at == datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC)
    record = LogRecord(stream="stdout", time_ns=MOMENT, data=b"")
    assert record.time == info.finished_at
    assert not record.partial


def test_the_result_of_a_run() -> None:
    result = RunResult(
        stdout=b"caf\xc3\xa9 \xff", stderr=b"", exit=ExitInfo(code=3, reason=ExitReason.EXITED)
    )
    assert (result.text, result.returncode) == ("caf\xe9 \ufffd", 3)


def test_reasons_are_those_that_are_promised() -> None:
    assert {r.value for r in ExitReason} == {
        "exited", "signaled", "oom_killed", "timeout", "stopped", "stop_escalated", "killed",
        "owner_died", "start_failed", "monitor_lost",
    }  # fmt: skip
