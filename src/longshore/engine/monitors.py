"""End a conmon, and what it has begun, by force."""

from __future__ import annotations

import contextlib
import os
import signal
import time

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
    """End a conmon and its exit command (its process group), and wait until it is gone."""
    fd = open_pidfd(monitor)
    if fd is None:
        return
    try:
        if not send_group(monitor, signal.SIGKILL):
            # before its setsid() it shares a group that is not its own
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        poll_until([fd], time.monotonic() + machinery.settings.kill_timeout)
    finally:
        os.close(fd)
