"""Say whether the kernel could execute a program, as its file is seen inside a container's root.

What can be told without executing it: where it is, what it is, and who may.
"""

from __future__ import annotations

import os
import stat
import struct

from longshore.oci.users import open_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.oci.schema import Process, User

_HEAD = 4096  # bytes; the kernel looks at fewer to choose what to do with a file
_PT_INTERP = 3
_MACHINE = slice(18, 20)  # e_machine in an ELF header of either class (elf(5))
_MUCH = 1 << 17  # bytes of arguments and environment that no kernel refuses (MAX_ARG_STRLEN)


def could_run(rootfs: str, process: Process, program: str) -> bool:
    """Whether nothing is seen that would keep execve(2) from beginning this program. I/O.

    ``program`` is a path, or a name to look up in the PATH of ``process``.
    """
    given = sum(len(word) + 1 for word in (*process["args"], *process["env"]))
    if given >= _MUCH:
        return False
    path = program
    if "/" not in program:
        found = _in_path(rootfs, process, program)
        if found is None:
            return False
        path = found
    path = os.path.join(process["cwd"], path)
    return _may_execute(rootfs, path, process["user"]) and is_executable(rootfs, path)


def _in_path(rootfs: str, process: Process, name: str) -> str | None:
    places = [word[5:] for word in process["env"] if word.startswith("PATH=")] or [""]
    for directory in places[-1].split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            fd = open_inside(rootfs, os.path.join(process["cwd"], path))
        except OSError:
            continue
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if stat.S_ISREG(mode) and mode & 0o111:
            return path
    return None


def _may_execute(rootfs: str, path: str, user: User) -> bool:
    """Whether the permission bits let this user come to a file and execute it; root may come."""
    words = [word for word in path.split("/") if word]
    groups = {user["gid"], *user.get("additionalGids", ())}
    for count in range(1, len(words) + 1):
        if words[count - 1] in (".", ".."):
            continue  # where one has been already
        try:
            fd = open_inside(rootfs, "/" + "/".join(words[:count]))
        except OSError:
            return False
        info = os.fstat(fd)
        os.close(fd)
        if user["uid"] == 0:
            allowed = stat.S_ISDIR(info.st_mode) or info.st_mode & 0o111
        elif user["uid"] == info.st_uid:
            allowed = info.st_mode & 0o100
        else:
            allowed = info.st_mode & (0o010 if info.st_gid in groups else 0o001)
        if not allowed:
            return False
    return True


def is_executable(rootfs: str, path: str) -> bool:
    """Whether a file is one that can be executed, whoever wants to. I/O, inside ``rootfs`` only.

    A program for this machine whose loader is there, or a script whose interpreter is, and not on
    a file system that is mounted noexec. What cannot be told is taken for executable.
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
