"""Mounts as descriptors: taken where one process sees them, put where another does.

A bind by path cannot do that: the kernel refuses what is mounted in another mount namespace
(EINVAL, measured on 6.18). open_tree(2) clones a mount in the namespace it is in, and move_mount(2)
attaches the clone in any. In between nobody sees it, and it ends with its descriptor.
"""

from __future__ import annotations

import errno
import os

from longshore.errors import HostUnsupported
from longshore.linux.procs import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = f"{os.path.dirname(os.path.abspath(__file__))}/sharemount.py"
_PATIENCE = 60.0  # seconds, for 20 ms of work


def share(python: Sequence[str], source: int, target: int, path: str) -> None:
    """Mount what one mount namespace has on ``path`` on the same path of another, in its place.

    ``source`` and ``target`` are descriptors of mount namespaces (/proc/PID/ns/mnt). No link is
    followed in either, and what is shared is nosuid, nodev and noexec there, whatever its owner has
    made of it. A program of its own does it (`sharemount` says why), run by ``python``, which are
    the words that lead to one with the right to do so; 20 ms.

    OSError: ENOTDIR or ELOOP for what is no directory, EINVAL where no file system is mounted.
    Raises `HostUnsupported` before Linux 5.12.
    """
    done = run(
        [*python, "-I", "-S", _PROGRAM, str(source), str(target), path],
        pass_fds=(source, target),
        timeout=_PATIENCE,
    )
    if done.returncode != 0:
        raise OSError(errno.EIO, done.stderr.decode("utf-8", "replace").strip()[-500:], path)
    number = int(done.stdout or b"0")
    if number == errno.ENOSYS:
        raise HostUnsupported(
            "the mount of another container is shared with mount_setattr(2), of Linux 5.12",
            os.uname().release,
        )
    if number:
        raise OSError(number, os.strerror(number), path)
