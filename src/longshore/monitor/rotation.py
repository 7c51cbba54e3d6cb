"""Rotate a log under conmon's pen, without losing a line.

The file is renamed, conmon still writes to it, and is asked through its ctl fifo (``2 0 0``) to
open its log anew; what was written until then is in the renamed file, and what comes later in the
new one (conmon 2.1.6, measured; ctrl.c, ctr_logging.c). conmon opens the new one by truncating
``ctr.log.tmp`` and renaming it, so it must never be asked twice for one rotation.

conmon's own ``--log-size-max`` is no rotation before 2.2: it begins the one file anew, and loses
what was in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import termios

from longshore.linux.files import read_file
from longshore.monitor.logfiles import numbered, rotated

# What may be kept above the limit for those who follow a log and are behind, bytes a container.
SPARE = 16 << 20
_REOPEN = b"2 0 0\n"


def move_aside(path: str) -> None:
    """Give each file of a log the next number: the log itself becomes the youngest of the old.

    Cut short, it leaves a number out, which nobody minds.
    """
    for number in reversed((0, *rotated(path))):
        with contextlib.suppress(FileNotFoundError):  # thrown away just now
            os.rename(numbered(path, number), numbered(path, number + 1))


def ask_to_reopen(ctl: str) -> bool:
    """Ask conmon, by its ctl fifo, to begin a new log; False when it is gone or does not listen."""
    try:
        fd = os.open(ctl, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        return os.write(fd, _REOPEN) == len(_REOPEN)
    except (BlockingIOError, BrokenPipeError):
        return False
    finally:
        os.close(fd)


def is_still_to_be_asked(path: str, ctl: str, monitor: int) -> bool:
    """Whether a log was moved aside by somebody who died before conmon was asked to reopen it.

    Not so while conmon has something to read, or has let go of the old file.
    """
    try:
        fd = os.open(ctl, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        unread = int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(fd)
    return not unread and not os.path.lexists(path) and _has_open(monitor, numbered(path, 1))


def _has_open(pid: int, path: str) -> bool:
    try:
        wanted = os.stat(path)
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                    return True
    except OSError:
        pass
    return False


def throw_away(path: str, files: int) -> None:
    """Remove the oldest rotated files, so that there are ``files`` with the log itself.

    One stays in any case: a log that has just begun anew may be all but empty, and what a container
    has said last, before it ended, is in the one before.
    Nothing that somebody who follows the log has still to read (`logfiles.pin`), until all that is
    kept for their sake is more than `SPARE`. Safe beside `move_aside`: numbers only grow.
    """
    numbers = rotated(path)[max(1, files - 1) :]
    sizes: dict[int, int] = {}
    for number in numbers:
        with contextlib.suppress(FileNotFoundError):
            sizes[number] = os.stat(numbered(path, number)).st_size
    spare = sum(sizes.values())
    for number in reversed(sizes):
        name = numbered(path, number)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if spare <= SPARE and _is_pinned(fd):
                    return
                os.unlink(name)
            finally:
                os.close(fd)
        spare -= sizes[number]


def _is_pinned(fd: int) -> bool:
    """Whether somebody reads a file; if not, nobody begins to until it is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # a file system without locks
    return False


def looks_after_itself(monitor: int) -> bool:
    """Whether a running conmon was told to keep its log small itself; not so if it has ended."""
    try:
        argv = read_file(f"/proc/{monitor}/cmdline") or b""
    except ProcessLookupError:  # it ended after it was opened
        return False
    return b"--log-size-max" in argv.split(b"\0")
