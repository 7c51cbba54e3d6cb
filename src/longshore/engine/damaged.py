"""Remove a container whose record cannot be read, from what can be found without it."""

from __future__ import annotations

import contextlib
import json
import os

from longshore.cgroup.placement import CGROUPFS, SYSTEMD, slice_above
from longshore.engine import events, finishing
from longshore.engine.monitors import end_monitor
from longshore.engine.observe import find_monitor
from longshore.errors import LongshoreError, NoSuchContainer
from longshore.linux.files import remove_tree
from longshore.options import ContainerConfig
from longshore.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery


def remove(machinery: Machinery, container_id: str, deadline: float | None) -> None:
    """Remove a damaged container by force. Busy at the deadline, as `Store.lock_only`.

    Nothing is known of its last exit: none is kept.
    """
    try:
        lock = machinery.store.lock_only(container_id, "remove", deadline)
    except NoSuchContainer:
        machinery.store.remove(container_id, None)
        return
    with lock:
        end_monitor(machinery, find_monitor(machinery, container_id))
        config = _known_config(machinery, container_id)
        placement = machinery.placement(config, container_id)
        finishing.end_tree(machinery, placement.own.path)
        finishing.end_execs(machinery, container_id)
        for name in _runtime_names(machinery):
            with contextlib.suppress(LongshoreError):
                machinery.runtime(name, placement.manager).delete(container_id)
            remove_tree(f"{machinery.layout.runtimes}/{name}/{container_id}")  # a runtime by path
        finishing.clear(machinery, container_id, None)
        placement.remove()
        machinery.store.remove(container_id, None)
        events.emit(machinery, "remove", Record(id=container_id, config=config, created_ns=0))


def _known_config(machinery: Machinery, container_id: str) -> ContainerConfig:
    """Return what the runtime was told of the cgroup; where that is gone too, the defaults."""
    config = ContainerConfig(name=container_id)
    try:
        with open(machinery.paths(container_id).config, encoding="utf-8") as file:
            path = json.load(file)["linux"]["cgroupsPath"]
        own, _, rest = path.partition(":")
        if rest:
            if rest.rpartition(":")[2] != container_id:
                return config
            return config.replace(
                cgroup_manager=SYSTEMD, cgroup_parent=slice_above(own, container_id)
            )
        own = os.path.dirname(path)
        if os.path.basename(own) != container_id:
            return config
        return config.replace(cgroup_manager=CGROUPFS, cgroup_parent=os.path.dirname(own))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return config


def _runtime_names(machinery: Machinery) -> list[str]:
    try:
        return os.listdir(machinery.layout.runtimes)
    except FileNotFoundError:
        return []
