"""Say whether the kernel could execute a file, as it is seen inside a container's root."""

from __future__ import annotations

import os
import struct

from longshore.oci.users import open_inside

_HEAD = 4096  # bytes; the kernel looks at fewer to choose what to do with a file
_PT_INTERP = 3
_MACHINE = slice(18, 20)  # e_machine in an ELF header of either class (elf(5))


def is_executable(rootfs: str, path: str) -> bool:
    """Whether execve(2) of this file finds what it needs. I/O, inside ``rootfs`` only.

    A program for this machine whose loader is there, or a script whose interpreter is, and not on
    a file system that is mounted noexec. What cannot be told is taken for executable; permissions
    are not looked at.
    """
    try:
        head = _head(rootfs, path)
    except OSError:
        return False
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n")[0].split()
        return bool(words) and _is_there(rootfs, words[0])
    if not head.startswith(b"\x7fELF"):
        return False
    with open("/proc/self/exe", "rb") as own:
        if own.read(20)[_MACHINE] != head[_MACHINE]:
            return False
    loader = _loader(head)
    return not loader or _is_there(rootfs, loader)


def _head(rootfs: str, path: str) -> bytes:
    fd = open_inside(rootfs, path)
    try:
        if os.fstatvfs(fd).f_flag & os.ST_NOEXEC:
            return b""
        return os.read(fd, _HEAD)
    finally:
        os.close(fd)


def _is_there(rootfs: str, path: bytes) -> bool:
    try:
        os.close(open_inside(rootfs, os.fsdecode(path)))
    except OSError:
        return False
    return True


def _loader(head: bytes) -> bytes:
    """Return the path of an ELF program's loader, or b"" when it has none or it is further on."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    try:
        if wide:
            (offset,) = struct.unpack_from(order + "Q", head, 32)
            size, count = struct.unpack_from(order + "HH", head, 54)
        else:
            (offset,) = struct.unpack_from(order + "I", head, 28)
            size, count = struct.unpack_from(order + "HH", head, 42)
        for number in range(count):
            at = offset + number * size
            (kind,) = struct.unpack_from(order + "I", head, at)
            if kind == _PT_INTERP:
                layout = (order + "Q", 8, 32) if wide else (order + "I", 4, 16)
                (begin,) = struct.unpack_from(layout[0], head, at + layout[1])
                (length,) = struct.unpack_from(layout[0], head, at + layout[2])
                return head[begin : begin + length].rstrip(b"\0")
    except struct.error:
        pass
    return b""
