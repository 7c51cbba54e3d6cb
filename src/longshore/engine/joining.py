"""Join what is not ours: namespaces that a path leads to, and the /dev/shm of another container.

Whoever joins another container's IPC shares its /dev/shm too, where shm_open(3) and sem_open(3)
keep what they make. The mount is taken over between the runtime's `create` and its `start`,
straight from one mount namespace into the other: the host has no mount for it that somebody would
have to take back, and a container that nobody joins pays nothing.
"""

from __future__ import annotations

import json
import os

from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError, WrongState
from longshore.lifecycle import Op, permitted
from longshore.linux.mounts import mount_points
from longshore.linux.processes import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId
    from longshore.options import ContainerConfig
    from longshore.store import Record

_SHM = "/dev/shm"
_DEFAULT = ("tmpfs", "shm")  # type and source of what every container has there (`oci.mounts`)
_NAMES = {
    "cgroup": "a cgroup namespace",
    "ipc": "an IPC namespace",
    "mnt": "a mount namespace",
    "net": "a network namespace",
    "pid": "a pid namespace",
    "time": "a time namespace",
    "user": "a user namespace",
    "uts": "a UTS namespace",
}


def check_paths(config: ContainerConfig, kinds: dict[str, str]) -> None:
    """Refuse ``ns:PATH`` of what is no namespace, or one of another kind. ``kinds``: by option.

    InvalidArgument says what it is, what was asked, and what to try.
    """
    from longshore.linux.namespaces import kind_of

    for field, wanted in kinds.items():
        word, _, path = str(getattr(config, field)).partition(":")
        if word != "ns":
            continue
        try:
            found = kind_of(path)
        except OSError as err:
            raise InvalidArgument(f"{field}: cannot open {path}: {err.strerror}") from err
        if found == wanted:
            continue
        raise InvalidArgument(
            f"{field}: {path} is {_NAMES[found] if found else 'no namespace'}, "
            f"and {_NAMES[wanted]} was asked for",
            hint=f"such as /proc/PID/ns/{wanted}"
            + (", or a file that `ip netns add` has made" if wanted == "net" else ""),
        )


def share_shm(machinery: Machinery, record: Record) -> None:
    """Give a container that was created, and not started, the /dev/shm whose IPC it has joined.

    One that has a mount of its own there keeps it, wherever that comes from. Raises WrongState if
    the other one has ended meanwhile, or is another run than the one whose IPC it is;
    InvalidArgument for a mount below it, which nobody would see; HostUnsupported for sandboxes,
    whose mounts are none of the host's, and where the host would see what is mounted.
    """
    from longshore.linux.mountfds import share

    if _has_own(machinery, record):
        return
    other = machinery.store.peek(record.config.ipc.partition(":")[2])
    if other.config.ipc == "none":
        return  # it has none: there is one of its own, as podman has it
    run, other_run = record.run, other.run
    for one in (run, other_run):
        if one is not None and one.sandboxed:
            raise HostUnsupported(
                f"container {record.name} is to share {_SHM} with container {other.name}",
                f"{one.runtime}, whose sandbox has its files for itself",
                hint="another --runtime, or a volume on /dev/shm of both",
            )
    inits = [one.init if one is not None else None for one in (other_run, run)]
    fds: list[int] = []
    try:
        for who, init in zip((other, record), inits, strict=True):
            fds.append(_mounts_of(who, init))
        if len({_space(init) for init in inits}) > 1:
            raise _changed(other)
        theirs, ours = fds
        _check_place(record, inits[1])
        share((*machinery.entering(), machinery.python), theirs, ours, _SHM)
    except OSError as err:
        raise LongshoreError(
            f"cannot share {_SHM} of container {other.name}: {err.strerror}",
            hint="does it still have it? a volume on /dev/shm of both can take its place",
        ) from err
    finally:
        for fd in fds:
            os.close(fd)


def _has_own(machinery: Machinery, record: Record) -> bool:
    """Whether what is on /dev/shm is not what every container has there: a volume's, the spec
    patch's, a CDI device's."""
    if any(mount.target == _SHM for mount in record.config.mounts):
        return True
    try:
        with open(machinery.paths(record.id).config, "rb") as file:
            mounts = json.load(file).get("mounts") or ()
    except (OSError, ValueError) as err:
        raise LongshoreError(
            f"cannot share {_SHM} with container {record.name}: reading its config.json: {err}"
        ) from err
    there = [one for one in mounts if f"/{one.get('destination', '').strip('/')}" == _SHM]
    return any((one.get("type"), one.get("source")) != _DEFAULT for one in there)


def _check_place(record: Record, init: ProcessId | None) -> None:
    """Refuse to take away what is mounted below /dev/shm, and to mount what the host would see."""
    assert init is not None
    points = mount_points(str(init.pid))
    below = [point.path for point in points if point.path.startswith(f"{_SHM}/")]
    if below:
        raise InvalidArgument(
            f"mounts: {below[0]} of container {record.name} would be hidden by the {_SHM} of the "
            f"container whose IPC is joined (ipc={record.config.ipc})",
            hint=f"another target, or a mount of its own on {_SHM} too",
        )
    on = [point for point in points if f"{_SHM}/".startswith(f"{point.path.rstrip('/')}/")]
    deepest = max(len(point.path) for point in on)
    there = [point for point in on if len(point.path) == deepest]
    numbers = {point.number for point in there} | {point.above for point in there}
    shared = [point.path for point in points if point.number in numbers and point.shared]
    if shared:
        raise HostUnsupported(
            f"container {record.name} is to have the {_SHM} of another in its own mounts alone",
            f"{shared[0]}, whose mounts are shared with others (shared propagation)",
            hint=f"mount {os.path.dirname(_SHM)} rslave or rprivate, or a volume on {_SHM}",
        )


def _mounts_of(record: Record, init: ProcessId | None) -> int:
    if init is not None:
        try:
            fd = os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise _changed(record) from None
        if is_alive(init):
            return fd
        os.close(fd)
    raise _changed(record)


def _space(init: ProcessId | None) -> str:
    return os.readlink(f"/proc/{init.pid}/ns/ipc") if init is not None else ""


def _changed(record: Record) -> WrongState:
    return WrongState(
        record.name,
        "share the ipc namespace of",
        "not running any more, or again",
        [s.value for s in permitted(Op.EXEC)],
        hint=f"start it first: `longshore start {record.name}`",
    )
