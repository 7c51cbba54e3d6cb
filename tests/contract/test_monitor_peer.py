"""The handshake with conmon: a scripted one, and the real one over a scripted runtime."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostkit import needs, which
from longshore import Engine
from longshore import config as configuration
from longshore.errors import (
    LongshoreError,
    MonitorFailed,
    MonitorGone,
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
)
from longshore.linux import inotify
from longshore.monitor.launch import Handshake, Launch
from longshore.monitor.logs import capture
from peers import Peer, fake_conmon, fake_runtime

ID = "c0ffee" + "0" * 58
LONG = 30.0  # seconds; never waited for where the test passes
SHORT = 0.3


def _environ_mentions(pid: str, text: bytes) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _ours(directory: Path) -> list[int]:
    """Processes whose command line names the test's directory: peers, and conmon under test."""
    text = os.fsencode(directory)
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    return [int(pid) for pid in pids if _environ_mentions(pid, text)]


def _children() -> list[str]:
    tasks = Path("/proc/self/task").iterdir()
    return [pid for task in tasks for pid in (task / "children").read_text().split()]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Every test here ends with the descriptors, children and processes that it began with."""
    inotify.descriptor()  # one a process, kept for good
    fds = set(os.listdir("/proc/self/fd"))
    children = _children()
    yield
    assert set(os.listdir("/proc/self/fd")) == fds
    assert _children() == children
    deadline = time.monotonic() + 5
    while (left := _ours(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    bundle, exits = tmp_path / "bundle", tmp_path / "exits"
    bundle.mkdir()
    exits.mkdir()
    return Launch(
        container_id=ID,
        name="box",
        runtime="/bin/false",
        runtime_args=(),
        bundle=str(bundle),
        pidfile=str(bundle / "pidfile"),
        conmon_pidfile=str(bundle / "conmon.pid"),
        log=f"k8s-file:{bundle / 'ctr.log'}",
        exit_dir=str(exits),
    )


def shake(peer: Peer | str, launch: Launch, timeout: float = LONG) -> int:
    """The whole handshake."""
    with Handshake(peer if isinstance(peer, str) else peer.path, launch) as handshake:
        handshake.release()
        return handshake.container_pid(timeout)


def end(peer: Peer) -> None:
    """End what a successful handshake leaves: the monitor and the container."""
    for key in ("container", "monitor"):
        os.kill(peer.noted(key), signal.SIGKILL)


BEGIN = (("start",), ("fork",), ("pidfile",))


# --- a scripted conmon -----------------------------------------------------------------------


def test_a_container_is_created_and_outlives_the_handshake(tmp_path: Path, launch: Launch) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("container",), ("hang",))
    pid = shake(peer, launch)
    assert pid == peer.noted("container")
    assert peer.noted("monitor") in _ours(tmp_path)
    os.kill(pid, 0)
    end(peer)


def test_what_conmon_inherits(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/nowhere")
    kept, other = os.pipe()
    peer = fake_conmon(tmp_path, *BEGIN, ("container",), ("hang",))
    env = {"MORE": "from containers.conf"}
    with Handshake(peer.path, launch, env=env, keep_fds=[kept]) as handshake:
        handshake.release()
        handshake.container_pid(LONG)
    os.close(kept)
    os.close(other)
    seen = peer.journal()[0]
    sync, start = (int(seen["env"].pop(f"_OCI_{name}PIPE")) for name in ("SYNC", "START"))
    assert {int(fd) for fd in seen["fds"]} >= {0, 1, 2, sync, start, kept}
    assert len({sync, start, kept}) == 3
    assert len(seen["fds"]) == 3 + 3  # the one that lists the directory is gone when it is read
    assert seen["fds"]["0"] == "/dev/null"
    assert seen["env"]["MORE"] == "from containers.conf"
    assert not {"SECRET", "NOTIFY_SOCKET"} & set(seen["env"])
    assert seen["cwd"] == launch.bundle
    assert seen["group"] == seen["pid"]
    assert seen["argv"] == launch.argv(peer.path)[1:]
    end(peer)


def test_conmon_does_nothing_before_it_is_released(tmp_path: Path, launch: Launch) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("container",), ("hang",))
    with Handshake(peer.path, launch) as handshake:
        while not peer.journal():
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(peer.journal()) == 1
        assert peer.noted("pid") == handshake.pid
        handshake.release()
        handshake.container_pid(LONG)
    end(peer)


def test_leaving_without_a_release_ends_conmon(tmp_path: Path, launch: Launch) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("container",), ("hang",))
    with pytest.raises(KeyboardInterrupt), Handshake(peer.path, launch):
        raise KeyboardInterrupt
    assert not [entry for entry in peer.journal() if "monitor" in entry]


@pytest.mark.parametrize(
    "sends",
    [
        ['{"data": 4242}\n'],
        ['{"pid": 4242}\n'],  # as without --api-version
        ['{"da', 'ta": 42', "42}", "\n"],
        ['{"data": 4242, "message": ""}\n{"data": 0}\n'],
        ['  {"later": [1, 2], "data": 4242}\r\n'],
    ],
)
def test_answers_that_are_understood(tmp_path: Path, launch: Launch, sends: list[str]) -> None:
    steps = [("send", text) for text in sends]
    assert shake(fake_conmon(tmp_path, *BEGIN, *steps), launch) == 4242


@pytest.mark.parametrize(
    "text",
    ["\n", "garbage\n", "\0\xff\n", "[]\n", "7\n", "null\n", "{}\n", '{"data": null}\n',
     '{"data": "x"}\n', '{"data": {}}\n', '{"data": 1e999}\n', "x" * (1 << 21)],
)  # fmt: skip
def test_garbage(tmp_path: Path, launch: Launch, text: str) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("say", "conmon: hm"), ("send", text), ("exit", 0))
    with pytest.raises(MonitorFailed, match="not what was agreed") as caught:
        shake(peer, launch)
    assert not isinstance(caught.value, MonitorGone)
    assert caught.value.stderr == "conmon: hm"
    assert "cannot create container box: " in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    "steps",
    [
        [("exit", 1)],
        [("die", signal.SIGKILL)],
        [("start",), ("exit", 0)],
        [("start",), ("die", signal.SIGSEGV)],
        [*BEGIN, ("exit", 1)],
        [*BEGIN, ("die", signal.SIGKILL)],
        [*BEGIN, ("send", '{"data": 12'), ("exit", 1)],
        [("close",), ("exit", 0)],
    ],
)
def test_an_end_without_an_answer(
    tmp_path: Path, launch: Launch, steps: list[tuple[Any, ...]]
) -> None:
    peer = fake_conmon(tmp_path, ("say", "conmon: cannot go on\n"), *steps)
    with pytest.raises(
        MonitorGone, match=r"before it had told the container's pid: .*cannot go on"
    ) as caught:
        shake(peer, launch)
    assert caught.value.stderr == "conmon: cannot go on"
    assert caught.value.exit_code == 125


def test_what_the_runtime_said_arrives(tmp_path: Path, launch: Launch) -> None:
    words = 'cannot mount "/ü": no such device'
    answer = '{"data": -1, "message": "cannot mount \\"/\\u00fc\\": no such device\\n"}\n'
    peer = fake_conmon(tmp_path, *BEGIN, ("send", answer), ("exit", 1))
    with pytest.raises(MonitorFailed) as caught:
        shake(peer, launch)
    assert str(caught.value) == words


def test_a_refusal_without_words_has_those_of_conmon(tmp_path: Path, launch: Launch) -> None:
    steps = (("say", "exec failed"), ("send", '{"data": -1}\n'))
    with pytest.raises(MonitorFailed, match="exec failed"):
        shake(fake_conmon(tmp_path, *BEGIN, *steps), launch)


@pytest.mark.parametrize("steps", [[], [("start",)], [("start",), ("send", '{"data": 1')]])
def test_the_time_limit(tmp_path: Path, launch: Launch, steps: list[tuple[Any, ...]]) -> None:
    began = time.monotonic()
    with pytest.raises(OperationTimeout, match=r"not created within 0\.3 s"):
        shake(fake_conmon(tmp_path, *steps, ("hang",)), launch, SHORT)
    assert time.monotonic() - began < LONG


def test_many_failures_leave_nothing(tmp_path: Path, launch: Launch) -> None:
    peer = fake_conmon(tmp_path, ("start",), ("exit", 1))
    for _ in range(20):
        with pytest.raises(MonitorGone):
            shake(peer, launch)


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (None, 0, ProgramNotFound),
        (b"#!/bin/sh\n", 0o644, ProgramNotExecutable),
        (b"not a program", 0o755, ProgramNotExecutable),
        (b"#!/no/such/interpreter\n", 0o755, ProgramNotFound),
        ("directory", 0, ProgramNotExecutable),
    ],
)
def test_conmon_cannot_be_run(
    tmp_path: Path, launch: Launch, content: bytes | str | None, mode: int, error: type
) -> None:
    path = tmp_path / "conmon"
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(error) as caught:
        shake(str(path), launch)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, LongshoreError)


# --- the real conmon over a scripted runtime ---------------------------------------------------


@pytest.fixture
def conmon() -> str:
    found = which("conmon")
    needs("conmon", found)
    assert found is not None
    return found


def await_exit_file(launch: Launch) -> str:
    path = Path(launch.exit_dir, ID)
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def test_real_conmon_runs_the_runtime_and_keeps_its_output(
    tmp_path: Path, launch: Launch, conmon: str
) -> None:
    program = ["sh", "-c", "printf 'a\\0b\\n\\nno end'; printf e >&2; exit 3"]
    runtime, state = fake_runtime(tmp_path, create={"run": program}), str(tmp_path / "state")
    launch = launch.replace(runtime=runtime.path, runtime_args=("--root", state))
    shake(conmon, launch)
    created = runtime.journal()[0]
    assert created["argv"][:3] == ["--root", state, "create"]
    # conmon's own pipes never reach a runtime, nor do we
    assert set(created["fds"]) <= {"0", "1", "2", "3"}
    os.spawnv(os.P_WAIT, runtime.path, [runtime.path, "--root", state, "start", ID])
    assert await_exit_file(launch) == "3"
    log = launch.log.partition(":")[2]
    assert capture(log) == (b"a\0b\n\nno end", b"e")


def test_real_conmon_tells_what_the_runtime_said(
    tmp_path: Path, launch: Launch, conmon: str
) -> None:
    runtime = fake_runtime(tmp_path, create={"stderr": "cannot do that\n", "exit": 1})
    with pytest.raises(MonitorFailed, match="cannot do that") as caught:
        shake(conmon, launch.replace(runtime=runtime.path))
    assert not isinstance(caught.value, MonitorGone)


@pytest.mark.parametrize("runtime", ["/no/such/runtime", "/etc/passwd"])
def test_real_conmon_without_a_runtime(launch: Launch, conmon: str, runtime: str) -> None:
    with pytest.raises(MonitorFailed):
        shake(conmon, launch.replace(runtime=runtime))


def test_real_conmon_over_a_runtime_that_hangs(tmp_path: Path, launch: Launch, conmon: str) -> None:
    runtime = fake_runtime(tmp_path, create={"hang": True})
    with pytest.raises(OperationTimeout):
        shake(conmon, launch.replace(runtime=runtime.path), 1.0)
    # conmon has forked, and the engine ends it by its pidfile; so do we
    monitor = int(Path(launch.conmon_pidfile).read_text())
    for pid in (monitor, runtime.noted("pid")):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError as err:
            assert err.errno == errno.ESRCH


# --- the engine over both: nothing is left ---------------------------------------------------


def _cgroups(parent: str) -> list[Path]:
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    return [path for top in tops for path in top.joinpath(parent[1:]).rglob("*/")]


HANG = (*BEGIN, ("hang",))
FAILURES: dict[str, tuple[tuple[Any, ...] | None, dict[str, Any], type[LongshoreError]]] = {
    "garbage": ((*BEGIN, ("send", "x\n")), {}, LongshoreError),
    "end before the start byte": ((("exit", 1),), {}, MonitorGone),
    "end": (BEGIN, {}, MonitorGone),
    "refusal": ((*BEGIN, ("send", '{"data": -1, "message": "no way"}\n')), {}, RuntimeFailed),
    "hang before the start byte": ((("hang",),), {}, OperationTimeout),
    "hang": (HANG, {}, OperationTimeout),
    "hang without a pidfile": ((("start",), ("fork",), ("hang",)), {}, OperationTimeout),
    "create hangs": (None, {"create": {"hang": True}}, OperationTimeout),
    "create fails": (None, {"create": {"stderr": "no", "exit": 1}}, RuntimeFailed),
    "start fails": (
        None,
        {"create": {"run": ["sleep", "1000"]}, "start": {"stderr": "no", "exit": 1}},
        RuntimeFailed,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_engine_takes_everything_back(tmp_path: Path, name: str) -> None:
    needs("root, for cgroups", f"uid {os.geteuid()}", os.geteuid() == 0)
    steps, verbs, error = FAILURES[name]
    if steps is None:
        needs("conmon", which("conmon"))
    conmon = None if steps is None else fake_conmon(tmp_path / "conmon", *steps).path
    runtime = fake_runtime(tmp_path / "runtime", **verbs)
    root, run_root, rootfs = (tmp_path / part for part in ("root", "run", "rootfs"))
    rootfs.mkdir()
    parent = f"/longshore-peer-{os.getpid()}"
    settings = configuration.load(root=str(root), run_root=str(run_root))
    settings = settings.replace(create_timeout=1.0)
    engine = Engine(settings=settings, runtime=runtime.path, conmon=conmon)
    try:
        with pytest.raises(error) as caught:
            engine.run(command=["true"], rootfs=rootfs, network="none", cgroup_parent=parent)
        assert caught.value.exit_code == 125
        assert engine.list(all=True) == []
        assert list((root / "containers").iterdir()) == []
        assert not list(run_root.glob("containers/*")) + list(run_root.glob("exits/*"))
        assert not [path for path in _cgroups(parent) if path.name != "conmon"]
    finally:
        for path in sorted(_cgroups(parent), reverse=True):
            path.rmdir()
        for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
            with contextlib.suppress(FileNotFoundError):
                top.joinpath(parent[1:]).rmdir()
