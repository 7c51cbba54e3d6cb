"""One JSON record an exec session, below its container's; changed under the session's own lock.

A record says what was asked for and what was last seen; whether the session lives is computed from
facts by the engine. Reading takes no lock. A record that cannot be read disables one session and no
other. The directory of a session that is over stays, with its log and its exit, until the container
is removed or `KEPT_SESSIONS` newer ones are over.
"""

from __future__ import annotations

import json
import os

from longshore._value import Value, is_table
from longshore.errors import Busy, NoSuchContainer, NoSuchExec, RecordCorrupt, StoreError
from longshore.linux.files import (
    create_exclusive,
    read_file,
    remove_file,
    remove_tree,
    write_atomic,
)
from longshore.linux.locks import FileLock, LockBusy
from longshore.linux.processes import ProcessId, is_alive
from longshore.linux.steps import run
from longshore.models import ExitInfo
from longshore.options.execs import ExecConfig
from longshore.store.names import maker_of, staging_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from longshore.linux.steps import Steps
    from longshore.store.layout import SessionPaths
    from longshore.store.records import Store

FORMAT = 1  # of records on disk; a higher one was written by a newer Longshore
KEPT_SESSIONS = 100  # of those that are over, a container


class SessionRecord(Value):
    """All that is remembered of one exec session."""

    _nested = {
        "config": ExecConfig.from_json,
        "actor": ProcessId.from_json,
        "process": ProcessId.from_json,
        "monitor": ProcessId.from_json,
        "exit": ExitInfo.from_json,
    }

    id: str
    config: ExecConfig
    run: int  # the number of the container's run that it is in
    boot_id: str
    cgroup: str  # its own, below the container's
    created_ns: int
    actor: ProcessId | None = None  # who is starting it; None when the start has been finished
    process: ProcessId | None = None  # its main one; None when that had ended before it was seen
    monitor: ProcessId | None = None
    started_ns: int | None = None
    intent: str = ""  # what somebody asked for and what it may therefore die of: kill, timeout
    intent_signal: int = 0
    oom_before: int | None = None  # the container's count at the start, where it has none itself
    exit: ExitInfo | None = None  # written once, before anyone is told


class LockedSession:
    """A session's record whose lock is held; a context manager. `save` is the way to change it."""

    __slots__ = ("_lock", "_store", "record")

    def __init__(self, store: SessionStore, lock: FileLock, record: SessionRecord) -> None:
        self._store = store
        self._lock = lock
        self.record = record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def save(self, record: SessionRecord) -> None:
        """Replace the record on disk."""
        self._store.write(record)
        self.record = record


class SessionStore:
    """The exec sessions of one container."""

    __slots__ = ("_container", "_paths", "_store")

    def __init__(self, store: Store, container_id: str) -> None:
        self._store = store
        self._paths = store.layout.paths(container_id)
        self._container = container_id[:12]

    # reading, without locks

    def ids(self) -> list[str]:
        """Return the ids of all sessions, damaged ones too."""
        return [name for name in _names(self._paths.execs) if len(name) == 64]

    def live_ids(self) -> list[str]:
        """Return the ids of those that live, or ended and were not cleaned up yet."""
        return [name for name in _names(self._paths.live_execs) if len(name) == 64]

    def peek(self, session_id: str) -> SessionRecord:
        """Return a record as it is now. NoSuchExec, or RecordCorrupt."""
        path = self.paths(session_id).record
        try:
            data = read_file(path)
        except OSError as err:
            raise StoreError(f"cannot read the record {path}: {err.strerror}") from err
        if data is None:
            raise self._unknown(session_id)
        return _parse(data, path, session_id)

    def resolve(self, ref: str) -> str:
        """Return the id for an id, or for a beginning of one that fits only one. NoSuchExec."""
        found = [one for one in self.ids() if one.startswith(ref)] if ref else []
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchExec(
                f"{ref!r} is the beginning of {len(found)} exec sessions' ids",
                hint="write more of the id: " + ", ".join(i[:16] for i in sorted(found)),
            )
        raise self._unknown(ref)

    def paths(self, session_id: str) -> SessionPaths:
        """Return the paths of one session."""
        return self._paths.session(session_id)

    # changing

    def create(self, record: SessionRecord) -> None:
        """Write a new session's record. NoSuchContainer when its container is gone.

        What a killed creation leaves is no session; `sweep` takes it away.
        """
        staging = f"{self._paths.execs}/{staging_name(record.id)}"
        try:
            try:
                os.mkdir(self._paths.execs, 0o700)
            except FileExistsError:
                pass
            os.mkdir(staging, 0o700)
            create_exclusive(f"{staging}/lock", b"")
            self._write(f"{staging}/record.json", record)
            os.rename(staging, self.paths(record.id).home)
        except FileNotFoundError as err:
            raise NoSuchContainer(f"there is no container {self._container}") from err
        except BaseException:
            remove_tree(staging)
            raise

    def locked(
        self, session_id: str, purpose: str, *, deadline: float | None = None
    ) -> LockedSession:
        """Lock one session and read its record; use as ``with store.locked(…) as held:``.

        Busy at the deadline (`time.monotonic`). NoSuchExec, RecordCorrupt.
        """
        return run(self.locked_steps(session_id, purpose, deadline=deadline))

    def locked_steps(
        self, session_id: str, purpose: str, *, deadline: float | None = None
    ) -> Steps[LockedSession]:
        """Do what `locked` does, in steps."""
        until = self._store.deadline(deadline)
        lock = FileLock(self.paths(session_id).lock, purpose=purpose, deadline=until)
        try:
            yield from lock.take_steps()
        except FileNotFoundError as err:
            raise self._unknown(session_id) from err
        except LockBusy as err:
            raise Busy(
                f"{self._container} (exec {session_id[:12]})", err.holder, err.since
            ) from err
        try:
            return LockedSession(self, lock, self.peek(session_id))
        except BaseException:
            lock.__exit__()
            raise

    def write(self, record: SessionRecord) -> None:
        """Put a record on disk in one step. The caller holds the lock."""
        try:
            self._write(self.paths(record.id).record, record)
        except FileNotFoundError as err:
            raise self._unknown(record.id) from err

    def remove(self, session_id: str) -> None:
        """Forget a session, all but its exit, which is kept for a while. Absence is fine."""
        paths = self.paths(session_id)
        self._keep_exit(session_id)
        remove_file(paths.record)
        remove_tree(paths.run)
        remove_tree(paths.home)

    def sweep(self) -> None:
        """Take away what killed creations left, and the oldest of the many that are over."""
        live = {*self.live_ids()}
        over: list[tuple[float, str]] = []
        for entry in _names(self._paths.execs):
            maker = maker_of(entry)
            if maker is not None and not is_alive(maker):
                remove_tree(f"{self._paths.execs}/{entry}")
            elif len(entry) == 64 and entry not in live:
                if self._never_began(entry):
                    self.remove(entry)
                else:
                    over.append((_time_of(self.paths(entry).record), entry))
        over.sort(reverse=True)
        for _, session_id in over[KEPT_SESSIONS:]:
            if self._is_over(session_id):
                self.remove(session_id)

    def keep_exits(self) -> None:
        """Keep the exits of all sessions beyond their container, which is about to be removed."""
        for session_id in self.ids():
            self._keep_exit(session_id)

    def kept_exit(self, session_id: str) -> ExitInfo | None:
        """Return the exit of a session that was removed, while it is kept."""
        return self._store.exit_record(session_id)

    def _keep_exit(self, session_id: str) -> None:
        try:
            info = self.peek(session_id).exit
        except (NoSuchExec, RecordCorrupt):
            return
        if info is not None:
            self._store.keep_exit(session_id, "", info)

    def _never_began(self, session_id: str) -> bool:
        """Whether a start was killed before it had made anything but the record."""
        try:
            record = self.peek(session_id)
        except (NoSuchExec, RecordCorrupt):
            return False
        starter = record.actor
        return record.exit is None and starter is not None and not is_alive(starter)

    def _is_over(self, session_id: str) -> bool:
        try:
            record = self.peek(session_id)
        except (NoSuchExec, RecordCorrupt):
            return True
        return record.exit is not None or not is_alive(record.actor)

    def _write(self, path: str, record: SessionRecord) -> None:
        try:
            write_atomic(path, json.dumps({"format": FORMAT, **record.to_json()}).encode())
        except FileNotFoundError:
            raise
        except OSError as err:
            raise StoreError(
                f"cannot write the record {path}: {err.strerror}",
                hint="is the disk full, or the root directory read-only?",
            ) from err

    def _unknown(self, session_id: str) -> NoSuchExec:
        return NoSuchExec(
            f"container {self._container} has no exec session {session_id[:12]!r}",
            hint=f"the last {KEPT_SESSIONS} that are over are kept, until the container is removed",
        )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _time_of(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _parse(data: bytes, path: str, session_id: str) -> SessionRecord:
    """Return a record of which every value is what it is declared to be, or RecordCorrupt."""
    hint = "its container and the other sessions are not touched by it"
    try:
        raw: Any = json.loads(data)
        if not is_table(raw):
            raise RecordCorrupt(path, "it is no object", hint=hint)
        written_by = raw.pop("format", None)
        if written_by != FORMAT:
            raise RecordCorrupt(path, f"its format is {written_by!r}", hint=hint)
        record = SessionRecord.from_json(raw)
    except (ValueError, RecursionError) as err:
        raise RecordCorrupt(path, str(err) or type(err).__name__, hint=hint) from err
    if record.id != session_id:
        raise RecordCorrupt(path, f"it is the record of {record.id!r}", hint=hint)
    return record
