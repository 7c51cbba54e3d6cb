"""corrupt_each_record: one damaged record disables one container, which can still be removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostlife import SLEEP, make, started
from longshore import Container, Engine
from longshore.errors import LongshoreError, NameInUse, NoSuchContainer, RecordCorrupt
from longshore.lifecycle import Status
from longshore.linux.cgroups import Cgroup, detect


def record_of(engine: Engine, box: Container) -> Path:
    return Path(engine._machinery.paths(box.id).record)


def _other_id(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"id": "0" * 64}).encode()


def _newer(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"format": 99}).encode()


def _wrong_types(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"config": [], "status": 7}).encode()


def _deep(data: bytes) -> bytes:
    record = json.loads(data)
    record["run"]["init"]["pid"] = "1"
    return json.dumps(record).encode()


def _no_run(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"run": None}).encode()


def _wide(data: bytes) -> bytes:
    """A cgroup with everybody in it, who would be killed at the end of the run."""
    record = json.loads(data)
    record["run"]["cgroup"] = "/"
    return json.dumps(record).encode()


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbage": lambda data: b"{]" + data,
    "binary": lambda data: bytes(range(256)) * 8,
    "other id": _other_id,
    "newer": _newer,
    "wrong types": _wrong_types,
    "a list": lambda data: b"[]",
    "a number": lambda data: b"12",
    "null": lambda data: b"null",
    "zeros": lambda data: bytes(len(data)),  # as a power cut can leave it
    "deep": _deep,
    "no run": _no_run,
    "wide": _wide,
}
RUNNING = ("truncated", "binary", "newer", "zeros", "deep", "no run", "wide")


@pytest.mark.parametrize("how", DAMAGE)
def test_one_damaged_record(how: str, engine: Engine, busybox_rootfs: Path) -> None:
    running = how in RUNNING
    other = make(engine, busybox_rootfs, "exit 3", name="other")
    box = (started if running else make)(engine, busybox_rootfs, SLEEP, name="box")
    path = record_of(engine, box)
    path.write_bytes(DAMAGE[how](path.read_bytes()))

    found = {i.id: i for i in engine.inspect_all()}
    assert set(found) == {box.id, other.id}
    assert found[box.id].status is Status.DAMAGED
    assert str(path) in found[box.id].error
    assert found[other.id].status is Status.CREATED
    assert set(engine.list(all=True)) == {box, other}
    assert engine.get("box") == engine.get(box.id) == engine.get(box.id[:16]) == box
    operations = (box.inspect, box.start, box.stop, box.kill, box.pause, box.remove, box.wait)
    for operation in operations:
        with pytest.raises(RecordCorrupt) as caught:
            operation()
        assert caught.value.path == str(path)
    with pytest.raises(NameInUse):
        make(engine, busybox_rootfs, "true", name="box")
    assert box.id not in engine.prune()
    assert engine.get("box") == box

    box.remove(force=True)
    with pytest.raises(NoSuchContainer):
        engine.get("box")
    fresh = make(engine, busybox_rootfs, "true", name="box")  # the name is free
    fresh.start()
    assert fresh.wait(30).ok


def test_the_others_live_on(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "true", name="box")
    live = started(engine, busybox_rootfs, SLEEP, name="live")
    record_of(engine, box).write_bytes(b"")
    assert live.inspect().status is Status.RUNNING
    live.rename("alive")
    live.stop(0)
    live.start()
    live.remove(force=True)
    box.remove(force=True)


def test_damaged_while_running_with_all_its_own(engine: Engine, busybox_rootfs: Path) -> None:
    """An overlay, and a cgroup parent that only the record knew."""
    box = started(
        engine, busybox_rootfs, SLEEP, name="box", overlay=True, cgroup_parent="/longshore/deep",
        cgroup_manager="cgroupfs",
    )  # fmt: skip
    record_of(engine, box).write_bytes(b"?")
    box.remove(force=True)
    assert Cgroup(detect(), "/longshore/deep").remove()  # a parent that was asked for stays


@pytest.mark.parametrize("lost", ["record.json", "lock"])
def test_a_lost_file(lost: str, engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "true", name="box")
    Path(engine._machinery.paths(box.id).home, lost).unlink()
    engine.inspect_all()
    try:
        engine.get(box.id).remove(force=True)
    except NoSuchContainer:
        engine.prune()
    fresh = make(engine, busybox_rootfs, "true", name="box")
    fresh.remove()


def test_a_damaged_log_and_exit_record(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "echo one; echo two")
    box.wait(30)
    log = Path(box.inspect().log_path)
    log.write_bytes(b"\xff\x00garbage\n" + log.read_bytes() + b"2026-")
    try:
        assert b"two\n" in [record.data for record in box.logs()]
    except LongshoreError:
        pytest.fail("a damaged line hides the others")
    box.remove()
    kept = Path(engine._machinery.layout.exit_record(box.id))
    kept.write_bytes(b"{")
    assert engine.exit_of(box.id) is None
    kept.unlink()
