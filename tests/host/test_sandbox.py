"""The engine over gVisor's runsc, where no process of a container is one of the host's.

A known limit is pinned here, by the error that names it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostkit import command_line, sandbox_runtime
from hostlife import eventually
from longshore import Container, Engine
from longshore.errors import (
    HostUnsupported,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
    WrongState,
)
from longshore.lifecycle import Status
from longshore.models import ExitReason
from longshore.monitor.launch import Inherited
from managers import Manager

TRAPS = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"


RUNSC = sandbox_runtime()
if not RUNSC:
    pytest.skip("no runsc works here", allow_module_level=True)


@pytest.fixture
def runsc() -> str:
    """The path of a runsc that works here, with cgroups."""
    return RUNSC


@pytest.fixture
def engine(dirs: tuple[Path, Path], runsc: str) -> Engine:
    """An Engine with directories of its own, on runsc."""
    return Engine(root=dirs[0], run_root=dirs[1], runtime=runsc)


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Any:
    made = engine.create(command=["sh", "-c", TRAPS], rootfs=busybox_rootfs, name="box")
    made.start()
    eventually(lambda: "ready" in "".join(r.data.decode() for r in made.logs()))
    return made


def test_run(engine: Engine, busybox_rootfs: Path) -> None:
    result = engine.run(
        command=["sh", "-c", "cat; echo err >&2; dmesg | head -n 1 >&2; exit 3"],
        rootfs=busybox_rootfs,
        input=b"hi",
    )
    assert (result.stdout, result.exit.code) == (b"hi", 3)
    assert result.stderr.startswith(b"err\n") and b"gVisor" in result.stderr
    # runsc's own cgroup is below ours, so what the sandbox has used is known
    assert result.exit.usage.memory_peak and result.exit.usage.cpu_user is not None


@pytest.mark.parametrize(
    ("command", "kind", "code"),
    [
        ("nope", ProgramNotFound, 127),
        ("/no/such", ProgramNotFound, 127),
        ("/etc", ProgramNotExecutable, 126),
        ("/etc/passwd", ProgramNotExecutable, 126),
    ],
)
def test_what_cannot_be_executed(
    engine: Engine, busybox_rootfs: Path, command: str, kind: type, code: int
) -> None:
    with pytest.raises(kind) as caught:
        engine.run(command=[command], rootfs=busybox_rootfs)
    assert caught.value.exit_code == code
    assert not engine.list(all=True) or engine.list(all=True)[0].inspect().status is Status.CREATED


def test_what_an_exec_cannot_execute(box: Any) -> None:
    for command, kind in (("nope", ProgramNotFound), ("/etc", ProgramNotExecutable)):
        with pytest.raises(kind):
            box.exec([command])
    for code in (0, 1, 125, 126, 127, 255):
        assert box.exec(["sh", "-c", f"echo words; exit {code}"]).exit.code == code


def test_writes_go_to_the_root_that_was_given(engine: Engine, busybox_rootfs: Path) -> None:
    engine.run(command=["sh", "-c", "echo kept > /written"], rootfs=busybox_rootfs)
    assert (busybox_rootfs / "written").read_text() == "kept\n"
    engine.run(command=["rm", "/written"], rootfs=busybox_rootfs, overlay=True)
    assert (busybox_rootfs / "written").exists()
    assert not list(busybox_rootfs.glob(".gvisor*"))


@pytest.mark.parametrize("network", ["none", "host"])
def test_networks(engine: Engine, busybox_rootfs: Path, network: str) -> None:
    result = engine.run(command=["cat", "/proc/net/dev"], rootfs=busybox_rootfs, network=network)
    assert set(re.findall(r"(\w+):", result.text)) <= {"lo"} or network == "host"
    assert result.exit.code == 0


def test_a_signal_that_it_handles_ends_it_with_its_own_code(box: Any) -> None:
    info = box.stop(timeout=10)
    assert (info.code, info.reason) == (5, ExitReason.STOPPED)
    assert [r.data for r in box.logs()][-1].strip() == b"bye"


def test_kill(box: Any) -> None:
    box.kill("KILL")
    info = box.wait()
    assert (info.code, info.reason) == (137, ExitReason.KILLED)


def test_it_stops_in_time_though_nobody_can_see_which_signals_it_takes(
    engine: Engine, busybox_rootfs: Path
) -> None:
    box = engine.create(
        command=["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], rootfs=busybox_rootfs
    )
    box.start()
    info = box.stop(timeout=0.2)
    assert (info.code, info.reason) == (137, ExitReason.STOP_ESCALATED)


@pytest.mark.parametrize("how", ["stop", "kill", "remove", "signal"])
def test_pause(box: Any, how: str) -> None:
    box.pause()
    assert box.inspect().status is Status.PAUSED
    with pytest.raises(WrongState):
        box.exec(["true"])
    if how == "stop":
        assert box.stop(timeout=10).code == 5
    elif how == "kill":
        box.kill("KILL")
        assert box.wait().code == 137
    elif how == "signal":  # kept for the end of the pause by others
        with pytest.raises(RuntimeFailed):
            box.kill("USR1")
        assert box.inspect().status is Status.PAUSED
        box.unpause()
        assert box.inspect().status is Status.RUNNING
    box.remove(force=True)


def left_in(box: Any) -> list[str]:
    words = box.exec(["ps", "-o", "args"]).text.splitlines()
    return sorted(word for word in words if re.fullmatch(r"sleep 2\d\d", word))


TREE = "sleep 201 & setsid sh -c 'sleep 202 & wait' & echo up; exec sleep 203"


def test_a_timeout_kills_an_exec_with_what_it_has_begun(box: Any) -> None:
    result = box.exec(["sh", "-c", TREE], timeout=1.5)
    assert (result.stdout, result.exit.reason) == (b"up\n", ExitReason.TIMEOUT)
    assert left_in(box) == []
    assert box.inspect().status is Status.RUNNING


def test_a_live_exec(box: Any) -> None:
    with box.popen(["cat"], stdin=True) as process:
        process.stdin.write(b"abc")
        process.stdin.close()
        assert process.stdout.read() == b"abc"
        assert process.wait().code == 0
    script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
    with box.popen(["sh", "-c", script]) as one:
        assert one.stdout.readline() == b"up\n"
        one.send_signal(signal.SIGTERM)
        assert one.wait().code == 7
    with box.popen(["sh", "-c", TREE]) as tree:
        assert tree.stdout.readline() == b"up\n"
        tree.kill()
        assert tree.wait().code == 137
    assert left_in(box) == []


def test_what_an_exec_leaves_running_does_not_hold_it_up(box: Any) -> None:
    result = box.exec(["sh", "-c", "sleep 1000 & echo up"], timeout=30)
    assert (result.stdout, result.exit.code) == (b"up\n", 0)


def test_a_session_under_conmon(box: Any) -> None:
    process = box.popen(["sh", "-c", TREE], detach=True)
    eventually(lambda: len(left_in(box)) == 3)
    process.kill()
    assert process.wait().reason is ExitReason.KILLED
    assert left_in(box) == []
    waits = box.popen(
        ["sh", "-c", "trap 'exit 7' TERM; echo > /up; while :; do sleep 0.1; done"], detach=True
    )
    eventually(lambda: box.exec(["test", "-e", "/up"]).exit.code == 0)
    waits.send_signal("TERM")
    assert waits.wait().code == 7
    ended = box.popen(["sh", "-c", "echo said; exit 4"], detach=True)
    assert ended.wait().code == 4


@pytest.mark.parametrize(
    "ask",
    [
        lambda box: box.top(),
        lambda box: box.read_file("/etc/passwd"),
        lambda box: box.popen(["true"], tty=True),
    ],
    ids=["top", "files", "a terminal for an exec"],
)
def test_what_is_refused_while_it_runs(box: Any, ask: Callable[[Any], object]) -> None:
    with pytest.raises(HostUnsupported, match="runsc") as caught:
        ask(box)
    assert caught.value.hint
    box.stop(timeout=0)
    assert box.read_file("/etc/passwd").startswith(b"root:")


def test_it_comes_back_after_a_crash_of_the_sandbox(box: Any) -> None:
    pid = box.inspect().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert box.wait().code == 137
    box.start()
    assert box.exec(["true"]).exit.code == 0


def test_the_command_line(
    dirs: tuple[Path, Path], runsc: str, busybox_rootfs: Path, engine: Engine
) -> None:
    cli = command_line(dirs, runsc)
    cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sh", "-c", TRAPS)
    assert cli("exec", "box", "sh", "-c", "exit 7", code=7)
    assert cli("exec", "box", "nope", code=127)
    assert cli("exec", "box", "/etc", code=126)
    cli("pause", "box")
    shown = cli("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout
    assert shown.startswith("box ") and "aused" in shown
    cli("rm", "-f", "box")
    assert engine.list(all=True) == []


def test_a_service_manager_s_sockets_are_out_of_reach(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manager(short_tmp / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        box = engine.create(command=["true"], rootfs=busybox_rootfs, sdnotify="container")
        with pytest.raises(HostUnsupported, match="sdnotify: container") as caught:
            box.start()
        assert caught.value.hint is not None and "--sdnotify=conmon" in caught.value.hint
        box.remove()
        box = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs, sdnotify="conmon")
        box.start()
        assert manager.next() == [f"MAINPID={box.inspect().monitor_pid}"]
        assert manager.next() == ["READY=1"]
        box.remove(force=True)


def test_activation_sockets_are_none_of_its_own(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """runsc hands on none: a program would be told of sockets that are not there."""
    given = Inherited(sockets=(3, 4))
    monkeypatch.setattr("longshore.engine.readiness.inherited", lambda **_: given)
    box = engine.create(command=["true"], rootfs=busybox_rootfs)
    with pytest.raises(HostUnsupported, match="2 activation sockets"):
        box.start()
    box.remove()


def test_limits_hold_from_the_next_start_on(engine: Engine, box: Any, layout: str) -> None:
    if layout != "v1":
        pytest.skip(f"needs memory; found: {layout}")
    with pytest.raises(HostUnsupported, match="its limits are to be changed"):
        box.update(memory="512m")
    assert box.inspect().config.memory is None
    box.stop(timeout=0)
    box.update(memory="512m")
    box.start()
    assert box.stats().memory_limit == 512 << 20
    box.remove(force=True)


def test_dev_shm_is_not_shared_with_a_sandbox(
    engine: Engine, box: Container, busybox_rootfs: Path
) -> None:
    """What cannot be is refused, and the start is taken back."""
    user = engine.create(
        command=["true"], rootfs=busybox_rootfs, name="user", runtime="runc", ipc="container:box"
    )
    with pytest.raises(HostUnsupported, match="share /dev/shm with container box"):
        user.start()
    assert user.status is Status.CREATED
    user.remove()
    box.remove(force=True)
