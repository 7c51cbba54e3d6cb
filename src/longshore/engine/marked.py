"""Find the processes of an exec where the runtime cannot give it a cgroup of its own.

By a variable in their environment, which children inherit; and by their parents, for what has
thrown its environment away. A process that has done both, and whose parent has ended before anybody
looked, is not found: the container's end is then its end too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from longshore.errors import LongshoreError
from longshore.linux.files import read_file
from longshore.linux.processes import identify, open_pidfd, parent_of
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = "LONGSHORE_EXEC"


def marked(members: Callable[[], set[int]], name: str) -> set[int]:
    """Return the pids of an exec's processes; ``members`` gives those of its container."""
    wanted = f"{MARKER}={name}".encode()
    parents = {pid: parent_of(pid) for pid in members()}
    found = {pid for pid in parents if wanted in _environment(pid)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid for pid in found if parents[pid]}


def _environment(pid: int) -> list[bytes]:
    try:
        return (read_file(f"/proc/{pid}/environ") or b"").split(b"\0")
    except OSError:  # it has just ended
        return []


def end_marked(members: Callable[[], set[int]], name: str, patience: float) -> None:
    """Kill them all, and wait until they are gone; LongshoreError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        pidfds: dict[int, int] = {}
        try:
            # stopped first, so that nobody forks while we look who has forked
            while more := marked(members, name) - pidfds.keys():
                for pid in more:
                    fd = open_pidfd(identify(pid))
                    if fd is not None:
                        pidfds[pid] = fd
                        _send(fd, signal.SIGSTOP)
            if not pidfds:
                return
            for fd in pidfds.values():
                _send(fd, signal.SIGKILL)
            for fd in pidfds.values():
                if not poll_until([fd], deadline):
                    raise LongshoreError(
                        f"the kernel has not ended the processes of {name} within {patience:g} s: "
                        f"{sorted(pidfds)}",
                        hint="a process in uninterruptible sleep (state D) can do this; try later",
                    )
        finally:
            for fd in pidfds.values():
                os.close(fd)


def _send(fd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)
