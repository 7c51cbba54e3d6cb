"""Find out who a user is inside a root file system, from its own /etc/passwd and /etc/group.

The root may be anybody's: its files are opened one name at a time, no link leads out of it, and
what is not a regular file, or too large, is not read.
"""

from __future__ import annotations

import errno
import os
import stat

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.options.names import is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_BYTES = 16 << 20
_MAX_LINKS = 40  # as the kernel's own
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ResolvedUser(Value):
    """Who a container's program runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()  # supplementary
    home: str = "/"
    name: str = ""  # "" when the number has no entry


def resolve_user(rootfs: str, user: str, group_add: Iterable[str] = ()) -> ResolvedUser:
    """Return who ``NAME|UID[:GROUP|GID]`` is; "" is uid 0. I/O, inside ``rootfs`` only.

    A number needs no entry: its group is then 0 and its home "/". Without a group of its own the
    user has those that /etc/group lists it in. Names that are not there are `InvalidArgument`.
    """
    who, _, group = user.partition(":")
    passwd = parse_table(read_inside(rootfs, "/etc/passwd"), 7)
    entry = find_user(passwd, who or "0")
    if entry is None:
        if not is_id(who or "0"):
            raise InvalidArgument(
                f"user: there is no {who!r} in the container's /etc/passwd",
                hint="give a number, or a name that is there",
            )
        name, uid, gid, home = "", int(who or 0), 0, "/"
    else:
        name, uid, gid, home = entry
    wanted = list(group_add)
    # most containers ask for none of this, and their group file need not be read
    groups = parse_table(read_inside(rootfs, "/etc/group"), 4) if user or wanted else []
    extra: list[int] = []
    if group:
        gid = _find_group(groups, group, "user")
    elif user:
        members = [row for row in groups if name and name in row[3].split(",")]
        extra = [int(row[2]) for row in members if is_id(row[2])]
    extra += [_find_group(groups, item, "group_add") for item in wanted]
    if user or extra:
        extra = list(dict.fromkeys([gid, *extra]))
    return ResolvedUser(uid=uid, gid=gid, groups=tuple(extra), home=home, name=name)


def find_user(passwd: Iterable[Sequence[str]], who: str) -> tuple[str, int, int, str] | None:
    """Return (name, uid, gid, home) of the first entry with this name, else with this uid."""
    by_uid: tuple[str, int, int, str] | None = None
    for row in passwd:
        if not (is_id(row[2]) and is_id(row[3])):
            continue
        found = (row[0], int(row[2]), int(row[3]), row[5] if row[5].startswith("/") else "/")
        if row[0] == who:
            return found
        if by_uid is None and is_id(who) and int(who) == found[1]:
            by_uid = found
    return by_uid


def _find_group(groups: Iterable[Sequence[str]], who: str, what: str) -> int:
    for row in groups:
        if row[0] == who and is_id(row[2]):
            return int(row[2])
    if is_id(who):
        return int(who)
    raise InvalidArgument(
        f"{what}: there is no group {who!r} in the container's /etc/group",
        hint="give a number, or a name that is there",
    )


def parse_table(content: bytes, columns: int) -> list[list[str]]:
    """Return the rows of a passwd(5) or group(5) file; lines that are none are left out."""
    rows: list[list[str]] = []
    for line in content.decode("utf-8", "replace").split("\n"):
        row = line.strip().split(":")
        if len(row) >= 3 and row[0] and not row[0].startswith(("#", "+", "-")) and "\0" not in line:
            # short lines are common in small images: the rest is empty
            row += [""] * (columns - len(row))
            rows.append(row)
    return rows


def read_inside(rootfs: str, path: str) -> bytes:
    """Return the bytes of a file inside the root; empty when it is not there."""
    try:
        fd = open_inside(rootfs, path)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise InvalidArgument(f"cannot read {path} of {rootfs}: {err.strerror}") from err
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{path} of {rootfs} is not a regular file")
        chunks: list[bytes] = []
        size = 0
        while chunk := os.read(fd, 1 << 16):
            size += len(chunk)
            if size > _MAX_BYTES:
                raise InvalidArgument(f"{path} of {rootfs} is larger than {_MAX_BYTES >> 20} MiB")
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def open_inside(rootfs: str, path: str) -> int:
    """Open a file for reading as if ``rootfs`` were /, and return the descriptor.

    What RESOLVE_IN_ROOT of openat2(2) means, one name at a time: ``..`` stops at the root, and a
    link starts again from there. Never blocks (a fifo) and never becomes a controlling terminal.
    """
    pending = [part for part in path.split("/") if part][::-1]
    opened = [os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name == ".":
                continue
            if name == "..":
                if len(opened) > 1:
                    os.close(opened.pop())
                continue
            target = _link(name, opened[-1])
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if target.startswith("/"):
                    while len(opened) > 1:
                        os.close(opened.pop())
                pending += [part for part in target.split("/") if part][::-1]
            elif pending:
                opened.append(os.open(name, _DIRECTORY, dir_fd=opened[-1]))
            else:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                return os.open(name, flags, dir_fd=opened[-1])
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    finally:
        for fd in opened:
            os.close(fd)


def _link(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as err:
        if err.errno == errno.EINVAL:
            return None  # not a link
        raise
