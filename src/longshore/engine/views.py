"""A container's file system as its programs see it, running or not.

What runs is seen through its first process. What does not run gets a mount namespace of its own
for as long as it is looked at: its copy-on-write root and its volumes are mounted there and nowhere
else, and the kernel takes all of it away with the last descriptor, whatever happens to us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import threading

from longshore.engine import finishing
from longshore.engine.observe import look
from longshore.engine.roots import unmount_view
from longshore.errors import HostUnsupported, LongshoreError
from longshore.lifecycle import Status
from longshore.linux.libc import call
from longshore.linux.mounts import mount
from longshore.linux.processes import is_alive
from longshore.linux.rooted import Rooted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId
    from longshore.models import Mount
    from longshore.options import ContainerConfig
    from longshore.store import Record
    from longshore.store.records import Locked

_CLONE_NEWNS = 0x20000
_GET_SECUREBITS, _SET_SECUREBITS, _NO_SETUID_FIXUP = 27, 28, 4  # linux/prctl.h, securebits.h
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18  # sys/mount.h
_NOBODY = 65534  # as the kernel shows what is not mapped (user_namespaces(7))
_LIVE = (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)


class View:
    """The root of a container, and its record as it was when it was opened.

    ``locked``: the container does not run, and nobody can start it now.
    """

    __slots__ = ("locked", "record", "root")

    def __init__(self, root: Rooted, record: Record, *, locked: bool) -> None:
        self.root = root
        self.record = record
        self.locked = locked

    @property
    def name(self) -> str:
        """The name of the container."""
        return self.record.name

    def owner(self, user: str | None = None) -> tuple[int, int]:
        """Return the uid and gid of a user of the container, by default the one it runs as."""
        from longshore.oci.users import resolve_user

        who = self.record.config.user if user is None else user
        found = resolve_user(f"/proc/self/fd/{self.root.fd}", who)
        return self.outside(found.uid, found.gid)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return what ids of the container are to us. OSError for one that it has not."""
        config = self.record.config
        if not config.mapped_uids:
            return uid, gid
        from longshore.linux import userns

        uids, gids = userns.parse(config.mapped_uids), userns.parse(config.mapped_gids)
        ours = userns.outside(uids, uid), userns.outside(gids, gid)
        if ours[0] is None or ours[1] is None:
            raise OSError(errno.EINVAL, f"the container has no id {uid}:{gid}")
        return ours[0], ours[1]

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Return what ids of ours are in the container: nobody's, if it has not got them."""
        config = self.record.config
        if not config.mapped_uids:
            return uid, gid
        from longshore.linux import userns

        uids, gids = userns.parse(config.mapped_uids), userns.parse(config.mapped_gids)
        mine = userns.inside(uids, uid), userns.inside(gids, gid)
        return _NOBODY if mine[0] is None else mine[0], _NOBODY if mine[1] is None else mine[1]


@contextlib.contextmanager
def creating_as(config: ContainerConfig) -> Generator[None]:
    """Let this thread make files as the root of a container that root has given other ids.

    On an idmapped mount the kernel makes none for an id that is not mapped (EOVERFLOW), as root's
    own is not. Its capabilities stay, for this thread and this time (capabilities(7), securebits).
    """
    from longshore.linux import userns

    if not config.mapped_uids or userns.owner() is not None:
        yield
        return
    uid = userns.outside(userns.parse(config.mapped_uids), 0)
    gid = userns.outside(userns.parse(config.mapped_gids), 0)
    bits = call("prctl", _GET_SECUREBITS, 0, 0, 0, 0)
    call("prctl", _SET_SECUREBITS, bits | _NO_SETUID_FIXUP, 0, 0, 0)
    try:
        call("setfsgid", os.getegid() if gid is None else gid)
        call("setfsuid", os.geteuid() if uid is None else uid)
        yield
    finally:
        call("setfsuid", os.geteuid())
        call("setfsgid", os.getegid())
        call("prctl", _SET_SECUREBITS, bits, 0, 0, 0)


@contextlib.contextmanager
def opened(
    machinery: Machinery, container_id: str, purpose: str, paths: Sequence[str] = ()
) -> Generator[View]:
    """Open a container's file system. Its status stays as it is, but STOPPED → EXITED.

    One that does not run is locked meanwhile: nothing that others can draw out is to be done then.
    ``paths`` are those that are asked for: the places
    of volumes that they are below are made if they are missing, as a start would.
    """
    while True:
        record = machinery.store.peek(container_id)
        init = look(machinery, record).init
        if init is not None and record.run is not None and record.run.sandboxed:
            raise HostUnsupported(
                f"the files of container {record.name} were asked for while it runs",
                f"{record.run.runtime}, whose sandbox has them for itself",
                hint="stop it first, or use `exec` with cat or tar",
            )
        root = _of_process(init)
        if root is not None:
            with root:
                yield View(root, record, locked=False)
            return
        with finishing.settled(machinery, container_id, purpose) as held:
            if held.record.status is Status.STOPPED:
                finishing.cleanup(machinery, held)
            if held.record.status not in _LIVE:  # else it was started meanwhile
                with _at_rest(machinery, held, paths) as root:
                    try:
                        yield View(root, held.record, locked=True)
                    finally:
                        unmount_view(machinery, held.record, root.more[0])
                return


def _of_process(init: ProcessId | None) -> Rooted | None:
    """Return what exactly this process has as /; None when it has ended."""
    if init is None:
        return None
    fds: list[int] = []
    try:
        fds.append(os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        # it keeps the mounts when the last process of the container ends meanwhile
        fds.append(os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        if is_alive(init):
            return Rooted(fds[0], fds[1:])
    except (FileNotFoundError, ProcessLookupError):
        pass
    for fd in fds:
        os.close(fd)
    return None


def _at_rest(machinery: Machinery, held: Locked, paths: Sequence[str]) -> Rooted:
    """Return the root of a container that does not run. Its lock is held."""
    roots: list[Rooted] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            roots.append(_mounted(machinery, held, paths))
        except BaseException as err:
            errors.append(err)

    # unshare(2) is for one thread; the namespace outlives it by its descriptor
    thread = threading.Thread(target=work, name="mounting a container's files")
    thread.start()
    thread.join()
    for error in errors:
        if isinstance(error, OSError):
            raise LongshoreError(
                f"cannot mount the files of container {held.record.name}: {error}"
            ) from error
        raise error
    return roots[0]


def _mounted(machinery: Machinery, held: Locked, paths: Sequence[str]) -> Rooted:
    from longshore.engine.roots import mount_root

    call("unshare", _CLONE_NEWNS)
    mount("none", "/", "none", _REC | _PRIVATE)
    path = mount_root(machinery, held.record)
    root = Rooted(
        os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        [os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)],
    )
    try:
        volumes = held.record.config.mounts
        for volume in sorted(volumes, key=lambda one: one.target.count("/")):
            try:
                with creating_as(held.record.config):
                    _put(root, volume, any(_is_below(path, volume.target) for path in paths))
            except OSError as err:
                raise LongshoreError(
                    f"cannot mount {volume.source} on {volume.target} "
                    f"of container {held.record.name}: {err.strerror}"
                ) from err
    except BaseException:
        root.__exit__()
        raise
    return root


def _is_below(path: str, top: str) -> bool:
    return f"{posixpath.normpath('/' + path.lstrip('/'))}/".startswith(f"{top}/")


def _put(root: Rooted, volume: Mount, wanted: bool) -> None:
    """Mount one volume. What has no content while nothing runs becomes empty and read-only."""
    try:
        place = root.open(volume.target, os.O_PATH)
    except FileNotFoundError:
        if not wanted:
            return
        if volume.type == "bind" and not stat.S_ISDIR(os.stat(volume.source).st_mode):
            os.close(root.make_directories(posixpath.dirname(volume.target)))
            place = root.open(volume.target, os.O_WRONLY | os.O_CREAT, 0o644)
        else:
            place = root.make_directories(volume.target)
    try:
        if volume.type == "bind":
            flags = _BIND if "bind" in volume.options else _BIND | _REC
            mount(volume.source, f"/proc/self/fd/{place}", "none", flags)
        else:
            mount("none", f"/proc/self/fd/{place}", "tmpfs", _RDONLY, "size=4k")
    finally:
        os.close(place)
    if volume.type == "bind" and "ro" in volume.options:
        place = root.open(volume.target, os.O_PATH)  # now what is mounted there
        try:
            mount("none", f"/proc/self/fd/{place}", "none", _REMOUNT | _BIND | _RDONLY)
        finally:
            os.close(place)
