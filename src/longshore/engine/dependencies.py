"""Which containers need which: one that joins another's namespace is removed before it.

A container keeps the ids of those that need it as empty files (`Paths.dependents`), so that a
removal costs one look, however many containers there are. A file is made before the record that it
speaks of, under the lock of the container that is needed, and goes after it: a crash leaves a file
too many, which says nothing, and never one too few.
"""

from __future__ import annotations

import contextlib
import os

from longshore.errors import HasDependents, NoSuchContainer, RecordCorrupt
from longshore.linux.files import create_exclusive, make_directory, remove_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.options import ContainerConfig
    from longshore.store import Record


def resolved(machinery: Machinery, config: ContainerConfig) -> ContainerConfig:
    """Return a configuration that calls containers by their ids, which no rename changes.

    NoSuchContainer for one that is not there.
    """
    modes: dict[str, str] = {}
    for field, ref in config.joined.items():
        try:
            modes[field] = f"container:{machinery.store.resolve(ref)}"
        except NoSuchContainer as err:
            raise NoSuchContainer(f"{field}: {err}", hint=err.hint) from err
    return config.replace(**modes)


def create(machinery: Machinery, record: Record) -> None:
    """Do what `Store.create` does; meanwhile nobody removes what the new container needs."""
    needed = sorted(set(record.config.joined.values()))  # one order for all: no deadlock
    with contextlib.ExitStack() as locks:
        for other in needed:
            locks.enter_context(machinery.store.lock_only(other, "join its namespaces"))
            machinery.store.peek(other)
        try:
            for other in needed:
                make_directory(machinery.paths(other).dependents, 0o700)
                create_exclusive(_file(machinery, other, record.id), b"")
            machinery.store.create(record)
        except BaseException:
            leave(machinery, record)
            raise


def leave(machinery: Machinery, record: Record) -> None:
    """Let go of what a container that is gone has needed."""
    for other in record.config.joined.values():
        remove_file(_file(machinery, other, record.id))


def of(machinery: Machinery, container_id: str) -> dict[str, str]:
    """Return id → name of the containers that need this one."""
    found: dict[str, str] = {}
    try:
        entries = os.listdir(machinery.paths(container_id).dependents)
    except FileNotFoundError:
        return found
    for entry in entries:
        try:
            found[entry] = machinery.store.peek(entry).name
        except RecordCorrupt:
            found[entry] = entry[:12]
        except NoSuchContainer:
            continue
    return found


def refuse(machinery: Machinery, container_id: str) -> None:
    """Raise HasDependents if other containers need this one."""
    found = of(machinery, container_id)
    if found:
        try:
            name = machinery.store.peek(container_id).name
        except RecordCorrupt:
            name = container_id[:12]
        raise HasDependents(name, sorted(found.values()))


def _file(machinery: Machinery, container_id: str, dependent: str) -> str:
    return f"{machinery.paths(container_id).dependents}/{dependent}"
