"""tar streams out of a container and into one.

The standard library reads and writes the headers, and never touches a file: each entry is made
relative to a descriptor, by `linux.treecopy`.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from longshore import _log
from longshore.errors import InvalidArgument
from longshore.linux.files import write_all
from longshore.linux.rooted import look_at, pin, read_link, reopen
from longshore.linux.treecopy import MAX_DEPTH, extended_of, is_carried, made_up, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import IO

    from longshore.linux.rooted import Rooted
    from longshore.linux.treecopy import Copier

_BUFFER = 1 << 16
_PAGE = 4096  # holes smaller than that are none
_XATTR = "SCHILY.xattr."  # the pax record in which tar, bsdtar and the engines keep them


def pack(
    fd: int,
    name: str,
    stream: IO[bytes],
    without: Collection[str] = (),
    *,
    owners: Callable[[int, int], tuple[int, int]] = lambda uid, gid: (uid, gid),
) -> None:
    """Write what an O_PATH descriptor refers to, and all below it, as an archive.

    Owners are what ``owners`` makes of those of the files. ``name`` is that of the entry; "" is for
    the contents of a directory. ``without`` are names in it that are left out.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _Packer(tar, owners).add(fd, name, without)


class _Packer:
    def __init__(self, tar: tarfile.TarFile, owners: Callable[[int, int], tuple[int, int]]) -> None:
        self._tar = tar
        self._owners = owners
        self._names: dict[tuple[int, int], str] = {}
        self._depth = 0

    def add(self, fd: int, name: str, without: Collection[str] = ()) -> None:
        info = os.fstat(fd)
        entry = tarfile.TarInfo(name or ".")
        entry.mode = stat.S_IMODE(info.st_mode)
        entry.uid, entry.gid = self._owners(info.st_uid, info.st_gid)
        entry.mtime = info.st_mtime_ns / 1e9
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            entry.type = tarfile.DIRTYPE
            self._tar.addfile(entry)
            self._below(fd, name, without)
        elif kind == stat.S_IFLNK:
            entry.type = tarfile.SYMTYPE
            entry.linkname = read_link(fd)
            self._tar.addfile(entry)
        elif kind == stat.S_IFIFO:
            entry.type = tarfile.FIFOTYPE
            self._tar.addfile(entry)
        elif kind == stat.S_IFREG:
            self._file(fd, info, entry)
        else:
            what = "socket" if kind == stat.S_IFSOCK else "device"
            _log.warn(f"{name} is a {what} and is not copied")

    def _file(self, fd: int, info: os.stat_result, entry: tarfile.TarInfo) -> None:
        first = self._names.get((info.st_dev, info.st_ino))
        if first is not None:
            entry.type = tarfile.LNKTYPE
            entry.linkname = first
            self._tar.addfile(entry)
            return
        if info.st_nlink > 1:
            self._names[info.st_dev, info.st_ino] = entry.name
        reader = reopen(fd, os.O_RDONLY)
        try:
            entry.pax_headers = {
                _XATTR + name: value.decode("utf-8", "surrogateescape")
                for name, value in extended_of(reader).items()
            }
            entry.size = info.st_size
            self._tar.addfile(entry, _Exactly(reader, info.st_size))  # type: ignore[arg-type]
        finally:
            os.close(reader)

    def _below(self, fd: int, name: str, without: Collection[str]) -> None:
        if self._depth > MAX_DEPTH:
            raise OSError(errno.ELOOP, f"more than {MAX_DEPTH} directories in one another", name)
        directory = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
        self._depth += 1
        try:
            for child in sorted(os.listdir(directory)):
                if child in without:
                    continue
                try:
                    entry = pin(directory, child)
                except FileNotFoundError:
                    continue  # it went while we looked
                try:
                    self.add(entry, f"{name}/{child}" if name else child)
                finally:
                    os.close(entry)
        finally:
            self._depth -= 1
            os.close(directory)


class _Exactly:
    """As many bytes of a file as its header has announced; zeros when it has become shorter."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size

    def read(self, count: int) -> bytes:
        wanted = min(count, self._left)
        self._left -= wanted
        data = b""
        while len(data) < wanted:
            piece = os.read(self._fd, wanted - len(data))
            data += piece or bytes(wanted - len(data))
        return data


def unpack(root: Rooted, top: str, stream: IO[bytes], copier: Copier) -> None:
    """Make what an archive holds below the directory ``top`` of a root; it may be compressed.

    InvalidArgument for what is no archive, and for a name with ``..`` in it. Links on the way to
    an entry are followed inside the root, as a tar that runs in the container would.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            unpacker = _Unpacker(root, top, copier)
            for member in tar:
                unpacker.member(tar, member)
            unpacker.finish()
    except InvalidArgument:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as err:
        # of numbers and texts that no file can have, too
        raise InvalidArgument(f"the stream is not a whole tar archive: {err}") from err


class _Unpacker:
    def __init__(self, root: Rooted, top: str, copier: Copier) -> None:
        self._root = root
        self._top = top.rstrip("/")
        self._copier = copier
        self._directories: list[tuple[str, os.stat_result]] = []

    def member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        head, name = self._split(member.name)
        if not name:
            return
        self._copier.trail[:] = [member.name]
        parent = self._parent(head)
        try:
            info = _stat_of(member)
            if member.isdir():
                path = f"{self._top}/{head}/{name}"
                there = look_at(parent, name)
                if there is not None and stat.S_ISREG(there.st_mode) and self._copier.overwrite:
                    remove(parent, name)
                    there = None
                os.close(self._root.make_directories(path))
                if there is None:
                    self._directories.append((path, info))
            elif member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                extended = _extended(member)
                self._copier.file(
                    lambda fd: _fill(fd, content, member.size), info, parent, name, extended
                )
            elif member.issym():
                self._copier.link(member.linkname, info, parent, name)
            elif member.islnk():
                self._hard_link(member.linkname, parent, name)
            elif member.isfifo():
                self._copier.fifo(info, parent, name)
            else:
                _log.warn(f"{member.name} is a device or unknown, and is not copied")
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Give the directories their attributes, which making things in them has changed."""
        for path, info in reversed(self._directories):
            fd = self._root.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._copier.attributes(fd, info)
            finally:
                os.close(fd)

    def _split(self, name: str) -> tuple[str, str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise InvalidArgument(
                f"{name!r} in the archive leads out of the directory it is unpacked in",
                hint="nothing was made for this entry; those before it were",
            )
        return "/".join(parts[:-1]), parts[-1] if parts else ""

    def _parent(self, head: str) -> int:
        path = f"{self._top}/{head}"
        try:
            return self._root.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            fd = self._root.make_directories(path)
        if self._copier.owner is not None:
            os.chown(f"/proc/self/fd/{fd}", *self._copier.owner)
        return fd

    def _hard_link(self, to: str, parent: int, name: str) -> None:
        head, last = self._split(to)
        other = self._root.open(f"{self._top}/{head}", os.O_PATH | os.O_DIRECTORY)
        try:
            self._copier.place(parent, name, lambda new: os.link(
                last, new, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False
            ))  # fmt: skip
        finally:
            os.close(other)


def _fill(fd: int, content: IO[bytes], size: int) -> None:
    while data := content.read(_BUFFER):
        if len(data) >= _PAGE and not data.strip(b"\0"):
            os.lseek(fd, len(data), os.SEEK_CUR)
        else:
            write_all(fd, data)
    os.ftruncate(fd, size)


def _extended(member: tarfile.TarInfo) -> dict[str, bytes]:
    found = {key.removeprefix(_XATTR): value for key, value in member.pax_headers.items()}
    return {
        name: value.encode("utf-8", "surrogateescape")
        for name, value in found.items()
        if is_carried(name) and _XATTR + name in member.pax_headers
    }


def _stat_of(member: tarfile.TarInfo) -> os.stat_result:
    kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK,
             tarfile.FIFOTYPE: stat.S_IFIFO}  # fmt: skip
    mode = (member.mode & 0o7777) | kinds.get(member.type, stat.S_IFREG)
    ns = int(member.mtime * 1_000_000_000)
    return made_up(mode, member.uid, member.gid, member.size, ns)
