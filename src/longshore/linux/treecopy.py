"""Copy files and directories from descriptors to descriptors: holes, modes, owners, times, links.

Either side may be changed by somebody hostile while it is copied. So each entry is pinned before
it is looked at, what is read is what was looked at, a link is copied and never followed, and each
new file is made by its name in an open directory, where nothing was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from longshore import _log
from longshore.linux.files import mount_of, write_all
from longshore.linux.rooted import look_at, open_directory, pin, read_link, reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Self

MAX_DEPTH = 200  # directories in one another; each takes three descriptors and three frames
_CHUNK = 64 << 20  # of one call in the kernel, so that Ctrl-C is heard
_BUFFER = 1 << 20
_MOST_UNSIZED = 64 << 20  # bytes; no file of /proc or /sys is nearly as large
_MAX_LINKED = 256  # files with several names that are kept in mind; each holds a descriptor
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CAPABILITY = "security.capability"
NOTHING: Mapping[str, bytes] = {}


class Copier:
    """One copy and its rules. Not for several threads; close it by leaving its context.

    ``owner`` is the uid and gid of what is made, None what ``owners`` makes of the source's.
    Without ``privileges`` setuid, setgid and file capabilities are dropped. ``overwrite`` lets a
    directory replace a file and the reverse, which is an error otherwise. ``without`` are names
    that are left out at the top. ``trail`` says after an error where it was.
    """

    def __init__(
        self,
        *,
        owner: tuple[int, int] | None,
        privileges: bool,
        overwrite: bool = False,
        owners: Callable[[int, int], tuple[int, int]] = lambda uid, gid: (uid, gid),
    ) -> None:
        self.owner = owner
        self.owners = owners
        self.privileges = privileges
        self.overwrite = overwrite
        self.without: Collection[str] = ()
        self.trail: list[str] = []
        self._made: set[tuple[int, int]] = set()
        self._linked: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._linked:
            os.close(self._linked.popitem()[1])

    def pinned(self, fd: int, target: int, new: str) -> None:
        """Copy what an O_PATH descriptor refers to, to the entry ``new`` of an open directory."""
        info = os.fstat(fd)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            self._directory(fd, info, target, new)
        elif kind == stat.S_IFREG:
            self._file(fd, info, target, new)
        elif kind == stat.S_IFLNK:
            self.link(read_link(fd), info, target, new)
        elif kind == stat.S_IFIFO:
            self.fifo(info, target, new)
        else:
            what = "socket" if kind == stat.S_IFSOCK else "device"
            _log.warn(f"{'/'.join(self.trail) or new} is a {what} and is not copied")

    def contents(self, source: int, target: int) -> None:
        """Copy all that is in one open directory into another."""
        without = () if self.trail else self.without
        info = os.fstat(target)
        if len(self._made) == 0:
            self._made.add((info.st_dev, info.st_ino))
        if len(self.trail) > MAX_DEPTH:
            raise OSError(errno.ELOOP, f"more than {MAX_DEPTH} directories in one another")
        for name in os.listdir(source):
            if name in without:
                continue
            self.trail.append(name)
            depth = len(self.trail)
            try:
                fd = pin(source, name)
                try:
                    self.pinned(fd, target, name)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                # it went while we looked; what is missing on the other side is another matter
                if look_at(source, name) is not None:
                    raise
            del self.trail[depth - 1 :]

    def _directory(self, fd: int, info: os.stat_result, target: int, new: str) -> None:
        if (info.st_dev, info.st_ino) in self._made:
            _log.warn(f"{'/'.join(self.trail)} is what is being made; it is not copied into itself")
            return
        there = look_at(target, new)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            if not self.overwrite:
                raise NotADirectoryError(errno.ENOTDIR, "a directory cannot replace a file", new)
            remove(target, new)
            there = None
        if there is None:
            os.mkdir(new, 0o700, dir_fd=target)
        source = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
        try:
            made = open_directory(target, new)
            try:
                self.contents(source, made)
                if there is None:
                    self.attributes(made, info, extended_of(source))
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _file(self, fd: int, info: os.stat_result, target: int, new: str) -> None:
        identity = (info.st_dev, info.st_ino)
        first = self._linked.get(identity)
        if first is not None:
            with contextlib.suppress(OSError):  # on another file system, say
                # linkat(2): AT_SYMLINK_FOLLOW on /proc/self/fd is the way from a descriptor
                self.place(target, new, lambda name: os.link(
                    f"/proc/self/fd/{first}", name, dst_dir_fd=target, follow_symlinks=True
                ))  # fmt: skip
                return
        reader = reopen(fd, os.O_RDONLY)
        try:
            self.file(
                lambda writer: copy_data(reader, writer, info.st_size),
                info,
                target,
                new,
                extended_of(reader),
            )
        finally:
            os.close(reader)
        if info.st_nlink > 1 and len(self._linked) < _MAX_LINKED and first is None:
            with contextlib.suppress(OSError):
                self._linked[identity] = pin(target, new)

    def file(
        self,
        fill: Callable[[int], None],
        info: os.stat_result,
        target: int,
        new: str,
        extended: Mapping[str, bytes] = NOTHING,
    ) -> None:
        """Make a regular file that ``fill`` writes, with the attributes of ``info``."""

        def make(name: str) -> None:
            writer = os.open(name, _EXCLUSIVE, 0o600, dir_fd=target)
            try:
                fill(writer)
                self.attributes(writer, info, extended)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=target)
                raise
            finally:
                os.close(writer)

        self.place(target, new, make, fill)

    def link(self, text: str, info: os.stat_result, target: int, new: str) -> None:
        """Make a symbolic link."""
        self.place(target, new, lambda name: os.symlink(text, name, dir_fd=target))
        self._named(info, target, new)

    def fifo(self, info: os.stat_result, target: int, new: str) -> None:
        """Make a fifo."""
        self.place(target, new, lambda name: os.mkfifo(name, 0o600, dir_fd=target))
        self._named(info, target, new)

    def place(
        self,
        target: int,
        new: str,
        make: Callable[[str], None],
        fill: Callable[[int], None] | None = None,
    ) -> None:
        """Let ``make`` make something by a name, and put it where a file may be, in one step.

        ``fill`` writes its content, if that takes time or may go into a file that is there.
        """
        there = look_at(target, new)
        if there is None:
            if fill is None:
                make(new)
                return
        elif stat.S_ISDIR(there.st_mode):
            if not self.overwrite:
                raise IsADirectoryError(errno.EISDIR, "a file cannot replace a directory", new)
            remove(target, new)
        elif stat.S_ISFIFO(there.st_mode):
            pass  # replaced by its name, and never opened
        elif not (stat.S_ISREG(there.st_mode) or stat.S_ISLNK(there.st_mode)):
            raise FileExistsError(errno.EEXIST, "it is a device or a socket", new)
        elif _rewritten(target, new, fill):
            return
        temporary = f".longshore-{os.urandom(6).hex()}.tmp"
        make(temporary)
        try:
            os.rename(temporary, new, src_dir_fd=target, dst_dir_fd=target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=target)
            raise

    def attributes(
        self, fd: int, info: os.stat_result, extended: Mapping[str, bytes] = NOTHING
    ) -> None:
        """Give an open file or directory its owner, mode, extended attributes and times."""
        os.fchown(fd, *(self.owner or self.owners(info.st_uid, info.st_gid)))
        # after the owner, whose change clears setuid and capabilities
        os.fchmod(fd, stat.S_IMODE(info.st_mode) & (0o7777 if self.privileges else 0o1777))
        for name, value in extended.items():
            if name != _CAPABILITY or self.privileges:
                with contextlib.suppress(OSError):  # not every file system knows them
                    os.setxattr(fd, name, value)
        os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))

    def _named(self, info: os.stat_result, target: int, new: str) -> None:
        uid, gid = self.owner or self.owners(info.st_uid, info.st_gid)
        os.chown(new, uid, gid, dir_fd=target, follow_symlinks=False)
        if stat.S_ISFIFO(info.st_mode):
            fd = pin(target, new)
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(info.st_mode) & 0o1777)
            finally:
                os.close(fd)
        times = (info.st_atime_ns, info.st_mtime_ns)
        os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def made_up(mode: int, uid: int, gid: int, size: int, mtime_ns: int) -> os.stat_result:
    """Return the stat of a file that is nowhere but in an archive, or in memory."""
    plain = (mode, 0, 0, 1, uid, gid, size, *(mtime_ns // 1_000_000_000,) * 3)
    return os.stat_result(plain, {"st_atime_ns": mtime_ns, "st_mtime_ns": mtime_ns})


def is_carried(name: str) -> bool:
    """Whether an extended attribute goes with a copy."""
    return name.startswith("user.") or name == _CAPABILITY


def extended_of(fd: int) -> dict[str, bytes]:
    """Return the extended attributes of an open file that go with a copy."""
    found: dict[str, bytes] = {}
    with contextlib.suppress(OSError):  # not every file system has them
        for name in filter(is_carried, os.listxattr(fd)):
            found[name] = os.getxattr(fd, name)
    return found


def _rewritten(directory: int, name: str, fill: Callable[[int], None] | None) -> bool:
    """Replace the content of a file that is a mount point, as /etc/hosts is in a container.

    We have to look: the kernel refuses to replace mount points of our own mount namespace only, and
    takes away what others have mounted there (fs/namei.c, is_local_mountpoint, detach_mounts).
    """
    try:
        fd = pin(directory, name)
    except FileNotFoundError:
        return False
    try:
        if mount_of(fd) == mount_of(directory):
            return False
        if fill is None or not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EBUSY, "something is mounted there", name)
        writer = reopen(fd, os.O_WRONLY | os.O_TRUNC)
        try:
            fill(writer)
        finally:
            os.close(writer)
        return True
    finally:
        os.close(fd)


def remove(directory: int, name: str, deepest: int = MAX_DEPTH) -> None:
    """Remove an entry and all below it; EBUSY when anything there is a mount point of anybody.

    EMLINK: directories are nested deeper than this can follow.
    """
    if deepest == 0:
        raise OSError(errno.EMLINK, f"nested deeper than {MAX_DEPTH}", name)
    fd = pin(directory, name)
    try:
        if mount_of(fd) != mount_of(directory):
            raise OSError(errno.EBUSY, "something is mounted there", name)
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        if is_directory:
            opened = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for child in os.listdir(opened):
                    remove(opened, child, deepest - 1)
            finally:
                os.close(opened)
    finally:
        os.close(fd)
    if is_directory:
        os.rmdir(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def copy_data(reader: int, writer: int, size: int) -> None:
    """Copy a file of this size, holes as holes; one of size 0 is read to its end (as of /proc).

    What it grows by meanwhile is left out; if it shrinks the copy is as short. EFBIG: what has no
    size goes on for longer than anything of /proc, because somebody fills it while it is read.
    """
    if size == 0:
        while data := os.read(reader, _BUFFER):
            size += len(data)
            if size > _MOST_UNSIZED:
                raise OSError(errno.EFBIG, "it grows while it is read")
            write_all(writer, data)
        return
    reached = offset = 0
    while offset < size:
        begin, end = _next_data(reader, offset, size)
        reached = _copy_range(reader, writer, begin, end)
        if reached < end:
            size = reached
            break
        offset = end
    os.ftruncate(writer, size)


def _next_data(reader: int, offset: int, size: int) -> tuple[int, int]:
    try:
        begin = os.lseek(reader, offset, os.SEEK_DATA)
        return min(begin, size), min(os.lseek(reader, begin, os.SEEK_HOLE), size)
    except OSError as err:
        # ENXIO: only a hole is left; else the file system knows no holes
        return (size, size) if err.errno == errno.ENXIO else (offset, size)


def _copy_range(reader: int, writer: int, begin: int, end: int) -> int:
    """Copy bytes and return the position that was reached."""
    in_kernel = True
    while begin < end:
        count = 0
        if in_kernel:
            try:
                count = os.copy_file_range(reader, writer, min(end - begin, _CHUNK), begin, begin)
            except OSError as err:
                if err.errno not in _NO_RANGES:
                    raise
        if not count:
            # some file systems cannot, and some return 0 instead (as procfs did)
            in_kernel = False
            data = os.pread(reader, min(end - begin, _BUFFER), begin)
            if not data:
                break
            os.lseek(writer, begin, os.SEEK_SET)
            write_all(writer, data)
            count = len(data)
        begin += count
    return begin
