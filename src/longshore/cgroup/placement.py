"""cgroupfs placement: where a container, and the conmon beside it, live in the cgroup tree.

PARENT/ID             Longshore's own: usage outlives the container, killing means the tree
PARENT/ID/container   the runtime's
PARENT/conmon         the monitors' (removed when it empties)
"""

from __future__ import annotations

from longshore.linux.cgroups import Cgroup, Layout

DEFAULT_PARENT = "/longshore"


class Placement:
    """The cgroups of one container under the cgroupfs manager. It makes no D-Bus call."""

    __slots__ = ("monitors", "own", "runtime")

    def __init__(self, layout: Layout, parent: str, container_id: str) -> None:
        top = Cgroup(layout, parent.rstrip("/") or DEFAULT_PARENT)
        self.own = top.child(container_id)
        self.runtime = self.own.child("container")
        self.monitors = top.child("conmon")

    def place_monitor(self, pid: int) -> str:
        """Move conmon into its cgroup; return why it could not be done, or ""."""
        for attempt in (1, 2):
            try:
                self.monitors.create()
                self.monitors.add(pid)
                return ""
            except FileNotFoundError as err:
                # Another container's clean-up removed it, empty, between the two steps.
                if attempt == 2:
                    return str(err)
            except OSError as err:
                return str(err)
        return ""

    def remove(self) -> bool:
        """Remove the container's cgroups; False when a process is still in them."""
        return self.own.remove()

    def remove_monitors(self) -> None:
        """Remove the monitors' cgroup if it is empty."""
        self.monitors.remove()


def scope_name(prefix: str, name: str) -> str:
    """Return the name of a systemd scope (S3); what a scope's cgroup is called below its slice."""
    return f"{prefix}-{name}.scope"
