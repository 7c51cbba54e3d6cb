"""What conmon is to a container, and no more: the parent that is left when a runtime has ended.

    python parent.py FD ENDS COMMAND...

It runs a command, writes its exit code to the descriptor, and stays until every process that the
command has left behind has ended. For each of them it adds a line to the file ENDS: the pid, and
the exit code as conmon writes it (128 + n for signal n).
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(fd: int, ends: str, command: list[str]) -> None:
    """Run the command, and reap what comes after it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.close(fd)
        try:
            os.execv(command[0], command)
        finally:
            os._exit(127)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
        if pid == child:
            os.write(fd, str(code).encode())
            os.close(fd)
        with open(ends, "a", encoding="ascii") as file:
            file.write(f"{pid} {code}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
