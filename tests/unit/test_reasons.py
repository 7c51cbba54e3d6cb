"""engine/reasons.py: every intent against every code."""

from __future__ import annotations

import signal

import pytest

from longshore.engine.observe import ExitFile
from longshore.engine.reasons import at_rest, decide, exit_info, start_failed
from longshore.lifecycle import Status
from longshore.models import ExitInfo, ExitReason, Usage
from longshore.options import ContainerConfig
from longshore.store import Record, Run

R = ExitReason
TERM, KILL, HUP = signal.SIGTERM, signal.SIGKILL, signal.SIGHUP
INTENTS = ("", "stop", "escalate", "kill", "timeout")
CODES = (0, 1, 127, 128, 129, 137, 143, 192, 193, 255)


def _signal(code: int) -> int | None:
    return {129: 1, 137: 9, 143: 15, 192: 64}.get(code)


# What each code means, an intent a row: in the order of CODES
TABLE = {
    "": [R.EXITED] * 4 + [R.SIGNALED] * 4 + [R.EXITED] * 2,
    "stop": [R.STOPPED] * 10,
    "escalate": [R.STOPPED] * 5 + [R.STOP_ESCALATED] + [R.STOPPED] * 4,
    # `kill TERM` was asked for: another signal than that one was not ours
    "kill": [R.EXITED] * 4 + [R.SIGNALED] * 2 + [R.KILLED, R.SIGNALED] + [R.EXITED] * 2,
    # what ended of itself a moment before it was to be killed has ended of itself
    "timeout": [R.EXITED] * 4 + [R.SIGNALED, R.TIMEOUT] + [R.SIGNALED] * 2 + [R.EXITED] * 2,
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("intent", INTENTS)
def test_reasons(intent: str, code: int) -> None:
    found = decide(code, intent=intent, intent_signal=TERM, oom_kills=0, timed_out=False)
    assert found == (TABLE[intent][CODES.index(code)], _signal(code))


@pytest.mark.parametrize("intent", INTENTS)
@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize("oom_kills", [0, 2])
def test_there_is_an_answer_for_everything(intent: str, timed_out: bool, oom_kills: int) -> None:
    for code in range(-1, 256):
        reason, number = decide(
            code, intent=intent, intent_signal=KILL, oom_kills=oom_kills, timed_out=timed_out
        )
        assert isinstance(reason, ExitReason)
        assert number is None or 1 <= number <= 64
        if reason in (R.SIGNALED, R.OOM_KILLED, R.KILLED, R.STOP_ESCALATED):
            assert number is not None
        if reason is R.EXITED:
            assert number is None


@pytest.mark.parametrize("signal_asked", [KILL, TERM, HUP])
def test_a_kill_is_told_apart_by_its_signal(signal_asked: int) -> None:
    for code in (129, 137, 143):
        reason, _ = decide(
            code, intent="kill", intent_signal=signal_asked, oom_kills=0, timed_out=False
        )
        assert (reason is R.KILLED) == (code - 128 == signal_asked)


@pytest.mark.parametrize(
    ("code", "intent", "reason"),
    [
        (137, "", R.OOM_KILLED),
        (0, "", R.EXITED),  # another process than its first was killed for memory
        (1, "", R.EXITED),
        (143, "", R.SIGNALED),
        (137, "stop", R.STOPPED),
        (137, "escalate", R.STOP_ESCALATED),
        (137, "timeout", R.TIMEOUT),
    ],
)
def test_memory(code: int, intent: str, reason: ExitReason) -> None:
    found, _ = decide(code, intent=intent, intent_signal=TERM, oom_kills=1, timed_out=False)
    assert found is reason


def _record(**changes: object) -> Record:
    run = Run(number=1, boot_id="b", runtime="crun", runtime_path="/crun", started_ns=5).replace(
        **changes
    )
    return Record(
        id="ab" * 32, config=ContainerConfig(name="box", run_timeout=3.0), created_ns=1, run=run
    )


def test_an_exit_file_and_what_was_measured() -> None:
    usage = Usage(memory_peak=7)
    info = exit_info(_record(), ExitFile(code=137, time_ns=9), usage=usage, oom_kills=1)
    assert info == ExitInfo(
        code=137, reason=R.OOM_KILLED, signal=9, oom_killed=True,
        started_ns=5, finished_ns=9, usage=usage,
    )  # fmt: skip


def test_conmons_own_time_limit() -> None:
    """conmon -T kills the container and writes −1."""
    info = exit_info(_record(), ExitFile(code=-1, time_ns=9))
    assert (info.code, info.reason, info.signal) == (137, R.TIMEOUT, 9)


def test_what_was_asked_of_the_run_counts() -> None:
    record = _record(intent="kill", intent_signal=int(HUP))
    assert exit_info(record, ExitFile(code=129, time_ns=9)).reason is R.KILLED


def test_no_exit_file() -> None:
    info = exit_info(_record(), None, lost="conmon is gone")
    assert (info.code, info.reason, info.signal) == (-1, R.MONITOR_LOST, None)
    assert info.message == "conmon is gone"
    assert info.finished_ns is not None
    assert not info.oom_killed


def test_the_moment_of_a_reboot_is_not_known() -> None:
    info = exit_info(_record(), None, lost="the host was rebooted")
    assert (info.code, info.reason, info.finished_ns) == (-1, R.MONITOR_LOST, None)
    assert info.started_ns == 5


def test_a_reason_that_is_known() -> None:
    info = exit_info(_record(), None, reason=R.KILLED, code=137)
    assert (info.code, info.reason, info.signal) == (137, R.KILLED, 9)


@pytest.mark.parametrize("code", [125, 126, 127])
def test_a_start_that_failed(code: int) -> None:
    info = start_failed(code, "no such program")
    assert (info.code, info.reason, info.signal) == (code, R.START_FAILED, None)
    assert (info.started_ns, info.usage, info.ok) == (None, Usage(), False)
    assert info.finished_ns is not None
    assert info.message == "no such program"


@pytest.mark.parametrize(
    ("status", "reasons", "after"),
    [
        (Status.CREATED, [], Status.CREATED),
        (Status.CREATED, [R.START_FAILED], Status.CREATED),
        (Status.EXITED, [R.START_FAILED], Status.EXITED),  # older exits are not kept for ever
        (Status.INITIALIZED, [], Status.CREATED),
        (Status.INITIALIZED, [R.START_FAILED] * 3, Status.CREATED),
        (Status.INITIALIZED, [R.EXITED, R.START_FAILED], Status.EXITED),
        (Status.INITIALIZED, [R.MONITOR_LOST], Status.EXITED),
        (Status.RUNNING, [R.KILLED], Status.EXITED),
    ],
)
def test_what_is_left_at_rest(status: Status, reasons: list[R], after: Status) -> None:
    exits = tuple(ExitInfo(code=1, reason=reason) for reason in reasons)
    assert at_rest(_record().replace(status=status, exits=exits)) is after
