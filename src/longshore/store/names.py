"""Who has which name: one link a name, whose target is the container's id.

A name is taken before its container is there, and let go after its record is gone, so that a
container never is without its name, whatever is killed in between. What that can leave is a link to
nothing; who wants the name takes the link over. A link is taken away only by who holds the lock of
the container that it points to, or sees that there is none and holds `names.lock`; who takes one
over holds both. Making a link that is not there needs neither.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from longshore.errors import Busy, NameInUse, NoSuchContainer, RecordCorrupt
from longshore.linux.files import create_exclusive, remove_file
from longshore.linux.locks import FileLock, LockBusy
from longshore.linux.processes import ProcessId, identify, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from longshore.store.records import Store

_PATIENCE = 1.0  # seconds; a removal that has come to the name is over in less than a millisecond


def is_name(text: str) -> bool:
    """Whether this can be a name: ASCII, and a file's name that no directory listing hides."""
    return (
        0 < len(text) <= 250
        and text.isascii()
        and text.isprintable()
        and not text.startswith(".")
        and "/" not in text
    )


class Names:
    """The names of one store."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def holder(self, name: str) -> str | None:
        """Return the container that has a name: its record says so, or is damaged."""
        target = self._target(name)
        return target if target is not None and self._is_called(target, name) else None

    def owner(self, name: str) -> str | None:
        """Return the container that has a name, or is being made with it."""
        target = self._target(name)
        if target is None:
            return None
        if self._is_called(target, name) or self._is_being_made(target):
            return target
        # it may have come to be between these two looks
        return target if self._is_called(target, name) else None

    def take(self, name: str, container_id: str) -> None:
        """Take a name for a container that is being made. NameInUse."""
        try:
            os.symlink(container_id, self._store.layout.name_link(name))
            return
        except FileExistsError:
            pass
        # Taken, or left over. Only this rare case has a lock.
        with self.guard(f"take the name {name}"):
            self.take_over(name, container_id)

    def take_over(self, name: str, container_id: str) -> None:
        """Take a name that may have a link already, under the guard. NameInUse."""
        self._check_free(name)
        target = self._target(name)
        if target == container_id:
            return
        if target is None:
            self._link(name, container_id)
            return
        # A removal that is not over may be about to take this very link away.
        gone = not os.path.exists(self._store.layout.paths(target).record)
        deadline = time.monotonic() + (_PATIENCE if gone else 0)
        try:
            with self._store.lock_only(target, f"take the name {name}", deadline):
                self._check_free(name)
                self.let_go(name, target)
        except NoSuchContainer:
            self._check_free(name)
            self.let_go(name, target)
        except Busy as err:
            raise NameInUse(
                f"the name {name!r} was that of container {target[:12]}, which is busy: {err}",
                hint="try again in a moment",
            ) from err
        self._link(name, container_id)

    def let_go(self, name: str, container_id: str) -> None:
        """Take a name's link away if it is this container's. Its lock is held, or the guard."""
        if self._target(name) == container_id:
            remove_file(self._store.layout.name_link(name))

    def give_back(self, name: str, container_id: str) -> None:
        """Take back what `take` did for a container that did not come to be."""
        if self._target(name) == container_id:
            with self.guard(f"give the name {name} back"):
                self.let_go(name, container_id)

    def of(self, container_id: str) -> str | None:
        """Return the name whose link points to a container. It costs a look at all of them."""
        return next((name for name in self.all() if self._target(name) == container_id), None)

    def all(self) -> list[str]:
        """Return every name that has a link."""
        try:
            return os.listdir(self._store.layout.names)
        except FileNotFoundError:
            return []

    def sweep(self) -> None:
        """Take away the links that lead to nothing, or to a container with another name."""
        for name in self.all():
            if self.owner(name) is not None:
                continue
            with self.guard("sweep"):
                target = self._target(name)
                if target is None or self.owner(name) is not None:
                    continue
                try:
                    with self._store.lock_only(target, "sweep", time.monotonic()):
                        self.let_go(name, target)
                except NoSuchContainer:
                    self.let_go(name, target)
                except Busy:
                    continue  # it is being removed

    @contextlib.contextmanager
    def guard(self, purpose: str) -> Generator[None]:
        """Hold the lock of all links that exist. A container's own is taken before it, or not
        waited for. Busy when another process does not let go of it."""
        path = f"{self._store.layout.root}/names.lock"
        if not os.path.exists(path):
            try:
                create_exclusive(path, b"")
            except FileExistsError:
                pass
        try:
            with FileLock(path, purpose=purpose, deadline=self._store.deadline(None)):
                yield
        except LockBusy as err:
            raise Busy("the names of containers", err.holder, err.since) from err

    def _target(self, name: str) -> str | None:
        try:
            return os.readlink(self._store.layout.name_link(name))
        except OSError as err:
            return "" if err.errno == errno.EINVAL else None  # no link, and ours to replace

    def _is_called(self, container_id: str, name: str) -> bool:
        try:
            return self._store.peek(container_id).name == name
        except NoSuchContainer:
            return False
        except RecordCorrupt:
            return True

    def _is_being_made(self, container_id: str) -> bool:
        return any(
            entry.endswith(f".{container_id}") and is_alive(maker_of(entry))
            for entry in os.listdir(self._store.layout.containers)
        )

    def _check_free(self, name: str) -> None:
        owner = self.owner(name)
        if owner is not None:
            raise NameInUse(
                f"the name {name!r} is in use by container {owner[:12]}",
                hint=f"take another name, or remove it: `longshore rm {name}`",
            )

    def _link(self, name: str, container_id: str) -> None:
        try:
            os.symlink(container_id, self._store.layout.name_link(name))
        except FileExistsError as err:
            raise NameInUse(f"the name {name!r} was taken a moment ago") from err


def staging_name(container_id: str) -> str:
    """Return what the directory of a container is called until it is whole, with who makes it."""
    maker = identify(os.getpid())
    assert maker is not None
    return f".{maker.pid}.{maker.start}.{container_id}"


def maker_of(entry: str) -> ProcessId | None:
    """Return who makes, or made, what is in a directory of such a name."""
    words = entry.split(".")
    if len(words) != 4 or not (words[1] + words[2]).isdigit():
        return None
    return ProcessId(pid=int(words[1]), start=int(words[2]))
