"""A command run to its end on a terminal: a session that nobody else is told of.

Straight through the runtime there is no terminal, so conmon holds it (`engine.sessions`).
"""

from __future__ import annotations

from longshore.engine import execs
from longshore.errors import OperationTimeout
from longshore.models import RunResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.execs import Job


class TerminalExec:
    """One such command: `run` to its end, or `interrupt` it from another thread."""

    __slots__ = ("_job", "_process")

    def __init__(self, job: Job) -> None:
        """Begin it. What is wrong is said before anything is there."""
        self._job = job
        self._process = execs.begin(
            job.machinery,
            job.container_id,
            job.command,
            job.options,
            stdin=job.data is not None,
            stderr=False,
            awaited=True,
        )

    def run(self, *, check: bool) -> RunResult:
        """Wait for its end, and return what came of it; an exception of any kind kills it."""
        process = self._process
        data = None if self._job.data is None else bytes(self._job.data)
        try:
            with process:
                try:
                    said, _ = process.communicate(data, self._job.timeout)
                except OperationTimeout:
                    process._way.kill("timeout")
                    said, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
        assert process.exit is not None and said is not None
        kept = said[: self._job.max_output]
        result = RunResult(
            stdout=kept, stderr=b"", exit=process.exit, stdout_dropped=len(said) - len(kept)
        )
        if check and not process.exit.ok:
            from longshore.engine.reasons import failed

            raise failed(result, process.args[0])
        return result

    def interrupt(self) -> None:
        """Kill it with all that it has begun."""
        self._process.kill()
