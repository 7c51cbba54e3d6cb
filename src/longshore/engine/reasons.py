"""Why a run ended: one pure decision from the exit code, what was asked, and the OOM count."""

from __future__ import annotations

import time

from longshore.errors import ContainerFailed
from longshore.lifecycle import Status
from longshore.models import ExitInfo, ExitReason, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.observe import ExitFile
    from longshore.models import RunResult
    from longshore.store import Record

_SIGKILL = 9


def decide(
    code: int, *, intent: str, intent_signal: int, oom_kills: int, timed_out: bool
) -> tuple[ExitReason, int | None]:
    """Return the reason and the signal for an exit code that conmon wrote.

    ``intent`` is what was asked of this run: "", "stop", "escalate", "kill" or "timeout".
    A code above 128 is taken for a signal, as a shell would; conmon writes 137 both for
    ``exit 137`` and for SIGKILL, so this is a reading, not a fact.
    """
    if code < 0 and not timed_out:
        return ExitReason.MONITOR_LOST, None
    number = code - 128 if 128 < code <= 192 else None
    if timed_out or (intent == "timeout" and number == _SIGKILL):
        return ExitReason.TIMEOUT, _SIGKILL  # else it ended by itself, a moment before
    if intent == "escalate":
        if number == _SIGKILL:
            return ExitReason.STOP_ESCALATED, number
        return ExitReason.STOPPED, number
    if intent == "stop":
        return ExitReason.STOPPED, number
    if intent == "kill" and number == intent_signal:
        return ExitReason.KILLED, number
    if oom_kills and number == _SIGKILL:
        return ExitReason.OOM_KILLED, number
    if number is not None:
        return ExitReason.SIGNALED, number
    return ExitReason.EXITED, None


def start_failed(code: int, why: str) -> ExitInfo:
    """Return the exit of a start that failed: nothing began, so nothing was measured."""
    return ExitInfo(
        code=code,
        reason=ExitReason.START_FAILED,
        finished_ns=time.time_ns(),
        message=why,
    )


def at_rest(record: Record) -> Status:
    """Return the status of a container of which nothing is left: EXITED if it ever ran."""
    if record.status in (Status.CREATED, Status.EXITED):
        return record.status
    ran = any(info.reason is not ExitReason.START_FAILED for info in record.exits)
    return Status.EXITED if ran else Status.CREATED


def exit_info(
    record: Record,
    written: ExitFile | None,
    *,
    usage: Usage | None = None,
    oom_kills: int = 0,
    lost: str = "",
    reason: ExitReason | None = None,
    code: int = -1,
) -> ExitInfo:
    """Return the exit of a record's run. Without conmon's word it is MONITOR_LOST, code −1."""
    run = record.run
    started = None if run is None else run.started_ns
    finished: int | None = time.time_ns() if written is None else written.time_ns
    number: int | None = None
    if reason is not None:
        number = code - 128 if code > 128 else None
    elif written is None or run is None:
        reason = ExitReason.MONITOR_LOST
        # A reboot's moment is not known; that of a lost monitor is when it was noticed.
        finished = None if "reboot" in lost else finished
    else:
        code = written.code
        # conmon's own time limit (-T) kills the container and writes −1 (2.1.6, measured)
        timed_out = code == -1 and record.config.run_timeout > 0
        if timed_out:
            code = 128 + _SIGKILL
        lost = "conmon could not tell the exit code" if code < 0 else lost
        reason, number = decide(
            code,
            intent=run.intent,
            intent_signal=run.intent_signal,
            oom_kills=oom_kills,
            timed_out=timed_out,
        )
    return ExitInfo(
        code=code,
        reason=reason,
        signal=number,
        oom_killed=oom_kills > 0,
        started_ns=started,
        finished_ns=finished,
        usage=usage if usage is not None else Usage(),
        message=lost or ("" if run is None else run.note),
    )


def failed(result: RunResult, program: str) -> ContainerFailed:
    """Return the error of a command that ended badly."""
    info = result.exit
    how = f"exit code {info.code}"
    if info.reason is not ExitReason.EXITED:
        how = f"{info.reason.value}, {how}"
    words = result.stderr.decode("utf-8", "replace").strip()
    said = f": {words[-500:]}" if words else ""
    return ContainerFailed(f"{program} failed ({how}){said}", result)
