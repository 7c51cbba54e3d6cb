"""Stand in for the program of a live exec where the runtime would copy its streams.

runc copies them, and ends only when nobody holds the copied ones any more (1.1.5, measured), so its
own end says nothing about the program's. Detached, it gives its descriptors to the program and
leaves; but then nobody learns the exit code. So a small process of ours is the parent of both: it
takes over what loses its parent (PR_SET_CHILD_SUBREAPER of prctl(2), which this process must not
set for itself), holds none of the streams, and ends when the program does, with its code. It costs
the start of an interpreter, some 15 ms.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from longshore.engine.machinery import Machinery

_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SCRIPT = (
    "import sys; sys.path[:0] = sys.argv[1].split(chr(10)); "
    "from longshore.engine.reaping import main; main(sys.argv[2:])"
)


def command(
    machinery: Machinery, runtime: Sequence[str], pid_file: str, *, preserved: int
) -> list[str]:
    """Return the command line around a detached exec of a runtime, which writes ``pid_file``.

    ``preserved`` is how many descriptors it hands on besides the streams.
    """
    script = (machinery.python, "-I", "-S", "-c", _SCRIPT, machinery.import_path(""))
    return [*script, pid_file, str(preserved), *runtime]


def main(argv: list[str]) -> None:
    """Run the runtime, and end as it does if it fails, else as the program that it has begun."""
    from longshore.linux.libc import call

    pid_file, preserved, *runtime = argv
    call("prctl", _SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # which Python ignores
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    runtime_pid = os.posix_spawn(runtime[0], runtime, os.environ, setsigdef=defaults)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3 + int(preserved)):
        os.dup2(nothing, fd)
    os._exit(_awaited(runtime_pid, pid_file))


def _awaited(runtime_pid: int, pid_file: str) -> int:
    program = 0
    ended: dict[int, int] = {}
    while program not in ended:
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code  # as runc says it
        if pid == runtime_pid:
            if code:
                return ended[pid]
            with open(pid_file, encoding="ascii") as file:
                program = int(file.read())
    return ended[program]
