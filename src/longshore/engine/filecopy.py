"""Copy files into containers, out of them and between them; read and write single ones.

The rules of podman-cp(1): what becomes of a source at a target that is there, or not, or a
directory. A path in a container is one of its root, links and all; none leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from longshore.engine.views import creating_as, opened
from longshore.errors import InvalidArgument, LongshoreError, NoSuchPath
from longshore.linux.files import write_all
from longshore.linux.rooted import Rooted, Spot, Tree, reopen
from longshore.linux.treecopy import Copier, made_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import IO, Any

    from longshore.engine.machinery import Machinery
    from longshore.engine.views import View

    AnyPath = str | os.PathLike[str]

# Left out when all of a container's root is copied: they are the kernel's, not files.
_KERNELS = ("dev", "proc", "sys")
_PLAIN = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


class Side:
    """One end of a copy: a path in a tree, and how a message names it."""

    __slots__ = ("path", "shown", "tree")

    def __init__(self, tree: Tree, path: str, view: View | None = None) -> None:
        self.tree = tree
        self.path = path
        self.shown = path if view is None else f"{view.name}:{path}"

    @property
    def base(self) -> str:
        """The last name of the path; "" when it means what is in a directory."""
        last = self.path.rstrip("/").rpartition("/")[2]
        return "" if last in (".", "..") else last


def copy_in(
    machinery: Machinery,
    container_id: str,
    source: AnyPath | IO[bytes],
    target: AnyPath,
    *,
    keep_owner: bool,
    overwrite: bool,
) -> None:
    """Copy from the host, or unpack a tar stream, into a container."""
    if machinery.rootless is not None:
        _within(
            machinery, "copy_in", container_id, source, target,
            keep_owner=keep_owner, overwrite=overwrite,
        )  # fmt: skip
        return
    path = _text(target)
    with contextlib.ExitStack() as stack:
        waited_for = not isinstance(source, str | os.PathLike)  # who writes it may take his time
        while True:
            with (
                opened(machinery, container_id, "copy into", [path]) as view,
                creating_as(view.record.config),
            ):
                inside = Side(view.root, path, view)
                copier = Copier(
                    owner=None if keep_owner else view.owner(), privileges=True,
                    overwrite=overwrite, owners=view.outside,
                )  # fmt: skip
                if isinstance(source, str | os.PathLike) and machinery.user is not None:
                    copier.owners = _as_they_are
                if isinstance(source, str | os.PathLike):
                    _copy(Side(Tree(), _text(source)), inside, copier)
                    return
                with copier, _told("unpack the archive to", inside.shown, copier):
                    with _found(inside) as spot:
                        if not spot.is_directory:
                            raise InvalidArgument(
                                f"{inside.shown} is not a directory",
                                hint="an archive is unpacked into a directory that is there",
                            )
                    if not (view.locked and waited_for):
                        from longshore.engine import tars

                        tars.unpack(view.root, f"/{path.strip('/')}", source, copier)
                        return
            with _told("keep an archive for", inside.shown):
                spool = stack.enter_context(_spool(machinery))
                _pour(source, spool)
                spool.seek(0)
            source, waited_for = spool, False


def copy_out(
    machinery: Machinery,
    container_id: str,
    source: AnyPath,
    target: AnyPath | IO[bytes],
    *,
    keep_owner: bool,
    overwrite: bool,
) -> None:
    """Copy from a container to the host, or write a tar stream."""
    if machinery.rootless is not None:
        _within(
            machinery, "copy_out", container_id, source, target,
            keep_owner=keep_owner, overwrite=overwrite,
        )  # fmt: skip
        return
    path = _text(source)
    with contextlib.ExitStack() as stack:
        with opened(machinery, container_id, "copy from", [path]) as view:
            inside = Side(view.root, path, view)
            if isinstance(target, str | os.PathLike):
                owner = None if keep_owner else (os.geteuid(), os.getegid())
                # Not a program with the rights of root that a container has made.
                copier = Copier(
                    owner=owner, privileges=keep_owner, overwrite=overwrite,
                    owners=_as_they_are if machinery.user is not None else view.inside,
                )  # fmt: skip
                _copy(inside, Side(Tree(), _text(target)), copier)
                return
            with _told("copy", inside.shown):
                # who reads the archive may take his time
                spool = stack.enter_context(_spool(machinery)) if view.locked else None
                _pack(view, inside, spool or target)
        if spool is not None:
            spool.seek(0)
            with _told("copy", inside.shown):
                _pour(spool, target)


def _as_they_are(uid: int, gid: int) -> tuple[int, int]:
    """Of files of an ordinary user and of a container of its: all are ids of its namespace."""
    return uid, gid


def _pack(view: View, inside: Side, stream: IO[bytes]) -> None:
    from longshore.engine import tars

    with _found(inside) as spot:
        _refuse_special(inside, spot)
        fd = spot.pin()
        try:
            name = inside.base if spot.name else ""
            tars.pack(fd, name, stream, _left_out(inside, spot), owners=view.inside)
        finally:
            os.close(fd)


def _spool(machinery: Machinery) -> IO[bytes]:
    """Make a file without a name, for an archive on its way."""
    import tempfile

    # beside the containers: /tmp may be memory
    return tempfile.TemporaryFile(dir=machinery.settings.root)


def _pour(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy all that is left of a stream."""
    while data := source.read(1 << 20):
        target.write(data)


def copy_between(
    machinery: Machinery,
    container_id: str,
    source: AnyPath,
    other: tuple[Machinery, str],
    target: AnyPath,
    *,
    keep_owner: bool,
    overwrite: bool,
) -> None:
    """Copy from one container into another, or within one."""
    if machinery.rootless is not None:
        settings = other[0].settings
        _within(
            machinery, "copy_between_engines", container_id, source,
            (settings.root, settings.run_root, other[1]), target,
            keep_owner=keep_owner, overwrite=overwrite,
        )  # fmt: skip
        return
    here, there = _text(source), _text(target)
    asked = {container_id: (machinery, [here])}
    asked.setdefault(other[1], (other[0], []))[1].append(there)
    with contextlib.ExitStack() as stack:
        # Always in one order, so that two copies never wait for each other's locks.
        views = {
            one: stack.enter_context(opened(asked[one][0], one, "copy", asked[one][1]))
            for one in sorted(asked)
        }
        origin, goal = views[container_id], views[other[1]]
        owner = None if keep_owner else goal.owner()
        copier = Copier(
            owner=owner, privileges=True, overwrite=overwrite,
            owners=lambda uid, gid: goal.outside(*origin.inside(uid, gid)),
        )  # fmt: skip
        stack.enter_context(creating_as(goal.record.config))
        _copy(Side(origin.root, here, origin), Side(goal.root, there, goal), copier)


def read(machinery: Machinery, container_id: str, path: AnyPath) -> bytes:
    """Return the bytes of a regular file in a container."""
    if machinery.rootless is not None:
        data: bytes = _within(machinery, "read", container_id, _text(path))
        return data
    name = _text(path)
    with opened(machinery, container_id, "read from", [name]) as view:
        side = Side(view.root, name, view)
        with _told("read", side.shown), _found(side) as spot:
            fd = _opened_file(side, spot)
            with open(fd, "rb", buffering=0) as file:
                return file.readall()


def write(
    machinery: Machinery,
    container_id: str,
    path: AnyPath,
    data: Any,
    *,
    mode: int | None,
    user: str | None,
) -> None:
    """Put a file into a container in one step, instead of the one that is there."""
    try:
        content = bytes(memoryview(data))
    except TypeError:
        raise InvalidArgument(
            f"data: {type(data).__name__} is not bytes", hint="text.encode()"
        ) from None
    name = _text(path)
    if machinery.rootless is not None:
        _within(machinery, "write", container_id, name, content, mode=mode, user=user)
        return
    with (
        opened(machinery, container_id, "write to", [name]) as view,
        creating_as(view.record.config),
    ):
        side = Side(view.root, name, view)
        with _told("write", side.shown), side.tree.find(name) as spot:
            there = spot.info
            if not spot.name or (there is not None and not stat.S_ISREG(there.st_mode)):
                raise InvalidArgument(f"{side.shown} is not a regular file")
            if there is None and name.endswith("/"):
                raise InvalidArgument(f"{side.shown} names a directory")
            if user is not None or there is None:
                owner = view.owner(user)
            else:
                owner = (there.st_uid, there.st_gid)
            if mode is None:
                mode = 0o644 if there is None else stat.S_IMODE(there.st_mode)
            info = made_up(stat.S_IFREG | mode, *owner, len(content), time.time_ns())
            copier = Copier(owner=owner, privileges=True)
            copier.file(lambda fd: write_all(fd, content), info, spot.parent, spot.name)


def copy_between_engines(
    machinery: Machinery,
    container_id: str,
    source: str,
    other: tuple[str, str, str],
    target: str,
    **options: bool,
) -> None:
    """Do what `copy_between` does; the other engine is said by its directories."""
    from longshore.config import Settings
    from longshore.engine.machinery import Machinery as Other

    there = Other(Settings(root=other[0], run_root=other[1]))
    if there.settings.root == machinery.settings.root:
        there = machinery
    copy_between(machinery, container_id, source, (there, other[2]), target, **options)


def _within(machinery: Machinery, function: str, *args: Any, **options: Any) -> Any:
    """Call one of these functions in the namespace of this user, which knows the files' owners."""
    from longshore.engine.within import Piped, call

    stream = None
    given = list(args)
    host = {"copy_in": 1, "copy_out": 2}.get(function)
    for n, one in enumerate(args):
        if hasattr(one, "read") or hasattr(one, "write"):
            stream = one
            given[n] = Piped(writes=function == "copy_out")
        elif n == host:
            given[n] = _from_here(_text(one))
        elif hasattr(one, "__fspath__"):
            given[n] = _text(one)
    return call(machinery, "engine.filecopy", function, *given, stream=stream, **options)


def _from_here(path: str) -> str:
    """Make a path of the host absolute, and no more: a "/." at its end means something."""
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"


def _copy(source: Side, target: Side, copier: Copier) -> None:
    with (
        copier,
        _told("copy", f"{source.shown} to {target.shown}", copier),
        _found(source) as spot,
        target.tree.find(target.path) as place,
    ):
        _refuse_special(source, spot)
        if place.info is None and target.path.endswith("/"):
            raise NoSuchPath(
                f"{target.shown}: no such directory", hint="make it, or leave the slash out"
            )
        if place.info is not None and stat.S_IFMT(place.info.st_mode) not in _PLAIN:
            raise InvalidArgument(f"{target.shown} is a device, a fifo or a socket")
        replaces = place.info is not None and not place.is_directory
        if spot.is_directory and replaces and not copier.overwrite:
            raise InvalidArgument(
                f"{source.shown} is a directory, and {target.shown} is not",
                hint="with overwrite (--overwrite) it is replaced",
            )
        copier.without = _left_out(source, spot)
        fd = spot.pin()
        try:
            if not place.is_directory:
                copier.pinned(fd, place.parent, place.name)
                return
            into = place.pin()
            try:
                if spot.is_directory and not (spot.name and source.base):
                    _contents(fd, into, copier)
                else:
                    copier.pinned(fd, into, source.base)
            finally:
                os.close(into)
        finally:
            os.close(fd)


def _refuse_special(side: Side, spot: Spot) -> None:
    """Refuse what is left out with a warning where it is one of many."""
    if spot.info is not None and stat.S_IFMT(spot.info.st_mode) not in (*_PLAIN, stat.S_IFIFO):
        raise InvalidArgument(f"{side.shown} is a device or a socket, which cannot be copied")


def _contents(fd: int, into: int, copier: Copier) -> None:
    source = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copier.contents(source, into)
    finally:
        os.close(source)


def _left_out(side: Side, spot: Spot) -> tuple[str, ...]:
    """Return what of a directory is not copied: a container's root has what are no files."""
    root = side.tree
    if spot.info is None or spot.name or not isinstance(root, Rooted):
        return ()
    return _KERNELS if os.path.samestat(spot.info, os.fstat(root.fd)) else ()


def _opened_file(side: Side, spot: Spot) -> int:
    """Open what is at a spot for reading, if it is a regular file."""
    fd = spot.pin()
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{side.shown} is not a regular file")
        return reopen(fd, os.O_RDONLY)
    finally:
        os.close(fd)


def _found(side: Side) -> Spot:
    """Return where a path leads that has to be there."""
    spot = side.tree.find(side.path)
    if spot.info is None:
        spot.__exit__()
        raise NoSuchPath(f"{side.shown}: no such file or directory")
    return spot


def _text(path: AnyPath) -> str:
    text = os.fspath(path)
    if not text or "\0" in text:
        raise InvalidArgument(f"{text!r} is not a path")
    return text


@contextlib.contextmanager
def _told(verb: str, what: str, copier: Copier | None = None) -> Generator[None]:
    """Say what was being done, and where, when the kernel refuses something in it."""
    try:
        yield
    except (LongshoreError, BrokenPipeError):
        raise
    except OSError as err:
        where = "/".join(copier.trail) if copier is not None else ""
        reason = f"{where}: {err.strerror}" if where else f"{err.strerror}"
        kind = NoSuchPath if isinstance(err, FileNotFoundError) else LongshoreError
        raise kind(f"cannot {verb} {what}: {reason}", hint=_HINTS.get(err.errno or 0)) from err


_HINTS = {
    errno.EROFS: "that file system is read-only, or a tmpfs, which has content only while it runs",
    errno.ELOOP: "a link of /proc leads out of the container, or links lead in a circle",
    errno.EISDIR: "with overwrite (--overwrite) a file replaces a directory",
    errno.ENOTDIR: "with overwrite (--overwrite) a directory replaces a file",
}
