"""``longshore update``: change the limits of a container."""

from __future__ import annotations

from longshore.cli.creation import FLAGS, value_of
from longshore.cli.flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed

_NAMES = frozenset(
    """
    blkio-weight blkio-weight-device cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems
    device-read-bps device-read-iops device-write-bps device-write-iops
    memory memory-reservation memory-swap memory-swappiness pids-limit
    """.split()  # noqa: SIM905
)
_FLAGS = tuple(flag for flag in FLAGS if flag.name in _NAMES)


def run(app: App, parsed: Parsed) -> int:
    """Change the limits of one container and print its id, as podman does."""
    limits: dict[str, Any] = {
        flag.name.replace("-", "_"): value_of(flag, parsed)
        for flag in _FLAGS
        if parsed.given(flag.name)
    }
    box = app.engine.get(parsed.args[0])
    box.update(**limits)
    print(box.id)
    return 0


COMMAND = Command(
    run,
    usage="[options] CONTAINER",
    about="""
Changes limits, of a running container at once and for every later start. What is not named stays.
0 takes a limit of memory, CPUs or a device away, -1 that of processes. The id is printed.""",
    examples=("update --memory 256m web", "update --cpus 1.5 --pids-limit 100 web"),
    flags=_FLAGS,
    least=1,
    most=1,
    completes="container",
)
