"""Bytes into a container: its standard input, by way of conmon."""

from __future__ import annotations

import os

from longshore.linux.processes import open_pidfd
from longshore.linux.procs import poll_until
from longshore.monitor.attach import StdinSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery

_CHUNK = 1 << 16


def feed(
    machinery: Machinery,
    container_id: str,
    source: int | bytes,
    deadline: float | None = None,
) -> None:
    """Write a container's whole standard input and stay until it has ended, or the deadline came.

    ``source`` is a descriptor that is read to its end, or the bytes themselves.
    """
    run = machinery.store.peek(container_id).run
    init = open_pidfd(run.init) if run is not None else None
    if init is None:
        return  # it has ended already, and read what it wanted
    try:
        with StdinSocket(machinery.paths(container_id).attach_socket) as stdin:
            if isinstance(source, bytes):
                whole = stdin.send(source, until=init, deadline=deadline)
            else:
                whole = _copy(source, stdin, init, deadline)
            if whole:
                stdin.end()
                stdin.drain(until=init, deadline=deadline)
    except (FileNotFoundError, ConnectionRefusedError):
        return  # conmon is gone: the container has ended
    finally:
        os.close(init)


def _copy(source: int, stdin: StdinSocket, init: int, deadline: float | None) -> bool:
    """Copy a descriptor until its end (True); False when the container has ended before."""
    while True:
        ready = poll_until([source, stdin.fileno(), init], deadline)
        if not ready or init in ready:
            return False
        if stdin.fileno() in ready and not stdin.discard():
            return False
        if source in ready:
            data = os.read(source, _CHUNK)
            if not data:
                return True
            if not stdin.send(data, until=init, deadline=deadline):
                return False
