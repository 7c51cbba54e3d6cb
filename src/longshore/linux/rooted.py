"""Paths in somebody else's tree, resolved as if a directory of it were /.

openat2(2) with RESOLVE_IN_ROOT (Linux 5.6) resolves a whole path in the kernel: absolute links and
``..`` stay below the root, however the tree is changed meanwhile. What was found is then a
descriptor, and everything else is done relative to it and without following a link.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from longshore.errors import HostUnsupported
from longshore.linux.libc import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_OPENAT2 = 437  # of every architecture that Python runs on, but Alpha
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10  # include/uapi/linux/openat2.h
_ATTEMPTS = 1000
_MAX_LINKS = 40  # as the kernel's own
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Spot:
    """Where a path leads: the entry ``name`` of the open directory ``parent``, never a link.

    ``info`` is its stat, None when there is no such entry (then ``parent`` is there all the same).
    An empty ``name`` means the directory ``parent`` itself: of ``/``, and of ``x/.``.
    """

    __slots__ = ("info", "name", "parent")

    def __init__(self, parent: int, name: str, info: os.stat_result | None) -> None:
        self.parent = parent
        self.name = name
        self.info = info

    @property
    def is_directory(self) -> bool:
        """Whether there is a directory."""
        return self.info is not None and stat.S_ISDIR(self.info.st_mode)

    def pin(self) -> int:
        """Return an O_PATH descriptor of what is there."""
        return pin(self.parent, self.name) if self.name else os.dup(self.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.parent)


class Tree:
    """The host's own tree, and what all trees can do. OSError of the kernel throughout."""

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path and return the descriptor."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def start(self) -> str:
        """Return what a relative path is relative to."""
        return os.getcwd()

    def find(self, path: str) -> Spot:
        """Return where a path leads, through every link, also a last one that leads nowhere.

        With a slash at its end it has to be a directory, if it is anything: NotADirectoryError.
        """
        wants_directory = path.endswith("/")
        path = os.path.join(self.start(), path)
        for _ in range(_MAX_LINKS):
            head, _, last = path.rstrip("/").rpartition("/")
            if last in ("", ".", ".."):
                fd = self.open(path or "/", _DIRECTORY)
                return Spot(fd, "", os.fstat(fd))
            parent = self.open(head or "/", _DIRECTORY)
            try:
                try:
                    info = os.stat(last, dir_fd=parent, follow_symlinks=False)
                except FileNotFoundError:
                    return _kept(Spot(parent, last, None))
                if not stat.S_ISLNK(info.st_mode):
                    if wants_directory and not stat.S_ISDIR(info.st_mode):
                        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                    return _kept(Spot(parent, last, info))
                path = os.path.join(head or "/", os.readlink(last, dir_fd=parent))
            finally:
                os.close(parent)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def make_directories(self, path: str) -> int:
        """Return a descriptor of a directory, made with its parents where they are missing."""
        try:
            return self.open(path, _DIRECTORY)
        except FileNotFoundError:
            head = path.rstrip("/").rpartition("/")[0]
            os.close(self.make_directories(head or "/"))
            with self.find(path.rstrip("/")) as spot:
                if spot.info is None:
                    return new_directory(spot.parent, spot.name)
            return self.open(path, _DIRECTORY)


def _kept(spot: Spot) -> Spot:
    # The caller closes the descriptor that it has in any case.
    return Spot(os.dup(spot.parent), spot.name, spot.info)


class Rooted(Tree):
    """A tree in which a directory is /, and from which no path leads out.

    Owns ``fd``, a descriptor of that directory, and ``more``, others that are to live as long.
    """

    def __init__(self, fd: int, more: Sequence[int] = ()) -> None:
        self.fd = fd
        self.more = tuple(more)

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path inside and return the descriptor; magic links of /proc are ELOOP."""
        name = os.fsencode(path)
        if b"\0" in name:
            raise OSError(errno.EINVAL, "a path with a zero byte", path)
        how = b"".join(
            number.to_bytes(8, sys.byteorder)
            for number in (flags | os.O_CLOEXEC, mode, _IN_ROOT | _NO_MAGICLINKS)
        )
        attempts = _ATTEMPTS
        while True:
            try:
                return call("syscall", _OPENAT2, self.fd, name or b".", how, len(how))
            except OSError as err:
                attempts -= 1
                # EAGAIN: something was renamed or mounted while it went through a ".."
                if err.errno in (errno.EAGAIN, errno.EINTR) and attempts:
                    continue
                if err.errno == errno.ENOSYS:
                    raise HostUnsupported(
                        "paths in a container are resolved with openat2(2), of Linux 5.6",
                        os.uname().release,
                    ) from None
                # OSError picks the class by the number
                raise OSError(err.errno, err.strerror, path) from None

    def start(self) -> str:
        """Return "/": a relative path is one from the root."""
        return "/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.fd, *self.more):
            os.close(fd)


def pin(directory: int, name: str) -> int:
    """Return an O_PATH descriptor of one entry of a directory, a link itself if it is one."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def reopen(fd: int, flags: int) -> int:
    """Open again what a descriptor refers to, that and nothing else; look at its type before.

    Opening a fifo can block, and opening a device can do things: only an O_PATH descriptor, whose
    fstat says that it is neither, makes it safe.
    """
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)


def read_link(fd: int) -> str:
    """Return where a pinned link points."""
    return os.readlink("", dir_fd=fd)


def look_at(directory: int, name: str) -> os.stat_result | None:
    """Return the stat of one entry, of a link itself; None when there is none."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def new_directory(parent: int, name: str, mode: int = 0o755) -> int:
    """Make a directory, or take the one that is there, and return a descriptor to read it."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        pass
    return open_directory(parent, name)


def open_directory(parent: int, name: str) -> int:
    """Open one entry that is a directory, and no link to one, for reading."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)
