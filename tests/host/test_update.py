"""update: limits of containers that run, that are paused and that do not run, and what crashes do.

What the kernel has is read from the cgroup itself, with no code of Longshore's.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli, needs
from hostlife import SLEEP, Fatal, eventually, fatal_call, in_fork, make, ready, started
from longshore import (
    Container,
    Engine,
    HostUnsupported,
    InvalidArgument,
    RuntimeFailed,
    Status,
    aio,
)
from longshore.cli.describe import document
from longshore.engine import updating
from longshore.engine.finishing import settled
from longshore.linux import controls
from longshore.runtime import Runtime

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")
KILLED = -signal.SIGKILL


def kernel(box: Container, controller: str, name: str, layout: str) -> str:
    """Return what a control file of a container's cgroup says now.

    Under systemd crun has a cgroup in the scope, and the scope has the limits.
    """
    below = box.inspect().cgroup_path
    top = CGROUPS if layout == "v2" else CGROUPS / controller
    directory = Path(f"{top}{below}")
    text = (directory / name).read_text().strip()
    if text in ("max", "max 100000", "") and directory.parent.name.endswith(".scope"):
        text = (directory.parent / name).read_text().strip()
    return text


def limits(box: Container, layout: str) -> dict[str, str]:
    """Return the limits that the tests below change, in words that both versions share."""
    read = functools.partial(kernel, box, layout=layout)
    if layout == "v2":
        memory, quota = read("memory", "memory.max"), read("cpu", "cpu.max")
    else:
        memory = read("memory", "memory.limit_in_bytes")
        memory = "max" if int(memory) > 1 << 60 else memory
        words = [read("cpu", f"cpu.cfs_{word}_us") for word in ("quota", "period")]
        quota = " ".join(words).replace("-1", "max")
    return {
        "memory": memory,
        "cpu": quota,
        "cpuset": read("cpuset", f"cpuset.cpus{'.effective' if layout == 'v2' else ''}"),
        "pids": read("pids", "pids.max"),
    }


@pytest.fixture
def controlled(layout: str) -> None:
    """The controllers that limits need: a v2 host beside v1 ones has none."""
    if layout == "v2":
        have = (CGROUPS / "cgroup.controllers").read_text().split()
        needs("memory, cpu, cpuset and pids", have, {"memory", "cpu", "cpuset", "pids"} <= {*have})


def host_config(engine: Engine, box: Container) -> dict[str, Any]:
    found: dict[str, Any] = document(box.inspect(), engine)["HostConfig"]
    return found


BEFORE: Any = {"memory": "64m", "cpus": 1, "pids_limit": 100, "name": "box"}
AFTER: Any = {"memory": "128m", "cpus": 0.5, "pids_limit": 50, "cpuset_cpus": "0"}
HELD = {"memory": str(128 * MIB), "cpu": "50000 100000", "cpuset": "0", "pids": "50"}


@pytest.mark.usefixtures("controlled")
@pytest.mark.parametrize("paused", [False, True])
def test_what_runs_has_it_at_once_and_after_a_restart(
    engine: Engine, busybox_rootfs: Path, layout: str, paused: bool
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    if paused:
        box.pause()
    status = box.status
    assert limits(box, layout)["memory"] == str(64 * MIB)
    last = next(iter(reversed(list(engine.events(follow=False)))))
    box.update(**AFTER)
    assert limits(box, layout) == HELD
    assert box.status is status
    new = engine.events(since=last.seq, follow=False)
    assert [e.action for e in new] == ["update"]  # type: ignore[union-attr]  # no gap
    shown = host_config(engine, box)
    assert (shown["Memory"], shown["MemorySwap"]) == (128 * MIB, 256 * MIB)
    assert (shown["PidsLimit"], shown["CpusetCpus"]) == (50, "0")
    assert (shown["NanoCpus"], shown["CpuQuota"], shown["CpuPeriod"]) == (5 * 10**8, 50000, 100000)
    seen = box.stats()
    assert (seen.memory_limit, seen.pids_limit) == (128 * MIB, 50)
    box.stop(0)
    box.start()
    assert limits(box, layout) == HELD
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_what_does_not_run_has_it_from_the_next_start_on(
    engine: Engine, busybox_rootfs: Path, layout: str
) -> None:
    box = make(engine, busybox_rootfs, SLEEP, **BEFORE)
    box.update(**AFTER)
    assert host_config(engine, box)["Memory"] == 128 * MIB
    box.start()
    assert limits(box, layout) == HELD
    box.stop(0)
    assert box.status in (Status.STOPPED, Status.EXITED)
    box.update(memory="256m", cpus=0, pids_limit=-1)
    box.start()
    found = limits(box, layout)
    assert (found["memory"], found["cpu"], found["pids"]) == (str(256 * MIB), "max 100000", "max")
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_what_is_made_and_has_not_begun(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    box = make(engine, busybox_rootfs, SLEEP, **BEFORE)
    for mark in range(6, 20):  # a start that is cut short leaves it so
        in_fork(functools.partial(box.start, trace=Fatal(mark)))
        with settled(engine._machinery, box.id, "test"):
            pass  # what has come half way is taken back
        if box.status is Status.INITIALIZED:
            break
    box.update(**AFTER)
    assert (box.status, limits(box, layout)) == (Status.INITIALIZED, HELD)
    box.start()
    assert (box.status, limits(box, layout)) == (Status.RUNNING, HELD)
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_limits_that_are_taken_away(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE, cpuset_cpus="0")
    every = Path("/sys/devices/system/cpu/online").read_text().strip()
    box.update(memory=0, cpus=0, pids_limit=-1, cpuset_cpus="")
    found = limits(box, layout)
    assert found == {"memory": "max", "cpu": "max 100000", "cpuset": every, "pids": "max"}
    config = box.inspect().config
    assert (config.memory, config.pids_limit, config.cpuset_cpus) == (None, -1, "")
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_up_and_down_and_swap(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    box = started(engine, busybox_rootfs, SLEEP, memory="64m")
    swap = ("memory.memsw.limit_in_bytes", "memory.swap.max")[layout == "v2"]
    if not Path(f"{CGROUPS}{'' if layout == 'v2' else '/memory'}{box.inspect().cgroup_path}/{swap}"
                ).exists():  # fmt: skip
        pytest.skip(f"needs swap accounting; found: no {swap}")
    for memory, together in (("256m", None), ("32m", "48m"), ("128m", "-1"), ("64m", "64m")):
        box.update(memory=memory, memory_swap=together)
        limit = int(memory[:-1]) * MIB
        total = 2 * limit if together is None else int(together.rstrip("m")) * MIB
        assert limits(box, layout)["memory"] == str(limit)
        found = kernel(box, "memory", swap, layout)
        if together == "-1":
            assert found == "max" or int(found) > 1 << 60
        else:
            assert int(found) == (total - limit if layout == "v2" else total)
        box.update(memory_swap=0)  # podman's default again: twice the memory
    box.remove(force=True)


def test_what_runtimes_ignore(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    if layout == "v2":
        pytest.skip(f"needs memory.swappiness of cgroup v1; found: {layout}")
    box = started(engine, busybox_rootfs, SLEEP)
    before = kernel(box, "memory", "memory.swappiness", layout)
    box.update(memory_swappiness=33, memory_reservation="16m", cpu_shares=300)
    assert kernel(box, "memory", "memory.swappiness", layout) == "33"
    assert kernel(box, "memory", "memory.soft_limit_in_bytes", layout) == str(16 * MIB)
    assert kernel(box, "cpu", "cpu.shares", layout) == "300"
    box.update(pids_limit=40)  # runc gives back what it was created with
    assert kernel(box, "memory", "memory.swappiness", layout) == "33"
    box.update(memory_swappiness=-1, memory_reservation=0, cpu_shares=0)
    assert kernel(box, "memory", "memory.swappiness", layout) == before
    assert int(kernel(box, "memory", "memory.soft_limit_in_bytes", layout)) > 1 << 60
    assert kernel(box, "cpu", "cpu.shares", layout) == "1024"
    box.remove(force=True)


def block_device() -> tuple[str, str]:
    for disk in sorted(Path("/sys/block").iterdir()):
        if Path("/dev", disk.name).is_block_device() and not disk.name.startswith(("loop", "ram")):
            return f"/dev/{disk.name}", (disk / "dev").read_text().strip()
    pytest.skip("needs a block device; found: none")


def rates(box: Container, layout: str) -> dict[str, int]:
    found: dict[str, int] = {}
    if layout == "v2":
        words = kernel(box, "io", "io.max", layout).split()[1:]
        pairs = (word.partition("=") for word in words)
        return {key: int(value) for key, _, value in pairs if value != "max"}
    for key, name in (("rbps", "read_bps"), ("wbps", "write_bps"), ("riops", "read_iops")):
        words = kernel(box, "blkio", f"blkio.throttle.{name}_device", layout).split()
        found |= {key: int(words[1])} if words else {}
    return found


def test_rates_of_devices(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    device, _ = block_device()
    if layout == "v2":
        have = (CGROUPS / "cgroup.controllers").read_text().split()
        needs("the controller io", have, "io" in have)
    box = started(engine, busybox_rootfs, SLEEP, name="box", device_read_bps=[f"{device}:4m"])
    assert rates(box, layout) == {"rbps": 4 * MIB}
    box.update(device_read_bps={device: "1m"}, device_write_bps=[f"{device}:2m"])
    box.update(device_read_iops={device: 77})
    assert rates(box, layout) == {"rbps": MIB, "wbps": 2 * MIB, "riops": 77}
    shown = host_config(engine, box)
    assert shown["BlkioDeviceReadBps"] == [{"Path": device, "Rate": MIB}]
    box.update(device_read_bps=[f"{device}:0"], device_read_iops={device: 0})
    assert rates(box, layout) == {"wbps": 2 * MIB}
    box.stop(0)
    box.start()
    assert rates(box, layout) == {"wbps": 2 * MIB}
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"memory": "128m", "memory_swap": "64m"}, "below the memory limit"),
        ({"memory": "1m"}, "too few"),
        ({"memory": "32m", "memory_reservation": "64m"}, "above the memory limit"),
        ({"cpus": 4096, "memory": "128m"}, "CPUs"),
        ({"cpus": 1, "cpu_quota": 5000}, "the same in another way"),
        ({"cpuset_cpus": "4095", "memory": "128m"}, "4095"),
        ({"pids_limit": 1 << 30}, "not between"),
        ({"device_read_bps": ["/dev/null:1m"]}, "no block device"),
        ({"memory_swapp": 1}, "no limit that can be changed"),
        ({}, "nothing to change"),
    ],
)
def test_what_is_refused_touches_nothing(
    engine: Engine, busybox_rootfs: Path, layout: str, asked: Any, words: str
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    record, before = box.inspect().config, limits(box, layout)
    with pytest.raises((InvalidArgument, HostUnsupported), match=words):
        box.update(**asked)
    assert (box.inspect().config, limits(box, layout)) == (record, before)
    box.remove(force=True)


FILLS = "head -c 60m /dev/zero >/dev/shm/f 2>/dev/null || dd if=/dev/zero of=/dev/shm/f bs=1M count=60 2>/dev/null; echo ready; exec sleep 1000"  # noqa: E501


@pytest.mark.usefixtures("controlled")
def test_memory_below_what_is_used(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    swap = len(Path("/proc/swaps").read_text().splitlines()) > 1
    needs("a host without swap", swap, not swap)
    box = ready(started(engine, busybox_rootfs, FILLS, **BEFORE | {"memory": "128m"}))
    before = limits(box, layout)
    with pytest.raises(InvalidArgument, match=r"cannot give them back"):
        box.update(memory="16m", pids_limit=20)
    assert limits(box, layout) == before
    assert box.status is Status.RUNNING
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_memory_that_the_kernel_refuses(
    engine: Engine, busybox_rootfs: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "v2":
        pytest.skip(f"needs EBUSY of cgroup v1; found: {layout}")
    box = ready(started(engine, busybox_rootfs, FILLS, **BEFORE | {"memory": "128m"}))
    record, before = box.inspect().config, limits(box, layout)
    monkeypatch.setattr(updating, "_check_use", lambda *_: None)
    with pytest.raises(InvalidArgument, match=r"below what it uses now"):
        box.update(memory="16m", pids_limit=20, cpus=0.3)
    assert (box.inspect().config, limits(box, layout)) == (record, before)
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_one_value_that_the_runtime_refuses(
    engine: Engine, busybox_rootfs: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    record, before = box.inspect().config, limits(box, layout)
    monkeypatch.setattr(updating, "check_controllers", lambda *_: None)
    with pytest.raises(RuntimeFailed):
        box.update(memory="128m", pids_limit=20, cpus=0.3, cpuset_cpus="900")
    assert (box.inspect().config, limits(box, layout)) == (record, before)
    box.update(memory="96m")
    assert limits(box, layout) == before | {"memory": str(96 * MIB)}
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_what_the_runtime_does_not_do_is_an_error(
    engine: Engine, busybox_rootfs: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    record, before = box.inspect().config, limits(box, layout)
    monkeypatch.setattr(Runtime, "update", lambda *_, **__: None)
    with pytest.raises(RuntimeFailed, match="has not set '20'"):
        box.update(pids_limit=20)
    assert (box.inspect().config, limits(box, layout)) == (record, before)
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
@pytest.mark.parametrize("when", ["before", "half", "after", "saved"])
def test_sigkill(
    engine: Engine,
    busybox_rootfs: Path,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    record, before = box.inspect().config, limits(box, layout)
    does, tells = Runtime.update, updating.events.emit

    def dies(self: Runtime, container_id: str, resources: Any, **how: Any) -> None:
        if when == "half":
            does(self, container_id, {"memory": resources["memory"]}, **how)
        elif when == "after":
            does(self, container_id, resources, **how)
        if when != "saved":
            os.kill(os.getpid(), signal.SIGKILL)
        does(self, container_id, resources, **how)

    def last(*args: Any, **how: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        tells(*args, **how)

    def killed() -> None:
        monkeypatch.setattr(Runtime, "update", dies)
        monkeypatch.setattr(updating.events, "emit", last)
        box.update(**AFTER)

    assert in_fork(killed) == KILLED
    if when == "saved":
        assert limits(box, layout) == HELD
        assert box.inspect().config.memory == 128 * MIB
    else:
        assert box.inspect().config == record
        assert box.status is Status.RUNNING
        box.pause()  # whatever is done next gives the kernel back what the record says
        box.unpause()
        assert limits(box, layout) == before
        assert box.inspect().config == record
    box.update(**AFTER)
    assert limits(box, layout) == HELD
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_sigkill_anywhere(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    sizes = {64 * MIB: "64m", 96 * MIB: "96m"}
    number, step, code = 0, 19, KILLED
    while code == KILLED:
        number += step
        now = box.inspect().config.memory
        new = next(text for size, text in sizes.items() if size != now)

        def killed(number: int = number, new: str = new) -> None:
            fatal_call(number)
            box.update(memory=new, pids_limit=int(new[:-1]))

        code = in_fork(killed)
        box.pause()
        box.unpause()
        config, found = box.inspect().config, limits(box, layout)
        said = {"memory": str(config.memory), "pids": str(config.pids_limit)}
        assert {name: found[name] for name in said} == said, number
    assert number > 5 * step
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_a_damaged_record_leads_to_no_other_file(
    engine: Engine, busybox_rootfs: Path, layout: str, short_tmp: Path
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    victim = short_tmp / "victim"
    victim.write_text("as it was")
    store = engine._machinery.store
    with store.locked(box.id, "test") as held:
        run = held.record.run
        assert run is not None
        wrong = {str(victim): "other"}
        held.save(held.record.replace(run=run.replace(updating=("memory",), limits_before=wrong)))
    before = limits(box, layout)
    box.pause()
    assert victim.read_text() == "as it was"
    assert limits(box, layout) == before
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_sigkill_and_then_the_end(
    engine: Engine, busybox_rootfs: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    before = limits(box, layout)

    def dies(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        monkeypatch.setattr(Runtime, "update", dies)
        box.update(**AFTER)

    assert in_fork(killed) == KILLED
    box.stop(0)
    box.start()
    assert limits(box, layout) == before
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
@pytest.mark.parametrize("then", ["done", "refused", "the same"])
def test_what_cannot_be_taken_back_stays_noted(
    engine: Engine, busybox_rootfs: Path, layout: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    before = limits(box, layout)
    does, writes = Runtime.update, controls.write

    def dies(self: Runtime, *args: Any, **how: Any) -> None:
        does(self, *args, **how)
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        monkeypatch.setattr(Runtime, "update", dies)
        box.update(memory="128m", pids_limit=50)

    def refuses(path: str, text: str) -> None:
        if path.endswith("/pids.max"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        writes(path, text)

    def noted() -> dict[str, str]:
        run = engine._machinery.store.peek(box.id).run
        assert run is not None
        found = {Path(path).name: text.strip() for path, text in run.limits_before.items()}
        assert bool(found) == bool(run.updating)
        return found

    assert in_fork(killed) == KILLED
    with monkeypatch.context() as patched:
        patched.setattr(controls, "write", refuses)
        if then == "refused":
            patched.setattr(Runtime, "update", lambda *_, **__: None)
            with pytest.raises(RuntimeFailed, match="has not set"):
                box.update(cpus=0.3)
            assert noted()["pids.max"] == "100"
        elif then == "the same":
            box.update(pids_limit=70)
            assert noted() == {}
        else:
            box.update(cpus=0.3)
            assert noted() == {"pids.max": "100"}
        pids = "70" if then == "the same" else "50"
        cpu = "30000 100000" if then == "done" else before["cpu"]
        assert limits(box, layout) == before | {"pids": pids, "cpu": cpu}
    box.pause()
    assert noted() == {}
    if then != "the same":
        pids = "100"
    assert limits(box, layout) == before | {"pids": pids, "cpu": cpu}
    assert str(box.inspect().config.pids_limit) == pids
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_the_cpus_of_an_exec_follow(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    count = os.cpu_count() or 1
    needs("two processors", count, count > 1)
    box = started(engine, busybox_rootfs, SLEEP)
    with box.popen(["sleep", "1000"]) as process:
        eventually(lambda: len(inside(box, layout)) == 2)
        for cpus in ("0", "1", "0-1"):
            box.update(cpuset_cpus=cpus)
            assert limits(box, layout)["cpuset"] == cpus
            allowed = {0, 1} if cpus == "0-1" else {int(cpus)}
            pids = [int(p) for p in inside(box, layout)]
            assert all(os.sched_getaffinity(pid) == allowed for pid in pids)
        process.kill()
    box.remove(force=True)


def inside(box: Container, layout: str) -> list[str]:
    top = CGROUPS if layout == "v2" else CGROUPS / "cpuset"
    own = Path(f"{top}{box.inspect().cgroup_path}")
    return [pid for file in own.rglob("cgroup.procs") for pid in file.read_text().split()]


@pytest.mark.usefixtures("controlled")
def test_two_at_once_leave_one_of_both(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)
    sizes = [64 + 8 * n for n in range(6)]
    threads = [
        threading.Thread(target=box.update, kwargs={"memory": f"{s}m", "pids_limit": s})
        for s in sizes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    config, found = box.inspect().config, limits(box, layout)
    assert (str(config.memory), str(config.pids_limit)) == (found["memory"], found["pids"])
    assert config.memory == (config.pids_limit or 0) * MIB
    box.remove(force=True)


def test_without_controllers_it_is_an_error(
    engine: Engine, busybox_rootfs: Path, layout: str
) -> None:
    have = (CGROUPS / "cgroup.controllers").read_text().split() if layout == "v2" else ["memory"]
    needs("a host without the controller memory", have, "memory" not in have)
    box = started(engine, busybox_rootfs, SLEEP)
    for asked in ({"memory": "64m"}, {"cpus": 0.5}, {"pids_limit": 9}, {"cpuset_cpus": "0"}):
        with pytest.raises(HostUnsupported, match="needs the cgroup controller"):
            box.update(**asked)  # type: ignore[arg-type]
    box.remove(force=True)


def test_the_command(cli: Cli, busybox_rootfs: Path, layout: str, engine: Engine) -> None:
    needs("limits", layout, layout != "v2")
    cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    box = engine.get("box")
    done = cli("update", "-m", "128m", "--cpus", "0.5", "--pids-limit=50", "--cpuset-cpus=0", "box")
    assert (done.stdout, done.stderr) == (f"{box.id}\n", "")
    assert limits(box, layout) == HELD
    assert cli("inspect", "-f", "{{.HostConfig.PidsLimit}}", "box").stdout == "50\n"
    refused = cli("container", "update", "--memory", "1k", "box", code=125)
    assert "Error: memory: 1024 bytes are too few" in refused.stderr
    assert "nothing to change" in cli("update", "box", code=125).stderr
    assert "update" in cli("events", "--stream=false", "--filter", "event=update").stdout
    box.remove(force=True)


@pytest.mark.usefixtures("controlled")
def test_awaited(
    dirs: tuple[Path, Path], runtime: str, engine: Engine, busybox_rootfs: Path, layout: str
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, **BEFORE)

    async def go() -> None:
        async_engine = aio.Engine(root=dirs[0], run_root=dirs[1], runtime=runtime)
        found = await async_engine.get("box")
        await found.update(**AFTER)
        with pytest.raises(InvalidArgument):
            await found.update(memory="1k")

    asyncio.run(go())
    assert limits(box, layout) == HELD
    box.remove(force=True)
