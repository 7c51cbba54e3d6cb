"""What stands between a caller and the program of an exec: the runtime, before it and beside it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.trees import Tree


def has_begun(tree: Tree, runtime: str) -> bool:
    """Whether any process of an exec executes something else than the runtime at this path."""
    if tree.inside is not None:
        return tree.inside.program() is not None
    own = os.stat(runtime)
    for pid in tree.processes():
        link = f"/proc/{pid}/exe"
        try:
            # runc executes a copy of itself
            if not (
                os.path.samestat(os.stat(link), own) or os.readlink(link).startswith("/memfd:")
            ):
                return True
        except OSError:  # it has just ended
            continue
    return False


def free_copier(tree: Tree, runtime: int) -> None:
    """Make a runtime that copies streams end, though what its program has left holds them still.

    It waits to read something more from its own pipes. When it does, and nobody reads what it
    writes, it gives up and ends with its program's code (runc 1.1.5, measured).
    """
    held = {link for pid in tree.processes() for link in _pipes(pid).values()}
    for number, link in _pipes(runtime).items():
        if number > 2 and link in held:
            try:
                # the runtime's end of it, and not one that a container could put in its place
                fd = os.open(f"/proc/{runtime}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                os.write(fd, b"\n")
            except OSError:
                pass
            finally:
                os.close(fd)


def _pipes(pid: int) -> dict[int, str]:
    """Return the pipes that a process has open, by descriptor."""
    found: dict[int, str] = {}
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for number in numbers:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if link.startswith("pipe:"):
            found[int(number)] = link
    return found
