"""A command run to its end on a terminal: a session that nobody else is told of.

Straight through the runtime there is no terminal, so conmon holds it (`engine.sessions`).
"""

from __future__ import annotations

from longshore.engine import execs
from longshore.errors import OperationTimeout
from longshore.models import RunResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from longshore.engine.machinery import Machinery
    from longshore.options.execs import ExecOptions


class TerminalExec:
    """One such command: `run` to its end, or `interrupt` it from another thread."""

    __slots__ = ("_data", "_limit", "_process", "_timeout")

    def __init__(
        self,
        machinery: Machinery,
        container_id: str,
        command: Sequence[str],
        options: ExecOptions,
        *,
        data: bytes | None,
        timeout: float | None,
        max_output: int | None,
    ) -> None:
        """Begin it. What is wrong is said before anything is there."""
        self._limit, self._timeout = execs.checked(data, timeout, max_output)
        self._data = None if data is None else bytes(data)
        self._process = execs.begin(
            machinery,
            container_id,
            command,
            options,
            stdin=data is not None,
            stderr=False,
            awaited=True,
        )

    def run(self, *, check: bool) -> RunResult:
        """Wait for its end, and return what came of it; an exception of any kind kills it."""
        process = self._process
        try:
            with process:
                try:
                    said, _ = process.communicate(self._data, self._timeout)
                except OperationTimeout:
                    process._way.kill("timeout")
                    said, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
        assert process.exit is not None and said is not None
        kept = said if self._limit is None else said[: self._limit]
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
