"""mount(2) and umount2(2), and what is mounted where.

The standard library has neither call; ctypes is imported when one is first made, so containers that
need no mount of ours do not pay for it.
"""

from __future__ import annotations

import errno
import os

from longshore.linux.libc import call

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount something; OSError names the target when the kernel refuses."""
    try:
        call(
            "mount",
            os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data),
        )  # fmt: skip
    except OSError as err:
        raise OSError(err.errno, err.strerror, target) from None


def unmount(target: str, *, lazy: bool = False) -> bool:
    """Unmount a path; False when nothing is mounted there (or the path is not there)."""
    try:
        call("umount2", os.fsencode(target), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.EINVAL):  # not there; not a mount point
            return False
        raise OSError(err.errno, err.strerror, target) from None
    return True


class MountPoint:
    """One line of mountinfo: where, what kind, with which super block options."""

    __slots__ = ("fstype", "options", "path", "source")

    def __init__(self, path: str, fstype: str, source: str, options: str) -> None:
        self.path = path
        self.fstype = fstype
        self.source = source
        self.options = options


def _unescape(text: str) -> str:
    return (
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n")
        .replace("\\043", "#").replace("\\134", "\\")
    )  # fmt: skip


def mount_points(pid: str = "self") -> list[MountPoint]:
    """Return what is mounted, in mount order (proc(5), /proc/PID/mountinfo)."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        # not splitlines(): a path may hold what Unicode calls a line's end, and the kernel escapes
        # only blank, tab, newline, backslash and "#"
        lines = file.read().split("\n")
    points: list[MountPoint] = []
    for line in filter(None, lines):
        left, _, right = line.partition(" - ")
        fstype, source, options = right.split(" ", 2)
        points.append(MountPoint(_unescape(left.split(" ")[4]), fstype, _unescape(source), options))
    return points
