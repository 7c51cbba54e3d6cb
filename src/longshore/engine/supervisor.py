"""The one process a user that stays for what needs somebody alive: now, logs that rotate.

It is started by a start that needs it, and by `logs -f`; it holds the lock of the run directory,
and ends when no container needs it any more. Whom to look after it learns from the records, and
holds no state that the next one could not find again: killed at any moment it harms no container,
only logs grow until another one comes. It sleeps on inotify and on pidfds, so it costs nothing
while nothing happens.

No call is lost between a starter and one that is about to end: the starter saves its record first
and looks at the lock then; the other lets go of the lock first and looks at the records once more.
"""

from __future__ import annotations

import contextlib
import os
import time

from longshore import _log
from longshore._value import Value
from longshore.errors import LongshoreError
from longshore.linux.inotify import IN_ATTRIB, IN_CREATE, IN_MODIFY, IN_MOVED_TO, Watch, poll
from longshore.linux.locks import FileLock, LockBusy, is_locked
from longshore.linux.processes import boot_id, is_alive, open_pidfd
from longshore.monitor import rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from longshore.engine.machinery import Machinery
    from longshore.linux.processes import ProcessId
    from longshore.store import Record
    from longshore.store.layout import SessionPaths

_READY_WITHIN = 2.0  # seconds that a start waits for it
# The shell ends at once, so that the supervisor is nobody's child, and nobody's zombie in the end.
_SCRIPT = '"$@" &'
_CODE = (
    "import sys; sys.path[:0] = sys.argv[1].split(chr(10)); "
    "from longshore.engine.supervisor import main; main(sys.argv[2:])"
)
# No log grows faster, in bytes a second. One that is far from its limit is left alone for as long.
_FASTEST = 200e6
_SHORTEST_NAP, _LONGEST_NAP = 0.0005, 0.05  # seconds


def ensure(machinery: Machinery, record: Record, *, wait: bool) -> None:
    """See to it that somebody rotates the log of a container that lives, if that is asked for.

    ``wait`` until its log is watched, if nobody was there yet. That it cannot be done is a warning:
    nothing is lost, the log grows.
    """
    monitor = _monitor(record)
    if monitor is None or rotation.looks_after_itself(monitor.pid):
        return
    try:
        _call(machinery, wait=wait)
    except (LongshoreError, OSError) as err:
        _log.warn(
            f"nobody keeps the log of container {record.name} below "
            f"{record.config.log_size_max} bytes: {err}"
        )


def _call(machinery: Machinery, *, wait: bool) -> None:
    path = machinery.layout.supervisor
    if is_locked(path):
        os.utime(path)  # it looks at the records again
        return
    from longshore.linux.procs import clean_env, poll_until, spawn

    settings = machinery.settings
    manager = machinery.cgroup_manager
    reader, writer = os.pipe()
    try:
        try:
            paths = (machinery.import_path(manager), settings.root, settings.run_root)
            words = (*paths, manager, str(writer))
            shell = spawn(
                ("/bin/sh", "-c", _SCRIPT, "sh", machinery.python, "-I", "-S", "-c", _CODE, *words),
                env=clean_env(),
                cwd="/",
                pass_fds=(writer,),
                new_session=True,
            )
        finally:
            os.close(writer)
        shell.wait()
        if wait:
            poll_until([reader], time.monotonic() + _READY_WITHIN)
    finally:
        os.close(reader)


def main(argv: list[str]) -> None:
    """Be the supervisor: root, run root, cgroup manager and a descriptor to close when
    ready are the arguments."""
    root, run_root, manager, ready = argv
    from longshore.config import Settings
    from longshore.engine.machinery import Machinery

    machinery = Machinery(Settings(root=root, run_root=run_root), cgroup_manager=manager)
    path = machinery.layout.supervisor
    try:
        _supervise(machinery, path, _closing(int(ready)))
    except Exception:
        # Nobody reads this process.
        import traceback

        from longshore.linux.files import write_atomic

        write_atomic(f"{path}.error", traceback.format_exc().encode())


def _closing(fd: int) -> Callable[[], None]:
    left = [fd]

    def ready() -> None:
        if left:
            os.close(left.pop())

    return ready


def _supervise(machinery: Machinery, path: str, ready: Callable[[], None]) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    while True:
        try:
            with FileLock(path, purpose="supervise", deadline=time.monotonic()), Watch() as calls:
                calls.add(path, IN_ATTRIB)
                _serve(machinery, calls, ready)
        except LockBusy:
            return  # there is one
        if not _wanted(machinery):
            return


def _serve(machinery: Machinery, calls: Watch, ready: Callable[[], None]) -> None:
    """Look after all logs that are to be rotated, for as long as there are any."""
    logs: dict[ProcessId, _Log] = {}
    placed = False
    try:
        _adopt(machinery, logs)
        ready()
        while logs:
            if not placed:
                placed = True
                _leave_starter(machinery)
            fds = [calls.fileno()]
            for log in logs.values():
                fds += (log.watch.fileno(), log.end)
            woken = {*poll(fds, None)}
            if calls.take():
                _adopt(machinery, logs)
            room: int | None = None
            for monitor, log in tuple(logs.items()):
                if log.end in woken:
                    log.close()
                    del logs[monitor]
                elif log.watch.take():
                    left = log.tend()
                    room = left if room is None or (left is not None and left < room) else room
            _nap(room)
    finally:
        for log in logs.values():
            log.close()


def _nap(room: int | None) -> None:
    """Leave alone what has just been written to, for as long as it cannot reach its limit."""
    nap = 0.0 if room is None else room / _FASTEST
    if nap > _SHORTEST_NAP:
        time.sleep(min(nap, _LONGEST_NAP))


def _leave_starter(machinery: Machinery) -> None:
    """Leave the starter's cgroup, with which we would be killed; where that fails, so be it."""
    from longshore.cgroup.placement import CGROUPFS, Cgroupfs

    with contextlib.suppress(LongshoreError, OSError):
        if machinery.cgroup_manager == CGROUPFS:
            Cgroupfs(machinery.cgroup_layout, "", "").place_monitor(os.getpid())
        else:
            from longshore.cgroup.systemd import leave_starter

            leave_starter(machinery.systemd, os.getpid())


def _monitor(record: Record) -> ProcessId | None:
    """Return the conmon of a container whose log is to be rotated; it need not live any more."""
    config, run = record.config, record.run
    if config.log_driver == "none" or config.log_size_max <= 0:
        return None
    return None if run is None or run.boot_id != boot_id() else run.monitor


class _Task(Value):
    """A log that is to be rotated, and conmon's ctl fifo."""

    path: str
    ctl: str
    limit: int  # bytes
    files: int


def _wanted(machinery: Machinery) -> dict[ProcessId, _Task]:
    """Return the logs of containers and exec sessions that are to be rotated, by their conmon."""
    from longshore.linux.files import read_file

    found: dict[ProcessId, _Task] = {}
    store = machinery.store
    for container_id in store.ids():
        with contextlib.suppress(LongshoreError, OSError):
            data = read_file(machinery.paths(container_id).record)
            if data is None or b'"log_size_max"' not in data:
                continue  # most containers: not worth reading
            record = store.peek(container_id)
            monitor = _monitor(record)
            if monitor is None:
                continue
            paths = machinery.paths(container_id)
            config = record.config
            task = _Task(
                path=config.log_path or paths.log,
                ctl=paths.ctl_fifo,
                limit=config.log_size_max,
                files=config.log_max_files,
            )
            found[monitor] = task
            for session, session_monitor in _sessions(machinery, container_id):
                found[session_monitor] = task.replace(path=session.log, ctl=session.ctl_fifo)
    return {
        monitor: task
        for monitor, task in found.items()
        if is_alive(monitor) and not rotation.looks_after_itself(monitor.pid)
    }


def _sessions(machinery: Machinery, container_id: str) -> Iterator[tuple[SessionPaths, ProcessId]]:
    """Yield the exec sessions of this boot that have a conmon."""
    if not os.path.isdir(machinery.paths(container_id).live_execs):
        return
    from longshore.store.sessions import SessionStore

    store = SessionStore(machinery.store, container_id)
    for session_id in store.live_ids():
        with contextlib.suppress(LongshoreError, OSError):
            session = store.peek(session_id)
            if session.monitor is not None and session.boot_id == boot_id():
                yield store.paths(session_id), session.monitor


def _adopt(machinery: Machinery, logs: dict[ProcessId, _Log]) -> None:
    """Begin to look after logs that nobody looks after yet."""
    for monitor, task in _wanted(machinery).items():
        if monitor not in logs:
            with contextlib.suppress(OSError):  # it has just ended
                logs[monitor] = _Log(task, monitor)


class _Log:
    """One log that is being written. ``watch`` and ``end`` (of its conmon) say when to look."""

    __slots__ = ("_asked", "_known", "_monitor", "_task", "_wd", "end", "watch")

    def __init__(self, task: _Task, monitor: ProcessId) -> None:
        self._task = task
        self._monitor = monitor
        self._known: os.stat_result | None = None  # the file that is being written
        self._wd = -1
        self._asked = False  # conmon is about to begin a new file
        end = open_pidfd(monitor)
        if end is None:
            raise ProcessLookupError
        self.end = end
        self.watch = Watch()
        try:
            self.watch.add(os.path.dirname(task.path), IN_MOVED_TO | IN_CREATE)
            self.tend()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Look after it no longer."""
        self.watch.close()
        os.close(self.end)

    def tend(self) -> int | None:
        """Rotate it if it is too large; return how many bytes it may still grow, if that is known.

        What cannot be done now (a full disk) is tried again when more is written.
        """
        with contextlib.suppress(OSError):
            return self._tend()
        return None

    def _tend(self) -> int | None:
        task = self._task
        try:
            state = self._look()
        except FileNotFoundError:
            pid = self._monitor.pid
            if not self._asked and rotation.is_still_to_be_asked(task.path, task.ctl, pid):
                self._asked = rotation.ask_to_reopen(task.ctl)
            return None
        if state.st_size < task.limit:
            return task.limit - state.st_size
        rotation.move_aside(task.path)
        self._asked = rotation.ask_to_reopen(task.ctl)
        return None

    def _look(self) -> os.stat_result:
        """Return what the log is now; a new file is watched from now on."""
        task = self._task
        state = os.stat(task.path)
        known = self._known
        if known is not None and not self._asked and os.path.samestat(state, known):
            return state
        fd = os.open(task.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._wd >= 0:
                self.watch.remove(self._wd)
            self._wd = self.watch.add(fd, IN_MODIFY)
            state = self._known = os.fstat(fd)
        finally:
            os.close(fd)
        self._asked = False
        rotation.throw_away(task.path, task.files)
        return state
