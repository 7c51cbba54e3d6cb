"""The user and mount namespace of an ordinary user: made once, kept, joined by every program.

In it the user is root over its own ids, so overlays can be mounted there and runtimes be run. Our
own process never enters it (a process with threads cannot, and a library must not): what needs it
is a program, run through nsenter(1). Everything else an owner may do from outside: signal what runs
in the namespace, read its /proc, change the cgroups that it was given (user_namespaces(7), "the
owner of a namespace has all capabilities in it").

A process that only sleeps keeps the namespace, and so does each conmon in it. Which process that is
lies in the run directory; a file whose process is gone means nothing, as ever.
"""

from __future__ import annotations

import json
import os
import time

from longshore import _log
from longshore.cgroup.placement import SYSTEMD
from longshore.errors import LongshoreError
from longshore.linux import userns
from longshore.linux.files import make_directory, read_file, write_atomic
from longshore.linux.locks import FileLock
from longshore.linux.processes import ProcessId, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.linux.userns import IdMap
    from longshore.store import Record

_MAKING = 30.0  # seconds that another process may take to make the namespace


class Rootless:
    """The namespace of one user, for one run directory."""

    __slots__ = ("_keeper", "_machinery", "gid", "uid")

    def __init__(self, machinery: Machinery) -> None:
        self._machinery = machinery
        self._keeper: ProcessId | None = None
        self.uid = os.geteuid()
        self.gid = os.getegid()

    @property
    def markers(self) -> dict[str, str]:
        """What tells a program in the namespace whose it is."""
        return userns.markers(self.uid, self.gid)

    def entering(self, *, keep_directory: bool = False) -> tuple[str, ...]:
        """Return what to put before a command line to run it in the namespace, which is made if
        there is none.

        nsenter(1) executes the program in its own place: the pid is the program's.
        HostUnsupported says what this host lacks.
        """
        words: tuple[str, ...] = (
            userns.program("nsenter"), "--preserve-credentials", "-U", "-m",
        )  # fmt: skip
        if keep_directory:  # else it is / (setns(2))
            words += (f"--wdns={os.getcwd()}",)
        return (*words, "-t", str(self.keeper().pid))

    def keeper(self) -> ProcessId:
        """Return a process in the namespace; makes it if there is none."""
        found = self.find()
        if found is None:
            found = self._make()
        return found

    def find(self) -> ProcessId | None:
        """Return a process that keeps the namespace, or None."""
        if not is_alive(self._keeper):
            self._machinery.layout.vet()  # what others may write names no process of ours
            self._keeper = self._written() or self._monitor()
        return self._keeper

    def path(self, inside: str) -> str:
        """Return where a path of the namespace can be read from outside."""
        keeper = self.find()
        return inside if keeper is None else f"/proc/{keeper.pid}/root{inside}"

    def mounted(self, inside: str) -> bool:
        """Whether something is mounted at a path of the namespace."""
        from longshore.linux.mounts import mount_points

        keeper = self.find()
        if keeper is None:
            return False
        try:
            wanted = os.path.realpath(inside)  # as the kernel tells it
            return any(point.path == wanted for point in mount_points(str(keeper.pid)))
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _written(self) -> ProcessId | None:
        data = read_file(self._machinery.layout.namespace)
        try:
            kept = json.loads(data or b"null")
            found = ProcessId(pid=int(kept["pid"]), start=int(kept["start"]))
        except (ValueError, KeyError, TypeError):
            return None
        return found if is_alive(found) else None

    def _monitor(self) -> ProcessId | None:
        """Return the conmon of a container that lives: it is in the namespace too.

        So containers are never out of reach, whoever ended the keeper.
        """
        store = self._machinery.store
        for container_id in store.ids():
            try:
                run = store.peek(container_id).run
            except LongshoreError:
                continue
            if run is not None and is_alive(run.monitor):
                return run.monitor
        return None

    def _make(self) -> ProcessId:
        layout = self._machinery.layout
        make_directory(layout.run)
        layout.vet()
        lock = f"{layout.namespace}.lock"
        os.close(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with FileLock(lock, purpose="namespace", deadline=time.monotonic() + _MAKING):
            found = self.find()
            if found is not None:
                return found
            maps = self.mappings()
            why = self.single()
            if why:
                _log.warn(
                    f"containers have one user and one group id, your own: {why}; "
                    f"`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                    f"{_names(self.uid)[0]}` gives more"
                )
            with userns.Held(*maps, mounts=True) as held:
                found = held.keeper
                data = json.dumps({"pid": found.pid, "start": found.start}).encode()
                write_atomic(layout.namespace, data)
                held.stay()
        self._keeper = found
        self._leave_starter(found)
        return found

    def _leave_starter(self, keeper: ProcessId) -> None:
        """Have it moved out of its starter's session, which would last for as long as it does."""
        if self._machinery.cgroup_manager != SYSTEMD:
            return
        from longshore.cgroup.systemd import leave_starter

        try:
            leave_starter(self._machinery.systemd, keeper.pid, "namespace")
        except (LongshoreError, OSError) as err:
            _log.warn(f"the user namespace ends with this login session: {err}")

    def mappings(self) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
        """Return what the namespace maps, uids and gids; one id each without subordinate ids."""
        names = _names(self.uid)
        uids = userns.subordinate("/etc/subuid", names)
        gids = userns.subordinate("/etc/subgid", names)
        if not uids or not gids or userns.mappers() is None:
            uids = gids = ()
        return userns.mappings(self.uid, uids), userns.mappings(self.gid, gids)

    def single(self) -> str:
        """Return why only one id is mapped; "" if more are."""
        names = _names(self.uid)
        for file in ("/etc/subuid", "/etc/subgid"):
            if not userns.subordinate(file, names):
                return f"{file} has no range for {names[0]}"
        return "" if userns.mappers() is not None else "there is no newuidmap or newgidmap"


def _names(uid: int) -> list[str]:
    import pwd

    try:
        return [pwd.getpwuid(uid).pw_name, str(uid)]
    except KeyError:
        return [str(uid)]


def ended_by_logout(machinery: Machinery, record: Record) -> str:
    """Say why a container of an ordinary user ends when the user logs out; "" if it does not.

    A user's systemd, and all it has started, ends with the last session, unless the user lingers
    (loginctl(1), enable-linger).
    """
    run = record.run
    if machinery.user is None or run is None or run.manager != SYSTEMD:
        return ""
    name = _names(machinery.user)[0]
    if os.path.exists(f"/var/lib/systemd/linger/{name}"):
        return ""
    return (
        f"container {record.name} ends when {name} logs out for the last time; "
        f"`loginctl enable-linger {name}` keeps it"
    )
