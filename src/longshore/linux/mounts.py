"""mount(2) and umount2(2), and what is mounted where.

The standard library has neither call; ctypes is imported when one is first made, so containers that
need no mount of ours do not pay for it.
"""

from __future__ import annotations

import errno
import os
import struct

from longshore.linux.libc import call

# System calls have one number on every machine since 2019 (asm-generic/unistd.h); struct
# mount_attr and the rest are of linux/mount.h.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _EMPTY_PATH, _MOVE_EMPTY_PATH = -100, 0x1000, 4
_CLONE, _ATTR_IDMAP = 1, 0x100000
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


def bind_idmapped(source: str, target: str, namespace: int) -> None:
    """Bind a directory so that its ids are shown as a user namespace maps them (mount_setattr(2)).

    ``namespace`` is a descriptor of it. What is mounted below ``source`` is left out. OSError with
    EINVAL: its file system cannot do it, ENOSYS: the kernel (before 5.12).
    """
    tree = call("syscall", _OPEN_TREE, _AT_FDCWD, os.fsencode(source), _CLONE | os.O_CLOEXEC)
    try:
        attributes = struct.pack("=QQQQ", _ATTR_IDMAP, 0, 0, namespace)
        call(
            "syscall", _MOUNT_SETATTR, tree, b"", _EMPTY_PATH, attributes, len(attributes)
        )  # fmt: skip
        call(
            "syscall", _MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_EMPTY_PATH
        )  # fmt: skip
    finally:
        os.close(tree)


class MountPoint:
    """One line of mountinfo: where, what kind, with which super block options.

    ``above`` is the number of the one that it is mounted on; ``shared``: what is mounted on it, or
    taken off, is so in all of its peers, in other mount namespaces too (mount_namespaces(7)).
    """

    __slots__ = ("above", "fstype", "number", "options", "path", "shared", "source")

    def __init__(self, place: list[str], fstype: str, source: str, options: str) -> None:
        self.number, self.above = int(place[0]), int(place[1])
        self.path = _unescape(place[4])
        self.shared = any(word.startswith("shared:") for word in place[6:])
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
        points.append(MountPoint(left.split(" "), fstype, _unescape(source), options))
    return points
