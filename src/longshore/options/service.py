"""Check what a container has to do with the service manager that starts it."""

from __future__ import annotations

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.options.parse import nearest, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SDNOTIFY = ("container", "conmon", "ignore")
CGROUPS = ("enabled", "no-conmon")


def sdnotify(given: Mapping[str, Any]) -> str:
    """Return whose READY=1 the service manager hears; "" where nobody has said it."""
    mode = text(given.get("sdnotify", ""), "sdnotify")
    if mode == "healthy":
        raise HostUnsupported(
            "sdnotify: healthy",
            "this version has no health checks, so nothing would ever be ready",
            hint="container (its program says READY=1), or conmon (ready as soon as it runs)",
        )
    if mode not in ("", *SDNOTIFY):
        raise InvalidArgument(
            f"sdnotify: {mode!r} is not known",
            hint=nearest(mode, SDNOTIFY) or f"it is one of {', '.join(SDNOTIFY)}",
        )
    return mode


def cgroups(given: Mapping[str, Any]) -> str:
    """Return whether conmon gets a cgroup beside its container's; "" is that it does."""
    mode = text(given.get("cgroups", ""), "cgroups")
    if mode in ("disabled", "split"):
        raise HostUnsupported(
            f"cgroups: {mode}",
            "a container's cgroups are always its own here",
            hint="no-conmon leaves conmon in the cgroup of the service that starts it",
        )
    if mode not in ("", *CGROUPS):
        raise InvalidArgument(
            f"cgroups: {mode!r} is not known", hint=f"it is one of {', '.join(CGROUPS)}"
        )
    return "" if mode == "enabled" else mode
