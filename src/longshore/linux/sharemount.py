"""A program: mount what one mount namespace has on a path on the same path of another.

    python -I -S sharemount.py SOURCE TARGET PATH

SOURCE and TARGET are descriptors of mount namespaces (/proc/PID/ns/mnt). It is run by
`mountfds.share`, alone and by its own path. While it is in a namespace, every path is one of a
container's, which may be hostile: so all that is imported is imported before, nothing is afterwards
(a lazy import, of a finalizer say, would run the container's code), and it ends there.

What went wrong is printed as an errno and a word of where.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import struct
import sys

# every architecture that Python runs on, but Alpha
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_CLONE_NEWNS = 0x20000
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY = 0x04, 0x40
_NO_MAGICLINKS, _NO_SYMLINKS = 0x02, 0x04  # include/uapi/linux/openat2.h
_SAFE = 0x02 | 0x04 | 0x08  # MOUNT_ATTR_NOSUID, _NODEV, _NOEXEC
_PRIVATE = 1 << 18  # MS_PRIVATE
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)
_place_flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_how = struct.pack("=QQQ", _place_flags, 0, _NO_MAGICLINKS | _NO_SYMLINKS)
_attributes = struct.pack("=QQQQ", _SAFE, 0, _PRIVATE, 0)  # set, clear, propagation, userns_fd


def _done(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _enter(namespace: int) -> None:
    _done(_libc.setns(namespace, _CLONE_NEWNS))


def _open(path: bytes) -> int:
    """Return an O_PATH descriptor of a directory to which no link leads. / is the container's."""
    return _done(_libc.syscall(_OPENAT2, _AT_FDCWD, path, _how, len(_how)))


def _is_mount(place: int) -> bool:
    above = os.open("..", _place_flags, dir_fd=place)
    return os.fstat(above).st_dev != os.fstat(place).st_dev


def share(source: int, target: int, path: bytes) -> None:
    """Do it. This process stays in the namespace of ``target``."""
    _enter(source)
    place = _open(path)
    if not _is_mount(place):
        raise OSError(errno.EINVAL, "")
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    tree = _done(_libc.syscall(_OPEN_TREE, place, b"", flags))
    _done(_libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _attributes, len(_attributes)))
    _enter(target)
    # what the runtime has mounted there for the container's own; nothing has run in it yet
    _libc.umount2(path, _UMOUNT_NOFOLLOW | _MNT_DETACH)
    place = _open(path)
    _done(_libc.syscall(_MOVE_MOUNT, tree, b"", place, b"", _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY))


if __name__ == "__main__":
    gc.disable()
    try:
        share(int(sys.argv[1]), int(sys.argv[2]), os.fsencode(sys.argv[3]))
    except OSError as err:
        os.write(1, b"%d" % (err.errno or 0))
    os._exit(0)
