"""A container as `ps --format` sees it. Names of fields are podman's."""

from __future__ import annotations

import os

from longshore.cli import table
from longshore.cli.govalues import GoMap
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from longshore.engine.inspection import Inspection

_NEVER = -62135596800  # Go's zero time in seconds since the epoch
_NAMESPACES = {  # podman's field: the kernel's name
    "CGROUPNS": "cgroup",
    "IPC": "ipc",
    "MNT": "mnt",
    "NET": "net",
    "PIDNS": "pid",
    "USERNS": "user",
    "UTS": "uts",
}
NS_HEADINGS = ("CONTAINER ID", "NAMES", "PID", *_NAMESPACES)
HEADINGS: dict[str, Any] = {
    "AutoRemove": "AUTO REMOVE",
    "CGROUPNS": "CGROUPNS",
    "Command": "COMMAND",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedHuman": "CREATED",
    "ExitCode": "EXIT CODE",
    "Exited": "EXITED",
    "ExitedAt": "EXITED AT",
    "ID": "CONTAINER ID",
    "IPC": "IPC",
    "Image": "IMAGE",
    "ImageID": "IMAGE ID",
    "IsInfra": "IS INFRA",
    "Label": str,
    "Labels": "LABELS",
    "MNT": "MNT",
    "Mounts": "MOUNTS",
    "NET": "NET",
    "Names": "NAMES",
    "Namespaces": "NAMESPACES",
    "Networks": "NETWORKS",
    "PIDNS": "PIDNS",
    "Pid": "PID",
    "Pod": "POD ID",
    "PodName": "PODNAME",
    "Ports": "PORTS",
    "Restarts": "RESTARTS",
    "RunningFor": "CREATED",
    "Runtime": "RUNTIME",
    "Size": "SIZE",
    "StartedAt": "STARTED AT",
    "State": "STATE",
    "Status": "STATUS",
    "USERNS": "USERNS",
    "UTS": "UTS",
}


def template_row(one: Inspection, now: int, *, whole: bool = False) -> dict[str, Any]:
    """Return the fields that a template can ask for."""
    config = one.config
    labels = GoMap(config.labels)

    def label(name: str) -> Any:
        return labels.get(name, "")

    words = table.status_words(one, now)
    created = table.ago(one.created_ns, now)
    return {
        "AutoRemove": config.remove,
        "Command": table.short_command(config.entrypoint + config.command, whole=whole),
        "Created": created,
        "CreatedAt": table.go_time(one.created_ns),
        "CreatedHuman": created,
        "ExitCode": table.exit_code(one),
        "Exited": _exited(one),
        "ExitedAt": _seconds(one.finished_ns),
        "ID": table.short_id(one.id, whole=whole),
        "Image": config.image,
        "ImageID": "",
        "IsInfra": False,
        "Label": label,
        "Labels": labels,
        "Mounts": _targets(one),
        "Names": config.name,
        "Namespaces": namespaces(one),
        "Networks": "",
        "Pid": one.pid or 0,
        "Pod": "",
        "PodName": "",
        "Ports": "",
        "Restarts": one.restart_count,
        "RunningFor": created,
        "Runtime": one.runtime_name,
        "Size": "",
        "StartedAt": _seconds(one.started_ns),
        "State": words,  # podman's own: the words of STATUS, not the bare status of the JSON
        "Status": words,
        **namespaces(one),
    }


def json_row(one: Inspection, now: int) -> dict[str, Any]:
    """Return the object of `ps --format json`."""
    config = one.config
    return {
        "AutoRemove": config.remove,
        "Command": list(config.entrypoint + config.command),
        "CreatedAt": table.ago(one.created_ns, now),
        "Exited": _exited(one),
        "ExitedAt": _seconds(one.finished_ns),
        "ExitCode": table.exit_code(one),
        "Id": one.id,
        "Image": config.image,
        "ImageID": "",
        "IsInfra": False,
        "Labels": GoMap(config.labels) or None,
        "Mounts": list(_targets(one)),
        "Names": [config.name],
        "Namespaces": {k: v for k, v in namespaces(one).items() if v},
        "Networks": [],
        "Pid": one.pid or 0,
        "Pod": "",
        "PodName": "",
        "Ports": None,
        "Restarts": one.restart_count,
        "Runtime": one.runtime_name,
        "Size": None,
        "StartedAt": _seconds(one.started_ns),
        "State": one.status.value,
        "Status": table.status_words(one, now),
        "Created": one.created_ns // 10**9,
    }


def namespaces(one: Inspection) -> dict[str, str]:
    """Return the numbers of a running container's namespaces; "" where there is none to see."""
    found: dict[str, str] = {}
    for field, kind in _NAMESPACES.items():
        try:
            text = os.readlink(f"/proc/{one.pid}/ns/{kind}") if one.pid else ""
        except OSError:
            text = ""
        found[field] = text.partition("[")[2].rstrip("]")
    return found


def namespaces_line(one: Inspection, *, whole: bool = False) -> Sequence[str]:
    """Return one line of `ps --ns`."""
    ident = table.short_id(one.id, whole=whole)
    return (ident, one.config.name, str(one.pid or 0), *namespaces(one).values())


def _exited(one: Inspection) -> bool:
    return one.status in (Status.EXITED, Status.STOPPED)


def _seconds(ns: int | None) -> int:
    return _NEVER if ns is None else ns // 10**9


def _targets(one: Inspection) -> list[str]:
    return [mount.target for mount in one.config.mounts]
