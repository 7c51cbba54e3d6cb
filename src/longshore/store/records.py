"""One JSON record a container, replaced atomically, changed under that container's own lock.

A record says what was asked for and what was last seen; what *is* is computed from facts by the
engine. Reading takes no lock. A record that cannot be read disables one container and no other.
"""

from __future__ import annotations

import json
import os
import time

from longshore._value import Value
from longshore.errors import Busy, NameInUse, NoSuchContainer, RecordCorrupt, StoreError
from longshore.lifecycle import Status
from longshore.linux.files import (
    create_exclusive,
    read_file,
    remove_file,
    remove_tree,
    write_atomic,
)
from longshore.linux.locks import FileLock, LockBusy
from longshore.linux.processes import ProcessId
from longshore.models import ExitInfo
from longshore.options import ContainerConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from longshore.store.layout import Layout

FORMAT = 1  # of records on disk; a higher one was written by a newer Longshore
KEPT_EXITS = 10  # in a record
KEPT_EXIT_RECORDS = 10_000  # of removed containers
KEPT_SECONDS = 3600.0


class Run(Value):
    """One start of a container: who runs, under which boot, and what was done to it."""

    _nested = {
        "actor": ProcessId.from_json,
        "monitor": ProcessId.from_json,
        "init": ProcessId.from_json,
    }

    number: int  # 1, 2, 3 …
    boot_id: str
    runtime: str  # name
    runtime_path: str
    cgroup: str = ""  # Longshore's own, in every hierarchy
    actor: ProcessId | None = None  # who is starting it; None when the start has been finished
    monitor: ProcessId | None = None
    init: ProcessId | None = None
    started_ns: int | None = None
    # What somebody asked for and what it may therefore die of: "", stop, escalate, kill, timeout
    intent: str = ""
    intent_signal: int = 0
    note: str = ""  # what to say of its end


class Record(Value):
    """All that is remembered of one container."""

    _nested = {
        "config": ContainerConfig.from_json,
        "status": Status,
        "run": Run.from_json,
        "exits": ExitInfo.from_json,
    }

    id: str
    config: ContainerConfig
    created_ns: int
    status: Status = Status.CREATED  # as last seen
    run: Run | None = None  # the one that lives, or the last one
    exits: tuple[ExitInfo, ...] = ()  # oldest first
    starts: int = 0
    error: str = ""  # why the last start failed

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

    __slots__ = ("layout",)

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    # reading, without locks

    def ids(self) -> list[str]:
        """Return the ids of all containers, damaged ones too."""
        return [name for name in _names(self.layout.containers) if len(name) == 64]

    def peek(self, container_id: str) -> Record:
        """Return the record as it is now. NoSuchContainer, or RecordCorrupt."""
        path = self.layout.paths(container_id).record
        data = read_file(path)
        if data is None:
            raise NoSuchContainer(f"there is no container {container_id[:12]}")
        return _parse(data, path, container_id)

    def resolve(self, ref: str) -> str:
        """Return the id for a name, an id, or a beginning of an id that fits only one."""
        try:
            target = os.readlink(self.layout.name_link(ref)) if _is_name(ref) else ""
        except (FileNotFoundError, NotADirectoryError, OSError):
            target = ""
        if target and os.path.exists(self.layout.paths(target).record):
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
        # The link is an index, not the truth: a removal that was cut short has taken it away.
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
        data = read_file(self.layout.exit_record(container_id))
        if data is None:
            return None
        try:
            return ExitInfo.from_json(json.loads(data)["exit"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    # changing

    def create(self, record: Record) -> None:
        """Write a new container's record and take its name. NameInUse leaves nothing behind."""
        home = self.layout.paths(record.id).home
        # Whole or not there: what a killed creation leaves is no container; `sweep` takes it away.
        staging = f"{self.layout.containers}/.{os.getpid()}.{record.id}"
        try:
            os.mkdir(staging, 0o700)
            create_exclusive(f"{staging}/lock", b"")
            self._write(record, f"{staging}/record.json")
            os.rename(staging, home)
            # The name last: one that points to no record is a leftover and may be taken.
            self._take_name(record.name, record.id)
        except BaseException:
            remove_tree(staging)
            remove_tree(home)
            raise

    def sweep(self) -> None:
        """Take away what killed creations, renamings and removals left: nobody else looks at it."""
        for entry in _names(self.layout.containers):
            pid = entry.partition(".")[2].partition(".")[0]
            left_by_creation = pid.isdigit() and not os.path.exists(f"/proc/{pid}")
            # a home comes with its record, and the record goes first
            is_home = len(entry) == 64
            left_by_removal = is_home and not os.path.exists(self.layout.paths(entry).record)
            if left_by_creation or left_by_removal:
                remove_tree(f"{self.layout.containers}/{entry}")
        for name in _names(self.layout.names):
            if self._owner(name) is not None:
                continue
            try:
                target = os.readlink(self.layout.name_link(name))
            except OSError:
                continue
            try:
                # a renaming has taken its new name already, and holds this lock
                with self.lock_only(target, "sweep", time.monotonic()), self._names_guard("sweep"):
                    if self._owner(name) is None:
                        self._free_name(name, target)
            except NoSuchContainer:
                with self._names_guard("sweep"):
                    if self._owner(name) is None:
                        self._free_name(name, target)
            except Busy:
                continue

    def locked(self, container_id: str, purpose: str, *, deadline: float | None = None) -> Locked:
        """Lock one container and read its record; use as ``with store.locked(…) as held:``.

        Busy at the deadline (`time.monotonic`), with the holder and since when.
        """
        lock = self._lock(container_id, purpose, deadline)
        try:
            return Locked(self, lock, self.peek(container_id))
        except BaseException:
            lock.__exit__()
            raise

    def lock_only(self, container_id: str, purpose: str, deadline: float | None = None) -> FileLock:
        """Lock a container whose record may be damaged or missing; use it as `locked`."""
        return self._lock(container_id, purpose, deadline)

    def _lock(self, container_id: str, purpose: str, deadline: float | None) -> FileLock:
        paths = self.layout.paths(container_id)
        lock = FileLock(paths.lock, purpose=purpose, deadline=deadline)
        try:
            try:
                return lock.__enter__()
            except FileNotFoundError:
                if not os.path.exists(paths.record):  # the last thing of a container to go
                    raise
                create_exclusive(paths.lock, b"")
                return lock.__enter__()
        except (FileNotFoundError, FileExistsError) as err:
            raise NoSuchContainer(f"there is no container {container_id[:12]}") from err
        except LockBusy as err:
            holder, since = _describe(err.holder)
            raise Busy(container_id[:12], holder, since) from err

    def write(self, record: Record) -> None:
        """Put a record on disk in one step. The caller holds the lock, or nobody knows it yet."""
        self._write(record, self.layout.paths(record.id).record)

    def _write(self, record: Record, path: str) -> None:
        data = {"format": FORMAT, **record.to_json()}
        try:
            write_atomic(path, json.dumps(data).encode())
        except FileNotFoundError:
            raise
        except OSError as err:
            raise StoreError(
                f"cannot write the record {path}: {err.strerror}",
                hint="is the disk full, or the root directory read-only?",
            ) from err

    def rename(self, held: Locked, name: str) -> None:
        """Give a locked container another name, atomically: it is never without one."""
        old = held.record.name
        if name == old:
            return
        # Under the guard: until it is saved, the new name looks like a leftover to others.
        with self._names_guard(f"take the name {name}"):
            self._take_name_guarded(name, held.record.id)
            held.save(held.record.replace(config=held.record.config.replace(name=name)))
            self._free_name(old, held.record.id)

    def keep_exit(self, container_id: str, name: str, info: ExitInfo) -> None:
        """Keep an exit beyond its container; written before the container is removed."""
        path = self.layout.exit_record(container_id)
        write_atomic(path, json.dumps({"name": name, "exit": info.to_json()}).encode())
        if container_id.startswith("00"):  # about one in 256: cheap, and often enough
            self._forget_exits()

    def remove(self, container_id: str, name: str | None) -> None:
        """Forget a container: its name, then its record, then its files. The lock is held.

        In this order a crash leaves a container that can be removed again, never a name that
        cannot be used.
        """
        paths = self.layout.paths(container_id)
        if name is None:
            name = self._name_of(container_id)
        if name is not None:
            self._free_name(name, container_id)
        remove_tree(paths.run)
        remove_tree(paths.exit_dir)
        for path in (paths.merged, paths.layer):
            remove_tree(path)
        remove_file(paths.record)
        remove_tree(paths.home)

    def _take_name(self, name: str, container_id: str) -> None:
        try:
            os.symlink(container_id, self.layout.name_link(name))
            return
        except FileExistsError:
            pass
        # Taken, or left over from a creation that was killed. Only this rare case has a lock.
        with self._names_guard(f"take the name {name}"):
            self._take_name_guarded(name, container_id)

    def _names_guard(self, purpose: str) -> FileLock:
        guard = f"{self.layout.root}/names.lock"
        if not os.path.exists(guard):
            try:
                create_exclusive(guard, b"")
            except FileExistsError:
                pass
        return FileLock(guard, purpose=purpose)

    def _take_name_guarded(self, name: str, container_id: str) -> None:
        link = self.layout.name_link(name)
        owner = self._owner(name)
        if owner is not None:
            raise NameInUse(
                f"the name {name!r} is in use by container {owner[:12]}",
                hint=f"take another name, or remove it: `longshore rm {name}`",
            )
        remove_file(link)
        try:
            os.symlink(container_id, link)
        except FileExistsError as err:
            raise NameInUse(f"the name {name!r} was taken a moment ago") from err

    def _owner(self, name: str) -> str | None:
        """Return the container that really has a name: its record says so, or is damaged."""
        try:
            target = os.readlink(self.layout.name_link(name))
        except OSError:
            return None
        try:
            return target if self.peek(target).name == name else None
        except NoSuchContainer:
            return None
        except RecordCorrupt:
            return target

    def _free_name(self, name: str, container_id: str) -> None:
        link = self.layout.name_link(name)
        try:
            if os.readlink(link) == container_id:
                remove_file(link)
        except FileNotFoundError:
            return

    def _name_of(self, container_id: str) -> str | None:
        for name in os.listdir(self.layout.names):
            try:
                if os.readlink(self.layout.name_link(name)) == container_id:
                    return name
            except OSError:
                continue
        return None

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


def _is_name(ref: str) -> bool:
    return bool(ref) and "/" not in ref and "\0" not in ref and not ref.startswith(".")


def _describe(note: str) -> tuple[str, str]:
    pid, _, rest = note.partition(" ")
    since, _, purpose = rest.partition(" ")
    try:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(since)))
    except ValueError:
        return "another process", "a moment ago"
    return f"process {pid} ({purpose})", moment


# What listings compute with, so that one odd record cannot spoil the list of all.
_KINDS = (
    ("created_ns", int), ("starts", int), ("name", str), ("error", str), ("exits", tuple),
    ("config", ContainerConfig), ("status", Status),
)  # fmt: skip


def _parse(data: bytes, path: str, container_id: str) -> Record:
    try:
        raw: Any = json.loads(data)
        if raw["format"] > FORMAT:
            raise RecordCorrupt(
                path, f"its format {raw['format']} is newer than this Longshore knows ({FORMAT})"
            )
        record = Record.from_json(raw)
        if record.id != container_id:
            raise RecordCorrupt(path, f"it is the record of {record.id!r}")
        for name, kind in _KINDS:
            if type(getattr(record, name)) is not kind:
                raise RecordCorrupt(path, f"its {name} is {getattr(record, name)!r}")
        return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise RecordCorrupt(path, str(err) or type(err).__name__) from err
