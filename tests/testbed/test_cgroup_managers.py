"""cgroup_managers: under systemd, with both runtimes, and nothing stale or failed afterwards."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hostkit
from hostlife import SLEEP, Fatal, eventually, in_fork, kill_init, kill_monitor, make, started
from longshore import Container, Engine
from longshore.cgroup.systemd import Systemd
from longshore.engine import updating
from longshore.errors import InvalidArgument, LongshoreError, MonitorGone
from longshore.lifecycle import Status
from longshore.models import ExitReason

pytestmark = pytest.mark.user("root")
KILLED = -signal.SIGKILL
LEAVES = "setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & echo ready; exec sleep 1000"


def systemctl(*words: str) -> str:
    return subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def show(unit: str, *properties: str) -> dict[str, str]:
    words = systemctl("show", unit, *(f"--property={name}" for name in properties))
    pairs = (line.partition("=") for line in words.splitlines())
    return {name: value for name, _, value in pairs}


def units(*states: str) -> set[str]:
    """Return Longshore's units that systemd knows, in any state or in these."""
    words = ["list-units", "--all", "--plain", "--no-legend", "--full"]
    lines = systemctl(*words, *(f"--state={s}" for s in states), "*longshore*").splitlines()
    # a mount point becomes a unit by itself, and goes with its mount
    return {line.split()[0] for line in lines if not line.split()[0].endswith(".mount")}


@pytest.fixture(autouse=True)
def no_unit_is_left() -> Iterator[None]:
    """Fail when a unit of ours is left; what goes by itself has a moment."""
    assert units() == set()
    yield
    with contextlib.suppress(AssertionError):
        eventually(lambda: not units())
    assert units() == set()
    assert units("failed") == set()
    left = [str(p) for p in Path(hostkit.CGROUPS).rglob("*longshore_*")]
    assert not left


@pytest.fixture
def engine(dirs: tuple[Path, Path], runtime: str) -> Engine:
    return Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, cgroup_manager="systemd")


def own_slice(box: Container) -> str:
    return f"machine-longshore_{box.id}.slice"


def scope(box: Container) -> str:
    return f"longshore-{box.id}.scope"


def conmon_scope(ident: str) -> str:
    return f"longshore-conmon-{ident}.scope"


def cgroup_of(pid: int | None) -> str:
    line = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1]
    return line.removeprefix("0::")


def members(directory: Path) -> list[str]:
    return directory.joinpath("cgroup.procs").read_text().split()


# --- which manager ----------------------------------------------------------------------------


def test_the_default_is_what_the_host_has(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Engine(root=dirs[0], run_root=dirs[1], runtime=runtime)
    assert default.info().cgroup_manager == "systemd"
    box = started(default, busybox_rootfs, SLEEP)
    assert units("active") >= {own_slice(box), scope(box), conmon_scope(box.id)}
    box.remove(force=True)
    conf = dirs[0].parent / "containers.conf"
    conf.write_text('[engine]\ncgroup_manager = "cgroupfs"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    written = Engine(root=dirs[0], run_root=dirs[1], runtime=runtime)
    assert written.info().cgroup_manager == "cgroupfs"
    box = started(written, busybox_rootfs, SLEEP)
    assert units() == set()
    box.remove(force=True)


def test_another_process_with_another_default_handles_it(
    engine: Engine, cli: hostkit.Cli, busybox_rootfs: Path
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, name="box")
    fs = functools.partial(cli, "--cgroup-manager", "cgroupfs")
    assert fs("inspect", "--format", "{{.HostConfig.CgroupManager}}", "box").stdout == "systemd\n"
    assert fs("exec", "box", "echo", "hi").stdout == "hi\n"
    fs("pause", "box")
    assert fs("ps", "-a", "--format", "{{.State}}").stdout == "Paused\n"
    fs("unpause", "box")
    fs("restart", "-t", "0", "box")
    assert scope(box) in units("active")
    fs("rm", "-f", "box")


class Listener:
    """A socket where a bus would be; ``callers`` counts who comes."""

    def __init__(self, path: Path) -> None:
        self.callers = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.callers += 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def test_cgroupfs_makes_no_dbus_call(
    cli: hostkit.Cli, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the command, nor the runtime, nor what conmon runs at the end."""
    listener = Listener(short_tmp / "bus")
    try:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={short_tmp}/bus")
        fs = functools.partial(cli, "--cgroup-manager", "cgroupfs")
        rootfs = str(busybox_rootfs)
        assert fs("run", "--rm", "--rootfs", rootfs, "echo", "hi").stdout == "hi\n"
        fs("run", "-d", "--name", "box", "--rootfs", rootfs, "sh", "-c", SLEEP)
        fs("exec", "box", "true")
        fs("exec", "-d", "box", "true")
        fs("stats", "--no-stream")
        fs("stop", "-t", "0", "box")
        fs("rm", "box")
        fs("run", "-d", "--rm", "--name", "box", "--rootfs", rootfs, "true")
        eventually(lambda: not fs("ps", "-aq").stdout)
        assert listener.callers == 0
        fs("--cgroup-manager", "systemd", "create", "--rootfs", rootfs, "true", code=125)
        assert listener.callers == 1, "this test sees no calls at all"
    finally:
        listener.close()


# --- what there is while it runs --------------------------------------------------------------


def test_units_and_cgroups(engine: Engine, runtime: str, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP, stop_signal="USR1", stop_timeout=7)
    found = box.inspect()
    own = f"/machine.slice/{own_slice(box)}"
    path = f"{own}/{scope(box)}"
    inner = f"{path}/container" if runtime == "crun" else path
    assert found.cgroup_path == cgroup_of(found.pid) == inner
    assert cgroup_of(found.monitor_pid) == f"/machine.slice/{conmon_scope(box.id)}"
    assert show(own_slice(box), "ControlGroup", "MemoryAccounting", "TasksAccounting") == {
        "ControlGroup": own, "MemoryAccounting": "yes", "TasksAccounting": "yes",
    }  # fmt: skip
    # as the runtime set it, and as it was told to
    asked = ("ControlGroup", "Slice", "Delegate", "CollectMode", "KillSignal", "TimeoutStopUSec")
    assert show(scope(box), *asked) == {
        "ControlGroup": path, "Slice": own_slice(box), "Delegate": "yes",
        "CollectMode": "inactive-or-failed", "KillSignal": str(int(signal.SIGUSR1)),
        "TimeoutStopUSec": "7s",
    }  # fmt: skip
    assert show(conmon_scope(box.id), "Slice", "CollectMode") == {
        "Slice": "machine.slice", "CollectMode": "inactive-or-failed",
    }  # fmt: skip
    argv = Path(f"/proc/{found.monitor_pid}/cmdline").read_text().split("\0")
    assert "-s" in argv
    assert "--runtime-arg=--systemd-cgroup" not in argv  # -s says so
    box.remove(force=True)


def test_properties_of_limits(engine: Engine, busybox_rootfs: Path) -> None:
    have = Path(hostkit.CGROUPS, "cgroup.controllers").read_text().split()
    hostkit.needs("the cgroup controllers cpu, memory and pids", have, {*have} > {"cpu", "memory"})
    box = started(
        engine, busybox_rootfs, SLEEP, memory="64m", pids_limit=77, cpu_quota=50_000,
        cpu_period=100_000,
    )  # fmt: skip
    assert show(scope(box), "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec") == {
        "MemoryMax": str(64 << 20), "TasksMax": "77", "CPUQuotaPerSecUSec": "500ms",
    }  # fmt: skip
    box.remove(force=True)


def test_no_limit_of_processes_is_none_of_systemd_s_own(
    engine: Engine, busybox_rootfs: Path
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, pids_limit=-1)
    assert show(scope(box), "TasksMax") == {"TasksMax": "infinity"}
    box.remove(force=True)


def test_an_update_changes_the_unit_too(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have = Path(hostkit.CGROUPS, "cgroup.controllers").read_text().split()
    hostkit.needs("the cgroup controllers cpu, memory and pids", have, {*have} > {"cpu", "memory"})
    names = ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    box = started(engine, busybox_rootfs, SLEEP, memory="64m", pids_limit=77, cpus=0.5)
    before = show(scope(box), *names)
    box.update(memory="128m", pids_limit=50, cpus=0.25)
    after = {"MemoryMax": str(128 << 20), "TasksMax": "50", "CPUQuotaPerSecUSec": "250ms"}
    assert show(scope(box), *names) == after
    systemctl("daemon-reload")  # systemd applies again what it knows
    found = box.stats()
    assert (found.memory_limit, found.pids_limit) == (128 << 20, 50)
    box.update(memory="64m", pids_limit=77, cpus=0.5)
    assert show(scope(box), *names) == before
    monkeypatch.setattr(updating, "check_controllers", lambda *_: None)
    with pytest.raises(LongshoreError):  # what comes first is taken back, in the unit too
        box.update(memory="96m", cpuset_cpus="900")
    assert show(scope(box), *names) == before
    assert box.stats().memory_limit == 64 << 20
    box.remove(force=True)


def test_another_parent(engine: Engine, busybox_rootfs: Path) -> None:
    parent = "lstest-inner.slice"
    box = started(engine, busybox_rootfs, SLEEP, cgroup_parent=parent)
    found = box.inspect()
    above = "/lstest.slice/lstest-inner.slice"
    assert cgroup_of(found.monitor_pid) == f"{above}/{conmon_scope(box.id)}"
    assert cgroup_of(found.pid).startswith(
        f"{above}/lstest-inner-longshore_{box.id}.slice/{scope(box)}"
    )
    box.remove(force=True)
    # a path counts by its last element
    box = started(engine, busybox_rootfs, SLEEP, cgroup_parent="/lstest.slice")
    assert cgroup_of(box.inspect().pid).startswith(f"/lstest.slice/lstest-longshore_{box.id}.slice")
    box.remove(force=True)
    eventually(lambda: not units())
    systemctl("stop", "lstest.slice")  # a parent is its giver's


def test_parents_that_cannot_be(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    with pytest.raises(InvalidArgument, match="'/longshore' is no slice"):
        make(engine, busybox_rootfs, SLEEP, cgroup_parent="/longshore")
    fs = Engine(root=dirs[0], run_root=dirs[1], cgroup_manager="cgroupfs")
    with pytest.raises(InvalidArgument, match=r"'machine\.slice' is a systemd slice"):
        make(fs, busybox_rootfs, SLEEP, cgroup_parent="machine.slice")
    assert engine.list(all=True) == []


def test_pause_stats_and_top(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "sleep 1000 & exec sleep 1000")
    box.pause()
    assert box.inspect().status is Status.PAUSED
    box.unpause()
    assert box.inspect().status is Status.RUNNING
    assert box.stats().cpu is not None
    assert len(box.top()) == 2
    box.pause()
    ended = box.stop(timeout=0)
    assert ended is not None and ended.reason is ExitReason.STOP_ESCALATED
    box.remove()


# --- execs ------------------------------------------------------------------------------------


def test_an_exec_has_its_cgroup_and_ends_as_a_whole(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    inner = box.inspect().cgroup_path
    with box.popen(["sh", "-c", f"{LEAVES}"]) as process:
        assert process.stdout.read(6) == b"ready\n"
        (directory,) = Path(hostkit.CGROUPS + inner).glob("exec-*")
        eventually(lambda: len(members(directory)) == 4)
        process.kill()
        assert process.wait(30).reason is ExitReason.KILLED
    result = box.exec(["sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"])
    assert result.exit.usage is not None and (result.exit.usage.cpu_user or 0) > 0
    late = box.exec(["sh", "-c", LEAVES], timeout=0.5)
    assert late.exit.reason is ExitReason.TIMEOUT
    assert len(box.top()) == 1
    box.remove(force=True)


def test_the_conmon_of_a_session_has_a_scope(
    engine: Engine, cli: hostkit.Cli, busybox_rootfs: Path
) -> None:
    box = started(engine, busybox_rootfs, SLEEP, name="box")
    session = cli("exec", "-d", "box", "sleep", "1000").stdout.strip()
    assert units("active") >= {conmon_scope(box.id), conmon_scope(session)}
    box.remove(force=True)


# --- the end ----------------------------------------------------------------------------------


def test_usage_outlives_it(engine: Engine, busybox_rootfs: Path) -> None:
    """The runtime's scope goes with its last process, our slice does not."""
    work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    result = engine.run(command=["sh", "-c", f"{work}; times"], rootfs=busybox_rootfs)
    usage = result.exit.usage
    assert usage is not None and usage.cpu_user is not None
    used = sum(
        int(minutes) * 60 + float(seconds)
        for minutes, _, seconds in (
            word.removesuffix("s").partition("m") for word in result.text.split()[:2]
        )
    )
    assert usage.cpu_user + (usage.cpu_system or 0) >= used * 0.9


def test_what_it_has_left_is_killed(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, LEAVES, pid="host")
    directory = Path(hostkit.CGROUPS + box.inspect().cgroup_path)
    eventually(lambda: len(members(directory)) == 4)
    pids = members(directory)
    kill_init(box)
    box.wait(30)
    box.remove()
    assert not [pid for pid in pids if Path("/proc", pid, "exe").exists()]


def test_conmon_s_exit_command_takes_the_slice_away(cli: hostkit.Cli, busybox_rootfs: Path) -> None:
    """Nobody else is there: it finds D-Bus by itself, in an isolated interpreter."""
    cli("run", "-d", "--rm", "--rootfs", str(busybox_rootfs), "true")
    eventually(lambda: not cli("ps", "-aq").stdout)
    eventually(lambda: not units())


def test_restarts(engine: Engine, busybox_rootfs: Path) -> None:
    """Each run has new units of the same names, whether systemd has let go of the last or not."""
    box = started(engine, busybox_rootfs, SLEEP)
    for _ in range(5):
        box.restart(timeout=0)
        assert cgroup_of(box.inspect().monitor_pid) == f"/machine.slice/{conmon_scope(box.id)}"
    for _ in range(5):
        kill_init(box)
        box.wait(30)
        box.start()
        assert cgroup_of(box.inspect().monitor_pid) == f"/machine.slice/{conmon_scope(box.id)}"
    box.remove(force=True)


def test_many_at_once(engine: Engine, busybox_rootfs: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(4):
                assert engine.run(command=["true"], rootfs=busybox_rootfs).exit.ok
        except BaseException as err:
            errors.append(err)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_start_that_fails(engine: Engine, busybox_rootfs: Path) -> None:
    for command in (["/nothing"], ["/etc/passwd"]):
        box = engine.create(command=command, rootfs=busybox_rootfs)
        with pytest.raises(LongshoreError):
            box.start()
        assert not units() - {conmon_scope(box.id)}
        box.remove()


def test_a_monitor_that_is_gone_before_it_has_its_scope(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """systemd hears of no end of what has ended already."""
    conmon = short_tmp / "conmon"
    conmon.write_text("#!/bin/sh\nexit 3\n")
    conmon.chmod(0o755)
    broken = Engine(
        root=engine.settings.root, run_root=engine.settings.run_root, conmon=str(conmon),
        cgroup_manager="systemd",
    )  # fmt: skip
    box = make(broken, busybox_rootfs, SLEEP)
    for _ in range(3):
        with pytest.raises(MonitorGone):
            box.start()
        eventually(lambda: not units())
    running = started(engine, busybox_rootfs, SLEEP)
    for _ in range(3):
        with pytest.raises(MonitorGone):
            broken.get(running.id).popen(["true"], detach=True)
        eventually(
            lambda: not units() - {own_slice(running), scope(running), conmon_scope(running.id)}
        )
    running.remove(force=True)
    box.remove()


def test_a_notify_socket_is_not_the_runtime_s(
    cli: hostkit.Cli, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conmon runs the runtime through env(1) then, whose flags are not the runtime's."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/nobody")
    assert cli("run", "--rm", "--rootfs", str(busybox_rootfs), "echo", "hi").stdout == "hi\n"


def test_a_monitor_that_is_killed(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    kill_monitor(box)
    assert box.inspect().status is Status.RUNNING
    ended = box.stop(timeout=0)
    assert ended is not None and ended.reason is ExitReason.MONITOR_LOST
    box.remove()


@pytest.mark.parametrize("spec", ["there", "gone"])
def test_a_damaged_record(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path, spec: str
) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    paths = engine._machinery.paths(box.id)
    Path(paths.record).write_text("{")
    if spec == "gone":
        Path(paths.config).unlink()
    box.remove(force=True)


# --- what is killed in between ----------------------------------------------------------------


def test_start_killed_at_every_mark(engine: Engine, busybox_rootfs: Path) -> None:
    number, code = 0, KILLED
    while code == KILLED:
        number += 1
        box = make(engine, busybox_rootfs, SLEEP, name="box")
        code = in_fork(functools.partial(box.start, trace=Fatal(number)))
        if number % 2 and code == KILLED:
            box.start()  # needs no repair
            assert box.inspect().status is Status.RUNNING
            assert box.pause() is None and box.inspect().status is Status.PAUSED
            box.stop(0)
            box.remove()
        else:
            box.remove(force=True)
        eventually(lambda: not units())
        assert units("failed") == set()
    assert code == 0 and number > 8


def _dies(after: bool, method: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object) -> object:
        if after:
            method(*args)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_its_units(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Just before and just after systemd is asked: for the slice, and to take it away."""
    box = make(engine, busybox_rootfs, SLEEP)
    with monkeypatch.context() as patch:
        patch.setattr(Systemd, "prepare", _dies(after, Systemd.prepare))
        assert in_fork(box.start) == KILLED
    box.start()
    with monkeypatch.context() as patch:
        patch.setattr(Systemd, "remove", _dies(after, Systemd.remove))
        # conmon's exit command may be there first
        assert in_fork(functools.partial(box.stop, 0)) in (KILLED, 0)
    box.start()
    with monkeypatch.context() as patch:
        patch.setattr(Systemd, "remove", _dies(after, Systemd.remove))
        assert in_fork(functools.partial(box.remove, force=True)) == KILLED
    box.remove(force=True, missing_ok=True)


# --- without a bus ----------------------------------------------------------------------------


def test_a_bus_that_went_away_keeps_nothing_from_being_removed(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    with monkeypatch.context() as patch:
        patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={short_tmp}/no-bus")
        assert box.exec(["true"]).exit.ok
        box.remove(force=True)  # with a warning
        with pytest.raises(LongshoreError, match="no-bus"):
            started(engine, busybox_rootfs, SLEEP)
    for left in engine.list(all=True):
        left.remove()
    eventually(lambda: units() <= {own_slice(box)})
    engine.prune()


def test_without_a_bus_the_default_is_cgroupfs(
    dirs: tuple[Path, Path], busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={short_tmp}/no-bus")
    default = Engine(root=dirs[0], run_root=dirs[1])
    assert default.info().cgroup_manager == "cgroupfs"
    assert default.run(command=["true"], rootfs=busybox_rootfs).exit.ok


def test_prune_leaves_what_lives(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    other = Engine(
        root=short_tmp / "other", run_root=short_tmp / "other-run", cgroup_manager="systemd"
    )
    other.prune()
    engine.prune()
    assert units("active") >= {own_slice(box), scope(box)}
    assert box.exec(["true"]).exit.ok
    box.remove(force=True)


def test_logs_are_rotated_by_one_in_a_scope_of_its_own(
    engine: Engine, busybox_rootfs: Path
) -> None:
    options = {"log_opt": {"max-size": "10k", "max-file": "2"}}
    box = started(engine, busybox_rootfs, SLEEP, **options)

    def there() -> bool:
        return any(unit.startswith("longshore-supervisor-") for unit in units("active"))

    eventually(there)
    box.remove(force=True)
    eventually(lambda: not there())  # with the last that it was for
