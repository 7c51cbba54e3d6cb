"""One container through its life, by every method, and what each status permits."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hostlife import (
    REFUSES,
    SLEEP,
    TRAPS,
    asleep,
    eventually,
    kill_init,
    make,
    printed,
    ready,
    started,
)
from longshore import Engine
from longshore.errors import (
    InvalidArgument,
    NameInUse,
    NoSuchContainer,
    OperationTimeout,
    WrongState,
)
from longshore.lifecycle import Status
from longshore.models import ExitInfo, ExitReason


def test_a_life(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, TRAPS, name="box", labels={"a": "b"})
    before = box.inspect()
    assert (before.status, before.name, before.pid) == (Status.CREATED, "box", None)
    assert (before.exit, before.started_ns, before.config.labels) == (None, None, {"a": "b"})
    assert engine.list() == []
    assert engine.list(all=True) == [box]

    box.start()
    box.start()  # of one that runs is fine
    ready(box)
    live = box.inspect()
    assert live.status is box.status is Status.RUNNING
    assert live.pid and live.monitor_pid and live.started_ns
    assert live.started_ns >= live.created_ns
    assert live.runtime_path.endswith(live.runtime_name)
    assert engine.list() == [box]

    box.pause()
    assert box.inspect().status is Status.PAUSED
    assert engine.list() == [box]
    box.unpause()
    assert box.inspect().status is Status.RUNNING

    info = box.stop()
    assert info is not None
    assert (info.code, info.reason) == (5, ExitReason.STOPPED)
    assert box.stop() == info  # of one that is stopped is fine
    assert box.wait() == info
    ended = box.inspect()
    assert ended.status in (Status.STOPPED, Status.EXITED)
    assert (ended.exit, ended.exits, ended.pid) == (info, (info,), None)
    assert ended.finished_ns is not None and ended.finished_ns >= (ended.started_ns or 0)

    box.start()
    box.restart()
    again = box.inspect()
    assert (again.status, again.restart_count) == (Status.RUNNING, 2)
    assert again.exit is None
    assert len(again.exits) == 2
    box.stop(0)
    box.remove()
    for gone in (box.inspect, box.start, box.remove, lambda: box.name, box.logs, box.pause):
        with pytest.raises(NoSuchContainer):
            gone()
    box.remove(missing_ok=True)
    box.remove(missing_ok=True, force=True)
    with pytest.raises(NoSuchContainer):
        engine.get("box")


def test_found_by_name_id_and_beginning(engine: Engine, busybox_rootfs: Path) -> None:
    one = make(engine, busybox_rootfs, "true", name="one")
    two = make(engine, busybox_rootfs, "true", name="two")
    for box in (one, two):
        assert engine.get(box.name) == engine.get(box.id) == engine.get(box.id[:20]) == box
    assert {engine.get("one"), engine.get("two")} == {one, two}
    for ref in ("three", one.id + "0", "", "o", "../names/one"):
        with pytest.raises(NoSuchContainer):
            engine.get(ref)
    # a name that looks like an id goes before the id
    named = make(engine, busybox_rootfs, "true", name=one.id[:8])
    assert engine.get(one.id[:8]) == named


def test_an_ambiguous_beginning_is_refused(engine: Engine, busybox_rootfs: Path) -> None:
    boxes = [make(engine, busybox_rootfs, "true") for _ in range(17)]  # 16 first digits
    first = [box.id[0] for box in boxes]
    common = next(c for c in first if first.count(c) > 1)
    with pytest.raises(NoSuchContainer, match="beginning of") as caught:
        engine.get(common)
    assert "write more of the id" in (caught.value.hint or "")


def test_rename(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP, name="old")
    other = make(engine, busybox_rootfs, "true", name="other")
    box.rename("new")
    assert (box.name, engine.get("new")) == ("new", box)
    with pytest.raises(NoSuchContainer):
        engine.get("old")
    box.rename("new")  # its own name is fine
    box.start()
    box.rename("newer")
    with pytest.raises(NameInUse):
        box.rename("other")
    with pytest.raises(InvalidArgument):
        box.rename("-x")
    assert (box.name, engine.get("other")) == ("newer", other)
    make(engine, busybox_rootfs, "true", name="old")  # the old one is free
    box.stop(0)
    assert box.name == "newer"


def test_wrong_states_name_what_is_permitted(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP, name="box")

    def refused(operation: str, actual: str, *permitted: str) -> None:
        with pytest.raises(WrongState) as caught:
            getattr(box, operation)()
        error = caught.value
        assert (error.subject, error.actual) == ("box", actual)
        assert set(error.permitted) == set(permitted)
        assert all(word in str(error) for word in ("box", actual, *permitted))

    running = ("running",)
    live = ("initialized", "running", "paused")
    dead = ("created", "stopped", "exited")
    refused("pause", "created", *running)
    refused("unpause", "created", "paused")
    refused("kill", "created", *live)
    assert box.stop() is None  # it never ran
    box.start()
    refused("unpause", "running", "paused")
    refused("remove", "running", *dead)
    box.pause()
    refused("pause", "paused", *running)
    refused("start", "paused", "created", "initialized", "running", "stopped", "exited")
    refused("remove", "paused", *dead)
    box.stop(0)
    box.cleanup()
    refused("pause", "exited", *running)
    refused("kill", "exited", *live)
    box.remove()


TAKEN = """
import sys
from longshore import Engine
root, run, rootfs, runtime, script = sys.argv[1:]
engine = Engine(root=root, run_root=run, runtime=runtime)
engine.create(command=["sh", "-c", script], rootfs=rootfs, name="box").start()
"""


def test_another_process_takes_over(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path], runtime: str
) -> None:
    argv = [sys.executable, "-W", "error", "-c", TAKEN, *map(str, dirs), str(busybox_rootfs)]
    subprocess.run([*argv, runtime, TRAPS], check=True)
    box = engine.get("box")
    ready(box)
    with pytest.raises(OperationTimeout):
        box.wait(0)
    info = box.stop()
    assert info == box.wait()
    assert info and info.code == 5
    assert printed(box) == b"ready\ngot it\n"
    box.remove()


def test_waiters_agree_before_during_and_after(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    found: dict[str, ExitInfo] = {}

    def wait(condition: str) -> None:
        found[condition] = box.wait(30, condition=condition)

    conditions = ("exited", "next_exit", "removed")
    threads = [threading.Thread(target=wait, args=(c,)) for c in conditions]
    for thread in threads:
        thread.start()
    box.start()
    kill_init(box)
    info = box.wait(30)
    box.remove()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(conditions, info)
    assert box.wait() == box.wait(condition="removed") == engine.exit_of(box.id) == info
    assert box.wait(condition="next_exit") == info
    assert (info.code, info.signal, info.reason) == (137, 9, ExitReason.SIGNALED)


def test_wait_conditions(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "exit 3")
    assert box.wait(30).code == 3
    assert box.wait(0).code == 3  # at once
    for condition in ("next_exit", "removed"):
        with pytest.raises(OperationTimeout):
            box.wait(0.1, condition=condition)
    waiter: list[ExitInfo] = []
    thread = threading.Thread(
        target=lambda: waiter.append(box.wait(30, condition="next_exit")),
    )
    thread.start()
    eventually(lambda: asleep(thread))
    box.start()
    thread.join()
    assert [info.code for info in waiter] == [3]
    assert len(box.inspect().exits) == 2
    assert waiter[0] == box.inspect().exits[-1]
    with pytest.raises(InvalidArgument, match="tired"):
        box.wait(condition="tired")


def test_never_started_and_removed_has_no_exit(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "true")
    with pytest.raises(OperationTimeout):
        box.wait(0.05)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            box.wait(30, condition="removed")
        except NoSuchContainer as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    box.remove()
    thread.join()
    assert len(errors) == 1
    with pytest.raises(NoSuchContainer):
        box.wait()
    assert engine.exit_of(box.id) is None


def test_prune_removes_what_does_not_run(engine: Engine, busybox_rootfs: Path) -> None:
    fresh = make(engine, busybox_rootfs, "true")
    ended = started(engine, busybox_rootfs, "true")
    ended.wait(30)
    live = started(engine, busybox_rootfs, SLEEP)
    assert set(engine.prune()) == {fresh.id, ended.id}
    assert engine.list(all=True) == [live]
    assert engine.prune() == []
    live.remove(force=True)


def test_forced_removal_with_grace_lets_it_say_goodbye(
    engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]
) -> None:
    box = ready(started(engine, busybox_rootfs, TRAPS))
    box.remove(force=True, timeout=30)
    assert box.wait().code == 5
    stubborn = ready(started(engine, busybox_rootfs, REFUSES))
    stubborn.remove(force=True)
    assert (stubborn.wait().code, stubborn.wait().reason) == (137, ExitReason.KILLED)


def test_run(engine: Engine, busybox_rootfs: Path) -> None:
    from longshore.errors import ContainerFailed

    command = ["sh", "-c", "cat; echo err >&2; exit 3"]
    result = engine.run(command=command, rootfs=busybox_rootfs, input=b"in\0put")
    assert (result.stdout, result.stderr, result.returncode) == (b"in\0put", b"err\n", 3)
    assert result.exit.reason is ExitReason.EXITED and not result.exit.ok
    with pytest.raises(ContainerFailed, match="exit code 3") as caught:
        engine.run(command=command, rootfs=busybox_rootfs, input=b"", check=True)
    assert caught.value.result.stderr == b"err\n"
    assert engine.run(command=["true"], rootfs=busybox_rootfs, check=True).exit.ok
    assert engine.list(all=True) == []
