"""top and stats: what runs in a container and what it uses, seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli
from hostlife import SLEEP, eventually, make, started
from longshore import Container, Engine, Status, WrongState

FILLS = """
import sys, time
block = bytearray(30_000_000)
block[::4096] = b"x" * len(block[::4096])
end = time.process_time() + 0.2
while time.process_time() < end:
    pass
print("ready", flush=True)
time.sleep(1000)
"""


def has_controller(layout: str, name: str) -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return layout == "v1" or name in controllers.read_text().split()


def test_stats_are_those_of_the_container(engine: Engine, layout: str) -> None:
    python = str(Path(sys.executable).resolve())
    memory: Any = "200m" if has_controller(layout, "memory") else None
    box = engine.create(
        command=[python, "-I", "-S", "-c", FILLS],
        rootfs="/",
        overlay=True,
        memory=memory,
        pids_limit=77 if has_controller(layout, "pids") else None,
    )
    box.start()
    next(iter(box.logs(follow=True)))
    before = time.time_ns()
    seen = box.stats()
    assert (seen.id, seen.name) == (box.id, box.name)
    assert before <= seen.time_ns <= time.time_ns()
    assert seen.cpu is not None
    assert 0.15 <= seen.cpu <= 3
    if memory:
        assert seen.working_set is not None
        assert seen.memory is not None
        assert 30_000_000 <= seen.working_set <= seen.memory <= 200 << 20
        assert seen.memory_limit == 200 << 20
        assert seen.cache is not None
        assert seen.swap is not None
    else:
        assert (seen.memory, seen.working_set, seen.memory_limit) == (None, None, None)
    if has_controller(layout, "pids"):
        assert (seen.pids, seen.pids_limit) == (1, 77)
    else:
        assert seen.pids is None
    assert (seen.network_received, seen.network_sent) == (0, 0)
    average = seen.cpu_percent()
    assert average is not None
    assert 0 < average <= 110
    later = box.stats().cpu_percent(seen)
    assert later is not None


def test_stats_of_what_does_not_run(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "true")
    with pytest.raises(WrongState) as caught:
        box.stats()
    assert caught.value.actual == Status.CREATED.value
    with pytest.raises(WrongState):
        box.top()
    assert engine.stats() == []


def test_stats_of_all_leave_out_what_is_damaged(engine: Engine, busybox_rootfs: Path) -> None:
    boxes = [started(engine, busybox_rootfs, SLEEP) for _ in range(3)]
    boxes[1].pause()
    make(engine, busybox_rootfs, "true")
    record = Path(engine.settings.root, "containers", boxes[2].id, "record.json")
    kept = record.read_bytes()
    record.write_bytes(b"{")
    try:
        assert {one.id for one in engine.stats()} == {boxes[0].id, boxes[1].id}
    finally:
        record.write_bytes(kept)
    boxes[1].unpause()


def test_stats_with_the_host_network(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP, network="host")
    seen = box.stats()
    assert (seen.network_received, seen.network_sent) == (None, None)


def test_reading_takes_no_lock(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    with engine._machinery.store.locked(box.id, "a test"):
        assert box.stats().id == box.id
        assert engine.stats()
        assert box.top()


def test_top_tells_in_the_words_of_the_container(engine: Engine, busybox_rootfs: Path) -> None:
    busybox_rootfs.chmod(0o755)
    (busybox_rootfs / "etc").mkdir(exist_ok=True)
    (busybox_rootfs / "etc/passwd").write_text("root:x:0:0::/:\nmensch:x:4711:4712::/:\n")
    (busybox_rootfs / "etc/group").write_text("root:x:0:\nleute:x:4712:\nviele:x:4713:mensch\n")
    box = started(engine, busybox_rootfs, "sleep 1000 & exec sleep 1001", user="mensch")
    # busybox executes itself, as "exe", and takes the name of what it is a moment later
    sleeps = {("sleep", ("sleep", "1000")), ("sleep", ("sleep", "1001"))}
    eventually(lambda: {(p.name, p.command) for p in box.top()} == sleeps)
    first, second = box.top()
    assert (first.pid, first.ppid, first.command) == (1, 0, ("sleep", "1001"))
    assert (second.ppid, second.command) == (1, ("sleep", "1000"))
    assert first.host_pid == box.inspect().pid
    assert (first.user, first.group, first.host_uid) == ("mensch", "leute", 4711)
    assert "viele" in first.groups
    assert first.name == "sleep"
    assert first.state == "S"
    assert first.terminal == "?"
    assert first.seccomp == "filter"
    assert first.capabilities["effective"] == 0
    assert first.capabilities["bounding"] != 0
    assert abs(first.started_ns - time.time_ns()) < 60 * 10**9
    assert first.rss > 0


def test_the_command_top(cli: Cli, busybox_rootfs: Path) -> None:
    cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    lines = cli("top", "box").stdout.splitlines()
    assert lines[0].split() == ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]
    assert lines[1].split()[:3] == ["root", "1", "0"]
    assert lines[1].endswith("sleep 1000")
    lines = cli("top", "box", "pid,comm", "%a").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["PID", "COMMAND", "COMMAND"],
        ["1", "sleep", "sleep", "1000"],
    ]
    wrong = cli("top", "box", "nonsense", code=125)
    assert "capeff" in wrong.stderr
    cli("rm", "-f", "-t", "0", "box")
    cli("top", "box", code=125)


def test_the_command_stats(cli: Cli, busybox_rootfs: Path) -> None:
    cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    lines = cli("stats", "--no-stream").stdout.splitlines()
    assert lines[0].split("  ")[0] == "ID"
    assert lines[1].split()[1] == "box"
    found = json.loads(cli("stats", "--no-stream", "--format", "json", "box").stdout)
    assert [one["name"] for one in found] == ["box"]
    assert found[0]["cpu_percent"].endswith("%")
    assert cli("stats", "--no-stream", "--format", "{{.Name}}").stdout == "box\n"
    cli("stats", "--no-stream", "nope", code=125)
    cli("stop", "-t", "0", "box")
    cli("stats", "--no-stream", "box", code=125)
    assert "box" in cli("stats", "--no-stream", "--all").stdout
    cli("rm", "box")


def test_stats_go_on_until_the_container_has_ended(cli: Cli, busybox_rootfs: Path) -> None:
    cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    watching = subprocess.Popen(
        [*cli("--version").args[:-1], "stats", "-i", "0.2", "--format", "{{.Name}}", "box"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert [watching.stdout.readline() for _ in range(3)] == ["box\n"] * 3
    cli("rm", "-f", "-t", "0", "box")
    rest, _ = watching.communicate(timeout=20)
    assert set(rest.split()) <= {"box"}
    assert watching.returncode == 0


def _stats_of(engine: Engine, rootfs: Path, count: int) -> float:
    """Start so many, measure all of them, and return the seconds of the best of three times."""
    boxes = [make(engine, rootfs, SLEEP) for _ in range(count)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Container.start, boxes))
        took = []
        for _ in range(3):
            before = time.perf_counter()
            seen = engine.stats()
            took.append(time.perf_counter() - before)
            assert {one.id for one in seen} == {box.id for box in boxes}
            assert all(one.cpu is not None for one in seen)
        list(pool.map(lambda box: box.remove(force=True), boxes))
    return min(took)


def test_stats_1000(engine: Engine, busybox_rootfs: Path) -> None:
    """All that run, in one call that takes no lock; a thousand of them in `make soak`."""
    _stats_of(engine, busybox_rootfs, 10)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_stats_1000_whole(engine: Engine, busybox_rootfs: Path) -> None:
    assert _stats_of(engine, busybox_rootfs, 1000) < 1.0
