"""Begin early what the kernel makes a process wait for.

Moving a process between cgroups takes the kernel's threadgroup lock for writing, and its first
writer waits for an RCU grace period of 5–12 ms; one that comes within some milliseconds after it
does not (rcu_sync in kernel/rcu/sync.c: 0.1 ms, measured on 6.18). A command knows that conmon is
to be moved before it has even loaded what starts it.
"""

from __future__ import annotations

import _thread
import os


def hasten() -> None:
    """Let the grace period of the next move pass now, in a thread. It moves nothing, and may fail.

    For a process of our own only: between reading where it is and writing that down again, nobody
    else may move it.
    """
    try:
        _thread.start_new_thread(_stay, ())
    except RuntimeError:  # no thread to be had: the move will wait for itself
        pass


def _stay() -> None:
    """Move this process to the cgroup that it is in."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for mount in (controllers, "unified") if not controllers else (controllers,):
            name = f"/sys/fs/cgroup/{mount}{path}/cgroup.procs"
            try:
                fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.write(fd, b"%d" % os.getpid())
                return
            except OSError:
                continue
            finally:
                os.close(fd)
