"""The processes of one exec inside of a sandbox, where they are none of the host's (gVisor).

They are told by their parents: the pid that the sandbox's kernel gave to the exec's own program is
in a file, and what has come from it is killed with it. A process whose parent had ended before
anybody looked is not found: the container's end is then its end too.
"""

from __future__ import annotations

import contextlib
import time

from longshore.errors import LongshoreError, RuntimeFailed
from longshore.linux.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.runtime import Runtime

_SIGKILL, _SIGSTOP = 9, 19
_PAUSE = 0.01  # seconds between two looks; nothing tells of the end of a process in there


class Inside:
    """Where to look for an exec's processes: the runtime, the container, the file of the pid."""

    __slots__ = ("_container_id", "_runtime", "pid_file")

    def __init__(self, runtime: Runtime, container_id: str, pid_file: str) -> None:
        self._runtime = runtime
        self._container_id = container_id
        self.pid_file = pid_file

    def program(self) -> int | None:
        """Return the pid that the exec's program has in there; None when it is not made yet."""
        data = read_file(self.pid_file) or b""
        return int(data) if data.strip().isdigit() else None

    def send(self, number: int) -> None:
        """Signal the exec's program; one that has ended is fine."""
        program = self.program()
        if program is not None:
            with contextlib.suppress(RuntimeFailed):
                self._runtime.kill_inner(self._container_id, program, number)

    def end(self, patience: float) -> None:
        """Kill all of them, and wait until they are gone; LongshoreError after ``patience`` s."""
        program = self.program()
        if program is None:
            return
        deadline = time.monotonic() + patience
        known = {program}
        stopped: set[int] = set()
        while True:
            parents = self._runtime.inner_processes(self._container_id)
            while more := {pid for pid, parent in parents.items() if parent in known} - known:
                known |= more
            living = known & parents.keys()
            if not living:
                return
            if time.monotonic() >= deadline:
                raise LongshoreError(
                    f"{self._runtime.name} has not ended the processes of an exec within "
                    f"{patience:g} s: {sorted(living)} in the sandbox"
                )
            # stopped first, so that nobody forks while we look who has forked
            new = living - stopped
            for pid in new or living:
                with contextlib.suppress(RuntimeFailed):  # it has just ended
                    number = _SIGSTOP if new else _SIGKILL
                    self._runtime.kill_inner(self._container_id, pid, number)
            stopped |= new
            if not new:
                time.sleep(_PAUSE)
