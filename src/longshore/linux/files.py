"""Files that are whole or not there: atomic writes, and reads that say what they found."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os

_serial = itertools.count()


def write_atomic(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step: readers see the old bytes or the new ones, never a part.

    Nothing is synced: after a power cut it may be the old one, or empty.
    """
    # pid and serial: two threads, or two processes, never share a temporary file
    temporary = f"{path}.{os.getpid()}.{next(_serial)}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException as err:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(err, OSError) and err.filename is None:
            err.filename = path  # write(2) does not say which
        raise


def create_exclusive(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Make a new file with all its bytes; FileExistsError when the name is taken."""
    temporary = f"{path}.{os.getpid()}.{next(_serial)}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            file.write(data)
        os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def read_file(path: str) -> bytes | None:
    """Return a file's bytes, or None when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        chunks: list[bytes] = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def remove_file(path: str) -> None:
    """Remove a file; its absence is fine."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory and its parents where they are new, with this mode less the umask."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_directory(parent, 0o755 if parent in _SHARED else mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)


def exposed(path: str) -> str:
    """Return why others than root and this user could change a directory; "" if they cannot.

    One that is not there is fine. What is above it is not looked at.
    """
    trusted = (0, os.geteuid())
    try:
        for info in (os.lstat(path), os.stat(path)):  # a link, and where it leads
            if info.st_uid not in trusted:
                return f"it belongs to user {info.st_uid}"
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return "others than its owner can write to it" if info.st_mode & 0o022 else ""


_SHARED = frozenset({"/var", "/var/lib", "/run", "/tmp"})


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, never following a link and never leaving its mount.

    A file system mounted below makes it fail (EBUSY) rather than be emptied. Absence is fine, and
    so is any depth: a container chooses how deep its directories are.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        remove_file(path)
        return
    try:
        mount = mount_of(root)
        for _ in range(_ROUNDS):
            # what is too deep comes up, to be emptied in the next round
            while _empty(root, mount, root, _DEEPEST):
                pass
            try:
                os.rmdir(path)
                return
            except FileNotFoundError:
                return
            except OSError as err:
                if err.errno != errno.ENOTEMPTY:
                    raise
        os.rmdir(path)
    finally:
        os.close(root)


def mount_of(fd: int) -> bytes | int:
    """Return what tells the mount of an open directory from all others.

    The device alone does not: a bind mount of a directory of the same file system has the same one.
    """
    with contextlib.suppress(OSError):
        for line in (read_file(f"/proc/self/fdinfo/{fd}") or b"").splitlines():
            if line.startswith(b"mnt_id:"):
                return line
    return os.fstat(fd).st_dev


# Directories in directories that are held open at once; more are moved up to the top.
_DEEPEST = 64
# How often something may appear in what is being removed, by who has come too late to it.
_ROUNDS = 100


def _empty(directory: int, mount: bytes | int, top: int, deepest: int) -> bool:
    """Empty a directory below ``top``, or ``top``; whether anything was moved there instead."""
    moved = False
    with os.scandir(directory) as entries:
        names = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_dir in names:
        if not is_dir:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            continue
        if deepest == 0:
            _move_up(directory, name, top)
            moved = True
            continue
        try:
            child = os.open(
                name,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=directory,
            )
        except FileNotFoundError:
            continue
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=directory, follow_symlinks=False)
            child = os.open(
                name,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=directory,
            )
        try:
            if mount_of(child) == mount:
                moved = _empty(child, mount, top, deepest - 1) or moved
        finally:
            os.close(child)
        try:
            os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except OSError as err:
            if err.errno != errno.ENOTEMPTY:
                raise
    return moved


def _move_up(directory: int, name: str, top: int) -> None:
    """Move a directory to ``top``, under a name that nothing there can have been given."""
    unique = f".{os.urandom(16).hex()}"
    with contextlib.suppress(FileNotFoundError):
        try:
            os.rename(name, unique, src_dir_fd=directory, dst_dir_fd=top)
        except PermissionError:  # what a directory is in is written in itself
            os.chmod(name, 0o700, dir_fd=directory, follow_symlinks=False)
            os.rename(name, unique, src_dir_fd=directory, dst_dir_fd=top)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of it, however little the descriptor takes at a time.

    BrokenPipeError when nobody will read it: a pipe's reader, or a terminal, is gone.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody gave us a non-blocking descriptor
            import select

            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
        except OSError as err:
            if err.errno == errno.EIO and os.isatty(fd):
                raise BrokenPipeError(err.errno, err.strerror) from err
            raise
