"""One JSON record a container, replaced atomically, changed under that container's own lock.

A record says what was asked for and what was last seen; what *is* is computed from facts by the
engine. Reading takes no lock. A record that cannot be read disables one container and no other.
"""

from __future__ import annotations

import errno
import json
import os
import time

from longshore._value import Value, free_text, is_table
from longshore.errors import Busy, InvalidArgument, NoSuchContainer, RecordCorrupt, StoreError
from longshore.lifecycle import Status
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
from longshore.options import ContainerConfig
from longshore.store.names import Names, is_name, maker_of, staging_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from longshore.linux.steps import Steps
    from longshore.store.layout import Layout
    from longshore.store.levels import Levels

FORMAT = 1  # of records on disk; a higher one was written by a newer Longshore
KEPT_EXITS = 10  # in a record
KEPT_EXIT_RECORDS = 10_000  # of removed containers
KEPT_SECONDS = 3600.0
# What keeps this process from reading, and says nothing about the record
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Run(Value):
    """One start of a container: who runs, under which boot, and what was done to it."""

    _nested = {
        "actor": ProcessId.from_json,
        "monitor": ProcessId.from_json,
        "init": ProcessId.from_json,
        "note": free_text,
    }

    number: int  # 1, 2, 3 …
    boot_id: str
    runtime: str  # name
    runtime_path: str
    runtime_flags: tuple[str, ...] = ()  # what that runtime is told with each call for this run
    sandboxed: bool = False  # its processes are none of the host's; see `Runtime.sandboxes`
    cgroup: str = ""  # Longshore's own, in every hierarchy; "": it has none
    manager: str = "cgroupfs"  # who made it
    inner_cgroup: str = ""  # the runtime's below it, where that is not known beforehand
    actor: ProcessId | None = None  # who is starting it; None when the start has been finished
    monitor: ProcessId | None = None
    init: ProcessId | None = None
    started_ns: int | None = None
    # What somebody asked for and what it may therefore die of: "", stop, escalate, kill, timeout
    intent: str = ""
    intent_signal: int = 0
    note: str = ""  # what to say of its end
    exit_mark: int | None = None  # a number that the event of its end is above
    # Limits that are being changed, and what the kernel had before: control file → its text
    updating: tuple[str, ...] = ()
    limits_before: Mapping[str, str] = {}

    @property
    def container_cgroup(self) -> str:
        """The runtime's cgroup, which the container's processes are in or below."""
        return self.inner_cgroup or (f"{self.cgroup}/container" if self.cgroup else "")


class Record(Value):
    """All that is remembered of one container."""

    _nested = {
        "config": ContainerConfig.from_json,
        "status": Status,
        "run": Run.from_json,
        "exits": ExitInfo.from_json,
        "error": free_text,
    }

    id: str
    config: ContainerConfig
    created_ns: int
    status: Status = Status.CREATED  # as last seen
    run: Run | None = None  # the one that lives, or the last one
    exits: tuple[ExitInfo, ...] = ()  # oldest first
    starts: int = 0
    error: str = ""  # why the last start failed
    process_label: str = ""  # of SELinux, from the first start on; "" is none
    mount_label: str = ""

    @property
    def name(self) -> str:
        """The name it has now."""
        return self.config.name

    def with_exit(self, info: ExitInfo) -> Record:
        """Return the record with one more exit, the oldest ones dropped."""
        return self.replace(exits=(*self.exits, info)[-KEPT_EXITS:])


class Locked:
    """A record whose lock is held; a context manager. `save` is the only way to change it."""

    __slots__ = ("_lock", "_store", "record")

    def __init__(self, store: Store, lock: FileLock, record: Record) -> None:
        self._store = store
        self._lock = lock
        self.record = record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def save(self, record: Record) -> None:
        """Replace the record on disk."""
        self._store.write(record)
        self.record = record


class Store:
    """The records, names and exit records below one layout."""

    __slots__ = ("_remove_owned", "busy_timeout", "layout", "names")

    def __init__(
        self,
        layout: Layout,
        *,
        busy_timeout: float = 300.0,
        remove_owned: Callable[[str], None] = remove_tree,
    ) -> None:
        """``busy_timeout`` (seconds): how long a lock is waited for where no deadline is said.

        ``remove_owned`` removes a directory in which others than this user may own files.
        """
        self.layout = layout
        self.busy_timeout = busy_timeout
        self.names = Names(self)
        self._remove_owned = remove_owned

    @property
    def levels(self) -> Levels:
        """Which SELinux level is whose."""
        from longshore.store.levels import Levels  # few hosts have SELinux

        return Levels(self.layout)

    # reading, without locks

    def ids(self) -> list[str]:
        """Return the ids of all containers, damaged ones too."""
        self.layout.vet()
        return [name for name in _names(self.layout.containers) if len(name) == 64]

    def peek(self, container_id: str) -> Record:
        """Return the record as it is now. NoSuchContainer, or RecordCorrupt."""
        self.layout.vet()
        path = self.layout.paths(container_id).record
        try:
            data = read_file(path)
        except OSError as err:
            if err.errno in _OURS:
                raise StoreError(f"cannot read the record {path}: {err.strerror}") from err
            raise RecordCorrupt(path, f"it cannot be read: {err.strerror}") from err
        if data is None:
            raise NoSuchContainer(f"there is no container {container_id[:12]}")
        return _parse(data, path, container_id)

    def resolve(self, ref: str) -> str:
        """Return the id for a name, an id, or a beginning of an id that fits only one."""
        if not isinstance(ref, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(f"{ref!r} is not a container's name or id", hint="give a str")
        target = self.names.holder(ref) if is_name(ref) else None
        if target is not None:
            return target
        if ref and all(c in "0123456789abcdef" for c in ref):
            if len(ref) == 64:
                if os.path.isdir(self.layout.paths(ref).home):
                    return ref
            else:
                found = [i for i in self.ids() if i.startswith(ref)]
                if len(found) == 1:
                    return found[0]
                if found:
                    raise NoSuchContainer(
                        f"{ref!r} is the beginning of {len(found)} containers' ids",
                        hint="write more of the id: " + ", ".join(i[:16] for i in sorted(found)),
                    )
        # The link is an index, not the truth: it may have been lost.
        for container_id in self.ids():
            try:
                if self.peek(container_id).name == ref:
                    return container_id
            except (NoSuchContainer, RecordCorrupt):
                continue
        raise NoSuchContainer(
            f"there is no container with the name or id {ref!r}",
            hint="`longshore ps --all` lists the containers of this root directory",
        )

    def exit_record(self, container_id: str) -> ExitInfo | None:
        """Return the last exit of a container that was removed, while it is kept."""
        try:
            data = read_file(self.layout.exit_record(container_id))
            if data is None:
                return None
            return ExitInfo.from_json(json.loads(data)["exit"])
        except (ValueError, KeyError, TypeError, RecursionError, IsADirectoryError):
            return None

    # changing

    def create(self, record: Record) -> None:
        """Write a new container's record and take its name. NameInUse leaves nothing behind.

        InvalidArgument for a record that could not be read again.
        """
        home = self.layout.paths(record.id).home
        data = _bytes(record)
        try:
            _parse(data, home, record.id)
        except RecordCorrupt as err:
            raise InvalidArgument(f"container {record.name} cannot be kept: {err.why}") from err
        # Whole or not there: what a killed creation leaves is no container; `sweep` takes it away.
        staging = f"{self.layout.containers}/{staging_name(record.id)}"
        try:
            os.mkdir(staging, 0o700)
            create_exclusive(f"{staging}/lock", b"")
            _write(f"{staging}/record.json", data)
            # The name first: a container that is there has it.
            self.names.take(record.name, record.id)
            os.rename(staging, home)
        except BaseException:
            try:
                self.names.give_back(record.name, record.id)
            finally:
                remove_tree(staging)
                remove_tree(home)
            raise

    def sweep(self) -> None:
        """Take away what killed creations, renamings and removals left: nobody else looks at it."""
        for entry in _names(self.layout.containers):
            maker = maker_of(entry)
            if maker is not None and not is_alive(maker):
                remove_tree(f"{self.layout.containers}/{entry}")
            # a home comes with its record, and the record goes first
            elif len(entry) == 64 and not os.path.exists(self.layout.paths(entry).record):
                try:
                    with self.lock_only(entry, "sweep", time.monotonic()):
                        remove_tree(f"{self.layout.containers}/{entry}")
                except NoSuchContainer:
                    remove_tree(f"{self.layout.containers}/{entry}")
                except Busy:
                    continue  # its removal is under way
        self.names.sweep()
        if os.path.isdir(self.layout.levels):
            self.levels.sweep()

    def locked(self, container_id: str, purpose: str, *, deadline: float | None = None) -> Locked:
        """Lock one container and read its record; use as ``with store.locked(…) as held:``.

        Busy at the deadline (`time.monotonic`; `busy_timeout` from now if it is None), with the
        holder and since when.
        """
        return run(self.locked_steps(container_id, purpose, deadline=deadline))

    def locked_steps(
        self, container_id: str, purpose: str, *, deadline: float | None = None
    ) -> Steps[Locked]:
        """Do what `locked` does, in steps."""
        lock = yield from self._lock_steps(container_id, purpose, deadline)
        try:
            return Locked(self, lock, self.peek(container_id))
        except BaseException:
            lock.__exit__()
            raise

    def deadline(self, given: float | None) -> float:
        """Return until when a lock is waited for; never without an end."""
        return time.monotonic() + self.busy_timeout if given is None else given

    def lock_only(self, container_id: str, purpose: str, deadline: float | None = None) -> FileLock:
        """Lock a container whose record may be damaged or missing; use it as `locked`."""
        return run(self._lock_steps(container_id, purpose, deadline))

    def _lock_steps(
        self, container_id: str, purpose: str, deadline: float | None
    ) -> Steps[FileLock]:
        paths = self.layout.paths(container_id)
        lock = FileLock(paths.lock, purpose=purpose, deadline=self.deadline(deadline))
        try:
            try:
                yield from lock.take_steps()
            except FileNotFoundError:
                if not os.path.exists(paths.record):  # the last thing of a container to go
                    raise
                create_exclusive(paths.lock, b"")
                yield from lock.take_steps()
            return lock
        except (FileNotFoundError, FileExistsError) as err:
            raise NoSuchContainer(f"there is no container {container_id[:12]}") from err
        except LockBusy as err:
            raise Busy(container_id[:12], err.holder, err.since) from err

    def write(self, record: Record) -> None:
        """Put a record on disk in one step. The caller holds the lock, or nobody knows it yet."""
        _write(self.layout.paths(record.id).record, _bytes(record))

    def rename(self, held: Locked, name: str) -> None:
        """Give a locked container another name, atomically: it is never without one."""
        old = held.record.name
        if name == old:
            return
        # Under the guard: until it is saved, the new name looks like a leftover to others.
        with self.names.guard(f"take the name {name}"):
            self.names.take_over(name, held.record.id)
            held.save(held.record.replace(config=held.record.config.replace(name=name)))
            self.names.let_go(old, held.record.id)

    def keep_exit(self, container_id: str, name: str, info: ExitInfo) -> None:
        """Keep an exit beyond its container; written before the container is removed."""
        path = self.layout.exit_record(container_id)
        _write(path, json.dumps({"name": name, "exit": info.to_json()}).encode())
        if container_id.startswith("00"):  # about one in 256: cheap, and often enough
            self._forget_exits()

    def remove(self, container_id: str, name: str | None) -> None:
        """Forget a container: its files, its record, then its name. The lock is held.

        In this order a crash leaves a container that can be removed again, and that has its name,
        or a link to nothing, which the next one who wants the name takes over.
        """
        paths = self.layout.paths(container_id)
        if name is None:
            name = self.names.of(container_id)
        if os.path.isdir(paths.execs):
            from longshore.store.sessions import SessionStore  # few containers have any

            SessionStore(self, container_id).keep_exits()
        for path in (paths.run, paths.exit_dir, paths.merged):
            remove_tree(path)
        self._remove_owned(paths.layer)
        remove_file(paths.record)
        if name is not None:
            self.names.let_go(name, container_id)
        remove_tree(paths.home)

    def _forget_exits(self) -> None:
        kept: list[tuple[float, str]] = []
        with os.scandir(f"{self.layout.root}/exits") as entries:
            for entry in entries:
                try:
                    kept.append((entry.stat().st_mtime, entry.path))
                except FileNotFoundError:
                    continue
        kept.sort(reverse=True)
        oldest = time.time() - KEPT_SECONDS
        for index, (when, path) in enumerate(kept):
            if index >= KEPT_EXIT_RECORDS or when < oldest:
                remove_file(path)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _bytes(record: Record) -> bytes:
    return json.dumps({"format": FORMAT, **record.to_json()}).encode()


def _write(path: str, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except FileNotFoundError:
        raise
    except OSError as err:
        raise StoreError(
            f"cannot write the record {path}: {err.strerror}",
            hint="is the disk full, or the root directory read-only?",
        ) from err


def _parse(data: bytes, path: str, container_id: str) -> Record:
    """Return a record of which every value is what it is declared to be, or RecordCorrupt."""
    try:
        raw: Any = json.loads(data)
        if not is_table(raw):
            raise RecordCorrupt(path, "it is no object")
        written_by = raw.pop("format", None)
        if type(written_by) is not int or written_by < 1:
            raise RecordCorrupt(path, f"its format is {written_by!r}")
        if written_by > FORMAT:
            raise RecordCorrupt(
                path, f"its format {written_by} is newer than this Longshore knows ({FORMAT})"
            )
        record = Record.from_json(raw)
    except (ValueError, RecursionError) as err:
        raise RecordCorrupt(path, str(err) or type(err).__name__) from err
    if record.id != container_id:
        raise RecordCorrupt(path, f"it is the record of {record.id!r}")
    if not is_name(record.name):
        raise RecordCorrupt(path, f"{record.name!r} is not a name")
    return record
