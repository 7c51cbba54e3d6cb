"""One exec session, as what a `Process` stands on (`engine.process.Way`)."""

from __future__ import annotations

import os
import time

from longshore.engine import sessionio, sessions
from longshore.engine.streams import Input
from longshore.errors import (
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
)
from longshore.linux.processes import is_alive, open_pidfd
from longshore.linux.procs import poll_until
from longshore.linux.steps import run, slept
from longshore.models import ExitReason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from longshore.engine.machinery import Machinery
    from longshore.errors import LongshoreError
    from longshore.linux.steps import Sleep, Steps
    from longshore.models import ExitInfo
    from longshore.store.sessions import SessionRecord

_WORD = 1.0  # seconds; conmon says at once how a program has ended


class Session:
    """One exec session, as what a `Process` stands on."""

    def __init__(self, machinery: Machinery, container_id: str, session_id: str) -> None:
        """Find a session that exists. NoSuchExec, RecordCorrupt."""
        self._machinery = machinery
        self._container = container_id
        self.id = session_id
        record = self.peek()
        self.config = record.config
        self._info: ExitInfo | None = None
        self.stdin = self.stdout = self.stderr = -1  # it has no pipes
        self.words = b""
        self.error: LongshoreError | None = None
        if record.exit is not None:
            self._over(record.exit)
        self._end = -1

    def peek(self) -> SessionRecord:
        """Return its record as it is now."""
        return sessions.store_of(self._machinery, self._container).peek(self.id)

    @property
    def log(self) -> str:
        return self._machinery.paths(self._container).session(self.id).log

    def output(
        self, *, follow: bool, stop: int | None = None
    ) -> Generator[list[tuple[str, bytes]]]:
        """Yield what it prints, from the beginning."""
        steps = sessionio.output_steps(
            self._machinery, self._container, self.id, follow=follow, stop=stop
        )
        return _slept(steps)

    def attach(self) -> Input:
        """Connect to its input. BrokenPipeError when it has ended."""
        path = self._machinery.paths(self._container).session(self.id).attach_socket
        return Input(path, self.peek().process, tty=self.config.tty)

    # the way of a `Process`

    def exit_steps(self) -> Steps[ExitInfo]:
        """Wait for its end in steps. NoSuchExec."""
        return sessions.exit_steps(self._machinery, self._container, self.id)

    def fileno(self) -> int:
        if self._end < 0:
            # not conmon's, which ends after its exit command, and that is later
            end = open_pidfd(self.peek().process)
            if end is None:
                end = os.eventfd(1, os.EFD_CLOEXEC)  # readable: it has ended
            self._end = end
        return self._end

    def ended(self, deadline: float | None = None) -> bool:
        if self._info is None:
            left = 0.0 if deadline is None else max(0.0, deadline - time.monotonic())
            if deadline is None and self._end >= 0 and poll_until([self._end], 0.0):
                left = _WORD  # who was told by `fileno` is not told that it runs
            steps = sessions.exit_steps(self._machinery, self._container, self.id, timeout=left)
            try:
                self._over(run(steps))
            except OperationTimeout:
                return False
        return True

    def exit(self) -> ExitInfo:
        if self._info is None:
            self._over(run(self.exit_steps()))
        assert self._info is not None
        return self._info

    def _over(self, info: ExitInfo) -> None:
        self._info = info
        if info.reason is ExitReason.START_FAILED:
            kinds = {127: ProgramNotFound, 126: ProgramNotExecutable}
            self.error = kinds.get(info.code, RuntimeFailed)(info.message)

    def pid(self) -> int | None:
        process = None if self._info is not None else self.peek().process
        return process.pid if process is not None and is_alive(process) else None

    def open_program(self) -> int | None:
        pidfd = open_pidfd(self.peek().process)
        return -1 if pidfd is None else pidfd

    def send(self, number: int) -> None:
        if self._info is None:
            sessionio.send_signal(self._machinery, self._container, self.id, number)

    def kill(
        self,
        intent: str = "kill",
        *,
        drain: Callable[[float], bool] | None = None,  # noqa: ARG002 - who stops reading is no harm
    ) -> None:
        if self._info is None:
            sessionio.kill(self._machinery, self._container, self.id, intent=intent)

    def resize(self, rows: int, columns: int) -> None:
        sessionio.resize(self._machinery, self._container, self.id, rows, columns)

    def is_genuine(self, words: bytes) -> bool:  # noqa: ARG002
        return True  # it had begun when its start was over

    def free_runtime(self) -> None:
        return  # it ended before the program began

    def close(self) -> None:
        end, self._end = self._end, -1
        if end >= 0:
            os.close(end)


def _slept(
    steps: Generator[Sleep | list[tuple[str, bytes]]],
) -> Generator[list[tuple[str, bytes]]]:
    yield from slept(steps)
