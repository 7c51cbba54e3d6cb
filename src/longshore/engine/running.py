"""A command run in a container of its own, from its creation to its removal (`Engine.run`).

In parts, because a thread and an event loop put them together differently: what is in steps here,
and `feed`, may take as long as the command does; all else is what a few calls of a runtime take.
"""

from __future__ import annotations

import contextlib
import os
import time

from longshore.engine.container import Container
from longshore.errors import InvalidArgument, LongshoreError, OperationTimeout
from longshore.models import RunResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.engine.trace import Trace
    from longshore.linux.steps import Steps
    from longshore.models import ExitInfo
    from longshore.options import CreateOptions


def prepare(options: CreateOptions, data: object, timeout: float | None) -> float | None:
    """Check what is asked for, and add what every such run has; return its deadline."""
    if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgument(f"input: {data!r} is not bytes", hint="text.encode()")
    if options.get("log_driver") == "none" or options.get("log_opt"):
        raise InvalidArgument(
            "run() returns what the log has, all of it: it takes no log_driver='none' and no "
            "log_opt",
            hint="leave them out, or use create() and start()",
        )
    if data is not None:
        options["interactive"] = True
    options["remove"] = True  # by the exit command, if this process is killed
    if timeout is None:
        return None
    from longshore.engine.waiting import until

    return until(timeout)


class Running:
    """One run: `begin`, `feed`, `exit_steps`, `time_out` if these say so, then `finish`.

    Or `abandon` it at any point.
    """

    __slots__ = (
        "_container", "_deadline", "_info", "_log", "_machinery", "_program", "_stack", "_trace",
    )  # fmt: skip

    def __init__(
        self,
        machinery: Machinery,
        container: Container,
        program: str,
        deadline: float | None,
        trace: Trace,
    ) -> None:
        self._machinery = machinery
        self._container = container
        self._program = program
        self._deadline = deadline
        self._trace = trace
        self._stack = contextlib.ExitStack()
        self._log = -1
        self._info: ExitInfo | None = None

    def begin(self) -> None:
        """Start it, and stay with it."""
        self._stack.enter_context(self._container.attended())
        self._container.start(trace=self._trace)
        # Held open, so that it can be read whoever removes the container meanwhile.
        path = self._machinery.paths(self._container.id).log
        self._log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def feed(self, data: bytes) -> None:
        """Give it its standard input. Returns when it has ended, or the time is over."""
        from longshore.engine import streams

        streams.feed(self._machinery, self._container.id, data, self._deadline)

    def interrupt(self) -> None:
        """Make whoever feeds it give up: it is to be abandoned. From any thread."""
        try:
            self._container.kill()
        except LongshoreError:
            pass  # it has ended, or is removed by force in a moment

    def exit_steps(self) -> Steps[bool]:
        """Wait for its end; False when the time was over first."""
        from longshore.engine import waiting

        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        container_id = self._container.id
        try:
            self._info = yield from waiting.exit_steps(self._machinery, container_id, timeout=left)
        except OperationTimeout:
            return False
        self._trace.mark("run")
        return True

    def time_out(self) -> None:
        """Kill it because its time is over."""
        from longshore.engine import stopping

        self._info = stopping.time_out(self._machinery, self._container.id)
        self._trace.mark("run")

    def finish(self, *, check: bool) -> RunResult:
        """Return what it has printed and how it ended; it is gone then."""
        from longshore.monitor.logs import capture

        assert self._info is not None
        stdout, stderr = capture(f"/proc/self/fd/{self._log}")
        self._trace.mark("output")
        self._stack.close()
        self._trace.mark("clean up")
        self._close()
        self._container.remove(force=True, missing_ok=True)
        self._trace.mark("remove")
        result = RunResult(stdout=stdout, stderr=stderr, exit=self._info)
        if check and not self._info.ok:
            from longshore.engine.reasons import failed

            raise failed(result, self._program)
        return result

    def abandon(self, error: BaseException) -> None:
        """Leave nothing of it. What goes wrong with that is a note on the error."""
        try:
            try:
                self._stack.close()
            finally:
                self._close()
                self._container.remove(force=True, missing_ok=True)
        except (LongshoreError, OSError) as more:
            error.add_note(f"and container {self._container.id[:12]} could not be removed: {more}")

    def _close(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
