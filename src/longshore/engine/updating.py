"""Change the limits of a container: in its record, and in the kernel where it runs.

What the kernel had is written down first, and the new config last. So whoever is killed between the
two leaves a record that says what it did; the next operation gives the kernel back what the record
has always said (`take_back`). The same happens when the runtime refuses, or applies but a part.
What cannot be taken back stays noted through any number of later changes.
"""

from __future__ import annotations

import os

from longshore import _log
from longshore._value import Value
from longshore.engine import events, finishing, stopping
from longshore.engine.limits import Facts, Plan, plan, unnamed
from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError, RuntimeFailed
from longshore.lifecycle import Op, Status, require
from longshore.linux import controls
from longshore.linux.cgroups import read_control
from longshore.oci.context import SpecContext
from longshore.oci.resources import check_controllers
from longshore.options.blockio import numbers
from longshore.options.update import FIELDS, Change, merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.engine.machinery import Machinery
    from longshore.linux.controls import Control
    from longshore.options import ContainerConfig, UpdateOptions
    from longshore.runtime import Runtime
    from longshore.store import Record
    from longshore.store.records import Locked

_LIVE = (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)
_PATIENCE = 10.0  # seconds for a runtime that is to take something back
# What kernel and runtimes say where memory cannot be made as small as that
_TOO_SMALL = ("Device or resource busy", "device or resource busy", "unable to set memory limit")


class _Place(Value):
    """The cgroups that can have the limits of a run, the innermost first."""

    chain: tuple[str, ...]
    systemd: bool


def update(machinery: Machinery, container_id: str, options: UpdateOptions) -> None:
    """Change limits. Of what runs at once, of what does not from the next start on.

    InvalidArgument and HostUnsupported come before anything is touched; after any other error the
    record and the kernel have what they had.
    """
    with finishing.settled(machinery, container_id, "update") as held:
        record = held.record
        require(Op.UPDATE, record.status, record.name)
        if record.status in _LIVE:
            stopping.require_cgroup(record, Op.UPDATE)
        change = merge(record.config, options)
        _check(machinery, record, change)
        left: Mapping[str, str] = {}
        if record.status in _LIVE:
            left = _apply(machinery, held, change)
            record = held.record
        run = record.run
        if run is not None and run.updating:
            run = run.replace(updating=run.updating if left else (), limits_before=left)
        held.save(record.replace(config=change.config, run=run))
        events.emit(machinery, "update", held.record)


def take_back(machinery: Machinery, held: Locked, *, alive: bool) -> None:
    """Undo a change of limits that was cut short. What cannot be undone is said, and stays noted.

    Called under the lock of a container that notes one; ``alive``: its cgroup has processes.
    """
    record = held.record
    run = record.run
    assert run is not None
    before = run.limits_before
    left = _undo(machinery, record, run.updating, before) if alive else []
    if left:
        if len(left) < len(before):
            before = {path: before[path] for path in left}
            held.save(record.replace(run=run.replace(limits_before=before)))
        _log.warn(
            f"container {record.name} has limits that its record does not know: an update was cut "
            "short, and cannot be taken back now"
        )
        return
    held.save(record.replace(run=run.replace(updating=(), limits_before={})))


# --- before anything is touched ---------------------------------------------------------------


def _check(machinery: Machinery, record: Record, change: Change) -> None:
    """Refuse what this host cannot hold."""
    config = change.config
    blank = type(config)(name=config.name)
    asked = {n: getattr(config, n) for n in change.fields}
    layout = machinery.cgroup_layout
    host = SpecContext(
        id=record.id,
        rootfs="",
        cgroup_path="",
        cgroup_version=layout.version,
        controllers=machinery.controllers,
        swap_accounting="memory_swap" not in change.fields or layout.counts_swap(),
        processors=_online("cpu"),
        memory_nodes=_online("node"),
    )
    quota, period = config.cpu_quota or -1, config.cpu_period or 100_000
    count = len(controls.numbers(host.processors))
    if {"cpu_quota", "cpu_period"} & set(change.fields) and 0 < count * period < quota:
        raise HostUnsupported(
            f"cpus: {quota / period:g} CPUs", f"{count} here", hint=f"at most {count}"
        )
    check_controllers(blank.replace(**asked), host)


def _online(kind: str) -> str:
    return read_control(f"/sys/devices/system/{kind}", "online").strip()


def _check_use(machinery: Machinery, record: Record, limit: int | None) -> None:
    """Refuse a memory limit that its processes are above, where nothing can be swapped out.

    Version 2 would kill some of them; version 1 would refuse, after other limits are changed.
    """
    if limit is None or len(read_control("/proc", "swaps").splitlines()) > 1:
        return
    assert record.run is not None
    memory = machinery.cgroup_layout.v1("memory")
    hierarchy = memory or machinery.cgroup_layout.unified
    if hierarchy is None:
        return
    text = read_control(hierarchy.mount + record.run.container_cgroup, "memory.stat")
    stat = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}
    kept = ("total_rss", "total_shmem") if memory is not None else ("anon", "shmem")
    used = sum(stat.get(name, 0) for name in kept)
    if used > limit:
        raise _too_small(record.name, limit, used)


def _too_small(name: str, limit: int | None, used: int | None) -> InvalidArgument:
    uses = "what it uses now" if used is None else f"the {used} bytes that it uses now"
    return InvalidArgument(
        f"memory: {limit} is below {uses}, and container {name} cannot give them back",
        hint="give it more, or stop it first: the limit holds from the next start on",
    )


# --- a container that runs --------------------------------------------------------------------


def _apply(machinery: Machinery, held: Locked, change: Change) -> Mapping[str, str]:
    """Change the kernel's limits, or leave them as they were and raise.

    Returns what stays noted of an earlier change that could not be taken back.
    """
    record = held.record
    run = record.run
    runtime = machinery.runtime_of(record)
    assert run is not None and runtime is not None
    if not runtime.updates():
        raise HostUnsupported(
            f"container {record.name} runs, and its limits are to be changed",
            f"a {runtime.name} that cannot do that",
            hint="stop it first: the limits hold from the next start on",
        )
    if {"memory", "memory_swap"} & set(change.fields):
        _check_use(machinery, record, change.config.memory)
    place = _place(machinery, record)
    devices = {
        field: {numbers(path, field): number for path, number in limits.items()}
        for field, limits in change.devices.items()
    }
    wanted = plan(change.config, change.fields, devices, _facts(machinery, record, place))
    files = _files(machinery, wanted.controls, place)
    nested = _nested_cpusets(machinery, wanted.controls, place)
    kept = _kept(machinery, change.fields, place)
    before = {path: controls.keep(path) for chain in files for path in chain} | kept
    before |= {path: controls.keep(path) for paths in nested.values() for path in paths}
    noted = run.limits_before
    before |= noted  # what a file had before the first of several changes is what counts
    fields = tuple(dict.fromkeys((*run.updating, *change.fields)))
    held.save(record.replace(run=run.replace(updating=fields, limits_before=before)))
    try:
        _widen(nested, wanted.controls)
        _call(runtime, record, wanted, change.config)
        left = controls.restore(kept)
        if left:
            raise RuntimeFailed(
                f"cannot update container {record.name}: {runtime.name} has changed more than it "
                f"was told, which cannot be put right: {', '.join(left)}"
            )
        _put_right(runtime, record, wanted.controls, files)
    except BaseException as error:
        left = _undo(machinery, record, fields, before)
        if left:
            error.add_note(f"and these are not what they were: {', '.join(left)}")
        else:
            held.save(record.replace(run=run.replace(updating=(), limits_before={})))
        raise
    return _left(noted, wanted.controls, files, nested)


def _left(
    noted: Mapping[str, str],
    wanted: Sequence[Control],
    files: Sequence[tuple[str, ...]],
    nested: Mapping[str, list[str]],
) -> dict[str, str]:
    """Return what has still to be taken back after a change of other limits, or of other devices'.

    Files that the change has set are what they are to be.
    """
    left = dict(noted)
    for path in (path for paths in nested.values() for path in paths):
        left.pop(path, None)
    for control, paths in zip(wanted, files, strict=True):
        for path in left.keys() & paths:
            if control.key:
                left[path] = control.applied(left[path])
            else:
                del left[path]
    return {path: text for path, text in left.items() if not controls.has(path, text)}


def _place(machinery: Machinery, record: Record) -> _Place:
    run = record.run
    assert run is not None
    placement = machinery.placement_of(record)
    chain = [run.container_cgroup]
    while chain[-1] != placement.runtime.path and chain[-1].startswith(placement.runtime.path):
        chain.append(os.path.dirname(chain[-1]))
    return _Place(chain=tuple(chain), systemd=run.manager != "cgroupfs")


def _facts(machinery: Machinery, record: Record, place: _Place) -> Facts:
    layout = machinery.cgroup_layout
    assert record.run is not None

    def above(controller: str, name: str) -> str:
        hierarchy = layout.v1(controller) or layout.unified
        if hierarchy is None:
            return ""
        return read_control(hierarchy.mount + os.path.dirname(place.chain[-1]), name).strip()

    old = layout.version == 1
    inherited = "" if old else ".effective"
    swappiness = above("memory", "memory.swappiness")
    return Facts(
        version=layout.version,
        systemd=place.systemd,
        swap=layout.counts_swap(),
        cpus=above("cpuset", f"cpuset.cpus{inherited}"),
        mems=above("cpuset", f"cpuset.mems{inherited}"),
        swappiness=int(swappiness) if swappiness.isdigit() else 60,
    )


def _files(machinery: Machinery, wanted: Sequence[Control], place: _Place) -> list[tuple[str, ...]]:
    """Return the files of each control, the innermost first; HostUnsupported where there is none.

    A controller that is there may still not be for this cgroup (v2, cgroup.subtree_control).
    """
    found: list[tuple[str, ...]] = []
    for control in wanted:
        files = [control.file(machinery.cgroup_layout, path) for path in place.chain]
        there = tuple(path for path in files if path)
        if not there:
            raise HostUnsupported(
                f"{control.name.replace('|', ' or ')} of the cgroup {place.chain[0]}",
                "no such file: the controller is not enabled there, or the kernel lacks it",
                hint="leave that limit out, or stop the container first",
            )
        found.append(there)
    return found


def _kept(machinery: Machinery, fields: Sequence[str], place: _Place) -> dict[str, str]:
    """Return what files have that a runtime may change without being told to."""
    layout = machinery.cgroup_layout
    found = (
        control.file(layout, path)
        for control in unnamed(fields, layout.version)
        for path in place.chain
    )
    return {path: controls.read(path) for path in found if path}


def _nested_cpusets(
    machinery: Machinery, wanted: Sequence[Control], place: _Place
) -> dict[str, list[str]]:
    """Return the cpusets in the container's (those of execs), by file, on version 1.

    They do not follow the one above, which cannot become smaller than they are.
    """
    hierarchy = machinery.cgroup_layout.v1("cpuset")
    names = [control.name for control in wanted if control.controller == "cpuset"]
    if hierarchy is None or not names:
        return {}
    top = hierarchy.mount + place.chain[0]
    below = controls.children(top)
    return {f"{top}/{name}": [f"{path}/{name}" for path in below] for name in names}


def _widen(nested: Mapping[str, list[str]], wanted: Sequence[Control]) -> None:
    """Give what is nested its new set, in one above that has both for as long as that takes."""
    values = {control.name: control.value for control in wanted}
    for top, files in nested.items():
        if not files:
            continue
        value = values[top.rpartition("/")[2]]
        try:
            controls.write(top, ",".join(filter(None, (controls.read(top).strip(), value))))
            for path in files:
                controls.write(path, ",".join((controls.read(path).strip(), value)))
            for path in reversed(files):
                controls.write(path, value)
        except FileNotFoundError:
            continue  # an exec has ended
        except OSError as err:
            raise LongshoreError(f"cannot write {top}: {err.strerror}") from err


def _call(runtime: Runtime, record: Record, wanted: Plan, config: ContainerConfig) -> None:
    if not wanted.resources:
        return
    try:
        runtime.update(record.id, wanted.resources, subject=record.name)
    except RuntimeFailed as error:
        if "memory" in wanted.resources and any(word in str(error) for word in _TOO_SMALL):
            raise _too_small(record.name, config.memory, None) from error
        raise


def _put_right(
    runtime: Runtime,
    record: Record,
    wanted: Sequence[Control],
    files: Sequence[tuple[str, ...]],
) -> None:
    """Write what the runtime does not, and see that everything holds; RuntimeFailed if not."""
    for control, paths in zip(wanted, files, strict=True):
        for path in paths:
            text = controls.read(path)
            if (
                control.own
                and not control.holds(text)
                and (path == paths[0] or not control.is_free(text))
            ):
                try:
                    controls.write(path, control.text())
                except OSError as err:
                    raise LongshoreError(
                        f"cannot update container {record.name}: the kernel refuses "
                        f"{control.text()!r} for {path}: {err.strerror}"
                    ) from err
    for control, paths in zip(wanted, files, strict=True):
        texts = [controls.read(path) for path in paths]
        good = [control.holds(text) for text in texts]
        free = [control.is_free(text) for text in texts]
        if not any(good) or not all(a or b for a, b in zip(good, free, strict=True)):
            raise RuntimeFailed(
                f"cannot update container {record.name}: {runtime.name} has not set "
                f"{control.text()!r}; {paths[0]} says {texts[0].strip()!r}"
            )


def _undo(
    machinery: Machinery, record: Record, fields: Sequence[str], before: Mapping[str, str]
) -> list[str]:
    """Give the kernel back what it had; return the files for which that could not be done."""
    run = record.run
    assert run is not None
    if run.cgroup and run.manager != "cgroupfs":
        # the units, which systemd would apply again: what the record says, without devices
        place = _place(machinery, record)
        runtime = machinery.runtime_of(record)
        known = [name for name in FIELDS if name in fields]
        try:
            facts = _facts(machinery, record, place)
            old = plan(record.config, known, {}, facts).resources
            if runtime is not None and old:
                runtime.update(record.id, old, subject=record.name, timeout=_PATIENCE)
        except (LongshoreError, OSError):
            pass  # what the kernel has is what counts
    # a damaged record must not lead us to any other file
    tops = (
        ()
        if not run.cgroup
        else tuple(f"{h.mount}{run.cgroup}/" for h in machinery.cgroup_layout.hierarchies)
    )
    ours = {path: text for path, text in before.items() if path.startswith(tops)}
    return controls.restore({path: text for path, text in ours.items() if "/../" not in path})
