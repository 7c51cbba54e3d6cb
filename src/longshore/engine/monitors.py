"""End a conmon, and what it has begun, by force."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from longshore.linux.files import read_file
from longshore.linux.processes import (
    ProcessId,
    command_lines,
    identify,
    open_pidfd,
    send_group,
)
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.runtime import Runtime


def end_calls(machinery: Machinery, runtime: Runtime, container_id: str) -> None:
    """End a `create` that conmon has begun: conmon gives it a session of its own."""
    for pid, argv in command_lines():
        if runtime.is_call(argv, container_id):
            process = identify(pid)
            fd = open_pidfd(process)
            if fd is None:
                continue
            try:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                poll_until([fd], time.monotonic() + machinery.settings.kill_timeout)
            finally:
                os.close(fd)


def end_monitor(machinery: Machinery, monitor: ProcessId | None) -> None:
    """End a conmon and its exit command (its process group), and wait until they are gone."""
    fd = open_pidfd(monitor)
    if fd is None or monitor is None:
        return
    fds = [fd]
    try:
        # what is waited for has to be known before it is killed: its parent's death hides it
        for pid in _in_group_of(monitor.pid):
            below = open_pidfd(identify(pid))
            if below is not None:
                fds.append(below)
        if not send_group(monitor, signal.SIGKILL):
            # before its setsid() it shares a group that is not its own
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            fds, others = fds[:1], fds[1:]
            for other in others:
                os.close(other)
        deadline = time.monotonic() + machinery.settings.kill_timeout
        for one in fds:
            poll_until([one], deadline)
    finally:
        for one in fds:
            os.close(one)


def _in_group_of(leader: int) -> list[int]:
    """Return the descendants of a process that are in the process group that it leads (proc(5))."""
    found: list[int] = []
    todo = [leader]
    while todo:
        parent = todo.pop()
        try:
            data = read_file(f"/proc/{parent}/task/{parent}/children")
        except OSError:  # it has just ended
            continue
        for word in (data or b"").split():
            try:
                if os.getpgid(int(word)) == leader:
                    found.append(int(word))
                    todo.append(int(word))
            except ProcessLookupError:
                continue
    return found
