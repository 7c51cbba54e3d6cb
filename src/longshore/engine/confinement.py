"""Confine a container by what the host has beside namespaces: SELinux, AppArmor.

Imported only where one of them is active.
"""

from __future__ import annotations

from longshore import _log
from longshore.errors import LongshoreError
from longshore.oci import labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.linux.selinux import SELinux
    from longshore.options import ContainerConfig
    from longshore.store import Record

_ATTEMPTS = 10_000  # of half a million levels; more containers than that do not fit a host

_warned: set[str] = set()  # what this process has been told once


def check_volumes(machinery: Machinery, config: ContainerConfig) -> None:
    """Refuse volumes that are to be relabelled (z, Z) and must not be."""
    from longshore.linux.selinux import check_relabelling

    ours = (machinery.settings.root, machinery.settings.run_root)
    for mount in config.mounts:
        if {"z", "Z"} & set(mount.options):
            check_relabelling(mount.source, ours)


def labelled(machinery: Machinery, record: Record) -> Record:
    """Return a record with its labels: those of its last start, or new ones, with a level taken.

    What was chosen stays for good, and with it the labels of its files; a label that was taken
    over from a container whose namespace is joined is that one's of now. Where SELinux is not
    active there are none, as with podman; not in silence, if one was asked for.
    """
    config = record.config
    selinux = machinery.selinux
    if selinux is None:
        if any(":" in word for word in config.selinux_opts):
            _log.warn(f"container {config.name} has no SELinux label: SELinux is not active here")
        return record
    check_volumes(machinery, config)
    joined = _joined(machinery, config)
    if (record.process_label or record.mount_label) and not joined:
        return record
    options = (*_caller(machinery, selinux), *config.selinux_opts, *joined)
    if not machinery.settings.label or config.privileged or "host" in (config.pid, config.ipc):
        options = ("disable",)
    contexts = selinux.container_contexts()
    if not contexts.get("process") and "contexts" not in _warned:
        _warned.add("contexts")
        _log.warn(
            "SELinux is active, and its policy has no labels for containers: they are not kept "
            "apart by it (install container-selinux)"
        )
    program = next(iter((*config.entrypoint, *config.command)), "")
    kind = labels.kind_of(program, machinery.runtime(config.runtime).name)

    def chosen(level: str) -> labels.Labels:
        return labels.choose(contexts, options, kind=kind, level=level)

    found = chosen("s0")
    asked = any(word.startswith("level:") for word in options)
    if asked:
        # it may be shared on purpose; nobody else is given it
        machinery.store.levels.take(labels.level_of(found.process), record.id)
    elif labels.level_of(found.process):
        found = chosen(_own_level(machinery, record))
    for label in (found.process, found.mount):
        if label:
            selinux.check(label)
    return record.replace(process_label=found.process, mount_label=found.mount)


def _joined(machinery: Machinery, config: ContainerConfig) -> tuple[str, ...]:
    """Return the label of the containers whose processes or IPC this one shares, as options."""
    found: tuple[str, ...] = ()
    for mode in (config.pid, config.ipc):
        word, _, ref = mode.partition(":")
        if word == "container":
            other = machinery.store.peek(machinery.store.resolve(ref))
            found += labels.copied(other.process_label)
    return found


def _caller(machinery: Machinery, selinux: SELinux) -> tuple[str, ...]:
    """Return the options of containers.conf's ``label_users``: its caller's user and role."""
    if not machinery.settings.label_users:
        return ()
    user, role = labels.copied(selinux.current())[:2]
    return user, role


def _own_level(machinery: Machinery, record: Record) -> str:
    """Take a level that no other container has: two categories of 1024, at random."""
    import os

    for _ in range(_ATTEMPTS):
        number = int.from_bytes(os.urandom(4), "little")
        low, high = sorted((number % labels.CATEGORIES, number >> 16 & labels.CATEGORIES - 1))
        level = f"s0:c{low},c{high}"
        if low == high or level == labels.UNCONFINED_LEVEL:
            continue
        if machinery.store.levels.take(level, record.id):
            return level
    raise LongshoreError(
        f"container {record.name} gets no SELinux level of its own: all that were tried are taken",
        hint="`longshore system prune` gives back those of containers that are gone",
    )


def relabel_volumes(record: Record) -> None:
    """Give the volumes with z or Z the container's label: Z its own, z one for all containers.

    As podman: all of it at the first start, and later only when the directory itself has another
    label, because a tree can be large.
    """
    from longshore.linux.selinux import label_of, relabel

    if not record.mount_label:
        return
    for mount in record.config.mounts:
        word = next((word for word in mount.options if word in ("z", "Z")), "")
        if not word or mount.type != "bind":
            continue
        label = record.mount_label
        if word == "z" and (level := labels.level_of(label)):
            label = label.removesuffix(level) + "s0"
        if record.starts <= 1 or label_of(mount.source) != label:
            relabel(mount.source, label)


def let_go(machinery: Machinery, record: Record) -> None:
    """Give back the level of a container that is being removed."""
    if level := labels.level_of(record.mount_label):
        machinery.store.levels.let_go(level, record.id)
