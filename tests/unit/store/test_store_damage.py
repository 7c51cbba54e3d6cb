"""One damaged record disables one container: whatever is in it, every listing has all the others.

A record of which any value was replaced by any other is either what it is declared to be, and can
be printed in every form that there is, or it is damaged as a whole.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import effort
from longshore import Engine
from longshore.cli import ps, psrow, table
from longshore.cli.describe import document
from longshore.cli.govalues import show, to_json
from longshore.config import Settings
from longshore.engine import observe
from longshore.engine.inspection import Inspection
from longshore.errors import RecordCorrupt
from longshore.lifecycle import Status
from longshore.linux import cgroups
from longshore.linux.processes import ProcessId, boot_id
from longshore.models import Device, ExitInfo, ExitReason, Mount, Ulimit, Usage
from longshore.options import ContainerConfig
from longshore.store import Record, Run

GOOD, BAD = "aa" * 32, "bb" * 32
DEAD = ProcessId(pid=1 << 22, start=5)
RECORD = Record(
    id=BAD,
    created_ns=1_700_000_000_000_000_000,
    status=Status.EXITED,
    starts=2,
    error="no such program: été",
    config=ContainerConfig(
        name="bad", rootfs="/srv", overlay=True, command=("sh", "-c", "true"), env={"A": "1"},
        labels={"a": "b"}, annotations={"c": "d"}, memory=1 << 26, cpu_quota=5000, cpu_period=9000,
        mounts=(
            Mount(type="bind", source="/a", target="/b", options=("rbind", "ro")),
            Mount(type="tmpfs", target="/tmp"),
        ),
        ulimits=(Ulimit(name="RLIMIT_NOFILE", soft=1, hard=2),),
        devices=(Device(source="/dev/null", target="/dev/zero"),),
        umask=18, run_timeout=1.5, sysctls={"kernel.x": "1"}, spec_patch={"a": {"b": [1, None]}},
        entrypoint=("e",), create_command=("longshore", "run"), cap_add=("CAP_ALL",), shm_size=5,
        pids_limit=-1, selinux_opts=("disable",), unmask=("ALL",), stop_signal=9, remove=True,
    ),
    run=Run(
        number=2, boot_id=boot_id(), runtime="crun", runtime_path="/no/such/crun",
        cgroup=f"/longshore/{BAD}", monitor=DEAD, init=DEAD, started_ns=1_700_000_000_000_000_001,
        intent="stop", intent_signal=15, note="a note",
    ),
    exits=(
        ExitInfo(code=-1, reason=ExitReason.MONITOR_LOST, message="conmon is gone"),
        ExitInfo(
            code=137, reason=ExitReason.OOM_KILLED, signal=9, oom_killed=True, started_ns=1,
            finished_ns=2,
            usage=Usage(memory_peak=1, cpu_user=0.5, cpu_system=1.5, io_read=0, pids_peak=3),
        ),
    ),
)  # fmt: skip
VARIANTS = {
    "ended": RECORD,
    "running": RECORD.replace(status=Status.RUNNING),
    "being started": RECORD.replace(
        status=Status.CREATED,
        run=RECORD.run and RECORD.run.replace(actor=DEAD, init=None, monitor=None),
    ),
}

Steps = tuple[str | int, ...]


def _document(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps({"format": 1, **record.to_json()}))
    return found


def _nodes(value: Any, here: Steps = ()) -> Iterator[Steps]:
    """Yield the way to every value in a document, its own included."""
    yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _nodes(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nodes(inner, (*here, index))


def _replaced(document: Any, steps: Steps, value: Any) -> Any:
    if not steps:
        return value
    copy = json.loads(json.dumps(document))
    inner = copy
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return copy


NODES = {name: list(_nodes(_document(record))) for name, record in VARIANTS.items()}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as top, pytest.MonkeyPatch.context() as patch:
        settings = Settings(root=f"{top}/root", run_root=f"{top}/run")
        made = Engine(settings=settings)
        machinery = made._machinery
        machinery.layout.prepare()
        os.mkdir(f"{top}/cgroup")
        hierarchy = cgroups.Hierarchy(f"{top}/cgroup", 2, frozenset())
        machinery.cgroup_layout = cgroups.Layout((hierarchy,))
        patch.setattr(observe, "find_monitor", lambda *_: None)  # a look at all processes
        config = ContainerConfig(name="good", command=("true",))
        machinery.store.create(Record(id=GOOD, config=config, created_ns=1))
        machinery.store.create(RECORD)
        yield made


def _write(engine: Engine, data: bytes) -> None:
    Path(engine._machinery.paths(BAD).record).write_bytes(data)


def _can_be_printed(one: Inspection, engine: Engine) -> None:
    now = time.time_ns()
    whole = document(one, engine)
    texts = [
        table.columns([ps._line(one, now, whole=True), psrow.namespaces_line(one)]),
        to_json(psrow.json_row(one, now), indent=2),
        show(psrow.template_row(one, now), named=True),
        to_json(whole, indent=4),
        show(whole),
        repr(one),
        *(f"{info.started_at} {info.finished_at} {info.ok}" for info in one.exits),
    ]
    for text in texts:
        text.encode("utf-8", "surrogateescape")


def _disables_no_other(engine: Engine) -> Status:
    """Read all there is in every way, and return what the changed container is taken for."""
    found = {one.name: one for one in engine.inspect_all()}
    assert len(found) == 2
    assert found.pop("good").status is Status.CREATED
    ((name, one),) = found.items()
    if one.status is Status.DAMAGED:
        assert name == BAD[:12]
        one.error.encode("utf-8", "surrogateescape")
        with pytest.raises(RecordCorrupt):
            engine.get(BAD).inspect()
    else:
        _can_be_printed(one, engine)
        assert engine.get(name).id == BAD  # by its link, or by a look at all of them
    return one.status


@pytest.mark.parametrize("variant", VARIANTS)
def test_undamaged(engine: Engine, variant: str) -> None:
    _write(engine, json.dumps(_document(VARIANTS[variant])).encode())
    assert _disables_no_other(engine) is not Status.DAMAGED


def test_one_that_is_damaged_is_in_every_listing(engine: Engine) -> None:
    _write(engine, b"{")
    assert _disables_no_other(engine) is Status.DAMAGED
    for one in engine.inspect_all():
        _can_be_printed(one, engine)
    assert {box.id for box in engine.list(all=True)} == {GOOD, BAD}
    assert (engine.get("good").id, engine.get("bad").id, engine.get(BAD).id) == (GOOD, BAD, BAD)


DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]
NASTY: list[Any] = [
    None, True, -1, 1, 1.5, float("nan"), float("inf"), -1 << 63, (1 << 64) - 1, 1 << 64, 10**4000,
    "", "x", "/", "..", "\0", "\x1b[2J\n", "\udcff", "\ud800", "x" * 5000, [], [1], ["x"], {},
    {"x": 1}, {"\0": "x"}, {"pid": 1, "start": 1}, {"code": 0, "reason": "exited"}, DEEP,
    {"x": DEEP}, {"\ud800": DEEP},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "value", NASTY, ids=lambda value: repr(value)[:20].encode("unicode_escape")
)
def test_any_value_replaced_by_a_nasty_one(engine: Engine, variant: str, value: Any) -> None:
    whole = _document(VARIANTS[variant])
    stride = effort(1, 6)
    for steps in NODES[variant][NASTY.index(value) % stride :: stride]:
        if variant != "running" and "config" in steps[:1] and len(steps) > 1:
            continue  # as in the other one
        _write(engine, json.dumps(_replaced(whole, steps, value)).encode())
        try:
            _disables_no_other(engine)
        except BaseException as error:
            error.add_note(f"{steps} = {value!r}"[:200])
            raise


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(NODES["running"]), anything)
def test_any_value_replaced_by_anything(engine: Engine, steps: Steps, value: Any) -> None:
    whole = _document(VARIANTS["running"])
    _write(engine, json.dumps(_replaced(whole, steps, value)).encode())
    _disables_no_other(engine)


@given(st.data())
def test_any_bytes_replaced(engine: Engine, data: st.DataObject) -> None:
    """What a disk, an editor or a power cut can do: bytes that are gone, zero, or others."""
    whole = json.dumps(_document(RECORD)).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    new = data.draw(
        st.binary(max_size=20) | st.just(bytes(end - start)) | st.just(b"\xff") | st.just(b"[" * 9)
    )
    _write(engine, whole[:start] + new + whole[end:])
    _disables_no_other(engine)


@pytest.mark.parametrize(
    "data",
    [
        b"", bytes(4096), b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 200_000, b'{"a":' * 50_000, b"{",
        b"9" * 10_000, b"NaN", b'"\\ud800"', json.dumps(_document(RECORD)).encode("utf-16"),
    ],
    ids=range(11),
)  # fmt: skip
def test_files_that_are_no_record(engine: Engine, data: bytes) -> None:
    _write(engine, data)
    taken_for = _disables_no_other(engine)
    # JSON may be written in UTF-16, and says so by its first bytes
    assert taken_for is (Status.EXITED if data.startswith(b"\xff\xfe{") else Status.DAMAGED)


def test_a_record_that_is_no_file(engine: Engine) -> None:
    path = Path(engine._machinery.paths(BAD).record)
    path.unlink()
    path.mkdir()
    try:
        assert _disables_no_other(engine) is Status.DAMAGED
    finally:
        path.rmdir()
    path.symlink_to(path)
    try:
        assert _disables_no_other(engine) is Status.DAMAGED
    finally:
        path.unlink()


def test_prune_goes_on(engine: Engine) -> None:
    """What may be removed is, and the damaged one stays for `rm --force`."""
    store = engine._machinery.store
    for number, steps in enumerate(NODES["ended"][:: effort(1, 5)]):
        _write(engine, json.dumps(_replaced(_document(RECORD), steps, "x/\n")).encode())
        other = f"{number:064x}"
        store.create(Record(id=other, config=ContainerConfig(name="other"), created_ns=2))
        removed = engine.prune()
        assert {GOOD, other} <= set(removed)
        left = {one.id: one.status for one in engine.inspect_all()}
        assert left in ({}, {BAD: Status.DAMAGED})
        store.create(Record(id=GOOD, config=ContainerConfig(name="good"), created_ns=1))
        if not left:
            store.create(RECORD)
