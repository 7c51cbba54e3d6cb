"""What a starter has of its own: activation sockets arrive, NOTIFY_SOCKET is what sdnotify says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostkit
from hostlife import SLEEP, started
from longshore import Engine
from longshore.errors import ProgramNotFound
from managers import Manager

Dirs = tuple[Path, Path]

# As a service manager does it (sd_listen_fds(3)): sockets from 3 on, and the pid of who gets them.
ACTIVATE = """
import os, sys
numbers, pid, *argv = sys.argv[1:]
sockets = [os.dup(int(number)) for number in numbers.split(",")]
high = [os.dup2(fd, 600 + at, False) for at, fd in enumerate(sockets)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 600)
os.environ |= {"LISTEN_FDS": str(len(high)), "LISTEN_PID": pid or str(os.getpid())}
os.execv(argv[0], argv)
"""
# A server that knows nothing but the protocol. It answers one client on each of its sockets.
SERVER = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
for number in range(3, 3 + int(os.environ["LISTEN_FDS"])):
    listening = socket.socket(fileno=number)
    assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    listening.settimeout(30)
    client, _ = listening.accept()
    client.sendall(b"hello from %d" % number)
    client.close()
"""
LOOK = """
echo $LISTEN_FDS,$LISTEN_PID,$LISTEN_FDNAMES
for f in /proc/self/fd/*; do readlink $f; done
true  # the last one was the listing itself
"""


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """Two sockets that listen, as a service manager makes them."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        yield [one, two]


class Activated:
    """The command line, started as a service manager starts a service."""

    def __init__(self, dirs: Dirs, runtime: str) -> None:
        program = str(Path(sys.executable).with_name("longshore"))
        own = ["--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]
        self._argv = [program, *own]

    def __call__(self, sockets: list[socket.socket], *words: str, pid: str = "", **env: str) -> str:
        numbers = [one.fileno() for one in sockets]
        wrapper = [sys.executable, "-c", ACTIVATE, ",".join(map(str, numbers)), pid]
        done = subprocess.run(
            [*wrapper, *self._argv, *words],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def activated(dirs: Dirs, runtime: str) -> Activated:
    return Activated(dirs, runtime)


def test_a_server_in_a_container_gets_its_sockets(
    activated: Activated, engine: Engine, listening: list[socket.socket]
) -> None:
    python = os.path.realpath(sys.executable)
    on_root = os.stat(python).st_dev == os.stat("/").st_dev
    hostkit.needs("a Python on the root file system", python, on_root)
    server = [python, "-I", "-S", "-c", SERVER]
    activated(listening, "run", "-d", "--name", "box", "--rootfs", "/:O", *server)
    for number, one in enumerate(listening, 3):
        address = one.getsockname()
        one.close()  # whoever answers now is the container
        with socket.create_connection(address, 30) as client:
            client.settimeout(30)
            assert client.recv(100) == b"hello from %d" % number
    box = engine.get("box")
    info = box.wait(30)
    assert info.ok, b"".join(record.data for record in box.logs())
    box.remove(force=True)


def test_what_a_container_finds(
    activated: Activated, listening: list[socket.socket], busybox_rootfs: Path
) -> None:
    run = ["run", "--rm", "--rootfs", str(busybox_rootfs), "sh", "-c", LOOK]
    out = activated(listening, *run, LISTEN_FDNAMES="web:admin").splitlines()
    inodes = [f"socket:[{os.fstat(one.fileno()).st_ino}]" for one in listening]
    assert out[0] == "2,1,web:admin"
    assert out[4:6] == inodes  # 3 and 4, in this order; before them are the streams
    assert not [line for line in out[6:] if line.startswith(("socket", "pipe"))]
    out = activated(listening[1:], *run).splitlines()
    assert out[0] == "1,1,"
    assert [line for line in out if line.startswith("socket")] == inodes[1:]


def test_sockets_of_another_process_stay_there(
    activated: Activated, listening: list[socket.socket], busybox_rootfs: Path
) -> None:
    words = ("run", "--rm", "--rootfs", str(busybox_rootfs), "sh", "-c", LOOK)
    out = activated(listening, *words, pid="1").splitlines()
    assert out[0] == ",,"
    assert not [line for line in out if line.startswith("socket")]


def test_the_sockets_are_conmons_for_as_long_as_it_lives(
    activated: Activated, engine: Engine, listening: list[socket.socket], busybox_rootfs: Path
) -> None:
    rootfs = str(busybox_rootfs)
    activated(listening, "run", "-d", "--name", "box", "--rootfs", rootfs, "sleep", "1000")
    box = engine.get("box")
    address = listening[0].getsockname()
    for one in listening:
        one.close()
    socket.create_connection(address, 30).close()
    box.stop(0)
    box.remove()
    deadline = time.monotonic() + hostkit.PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, 30).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.01)
    else:
        pytest.fail("something still listens")


# --- NOTIFY_SOCKET ------------------------------------------------------------------------------


@pytest.fixture
def manager(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A service manager that has started this process."""
    with Manager(short_tmp / "notify") as one:
        monkeypatch.setenv("NOTIFY_SOCKET", one.address)
        yield one


def has(pid: int | None, variable: str) -> bool:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return any(word.startswith(variable.encode() + b"=") for word in words)


def test_a_start_does_not_wait_for_ready(
    engine: Engine, busybox_rootfs: Path, manager: Manager
) -> None:
    """With NOTIFY_SOCKET, `start` of both runtimes waits for READY=1 or the container's end."""
    before = sorted(busybox_rootfs.rglob("*"))
    box = started(engine, busybox_rootfs, SLEEP, sdnotify="conmon")
    found = box.inspect()
    assert manager.next() == [f"MAINPID={found.monitor_pid}"]
    assert manager.next() == ["READY=1"]
    assert has(found.monitor_pid, "NOTIFY_SOCKET")  # S7: conmon has it
    assert not has(found.pid, "NOTIFY_SOCKET")  # nobody would listen there
    assert sorted(busybox_rootfs.rglob("*")) == before  # and no place was made for it
    box.remove(force=True)
    assert manager.silent


@pytest.mark.parametrize("mode", [None, "ignore"])
def test_a_library_leaves_its_caller_s_socket_alone(
    engine: Engine, busybox_rootfs: Path, manager: Manager, mode: str | None
) -> None:
    """The caller is a service perhaps, and its main process is not the container's conmon."""
    box = started(engine, busybox_rootfs, SLEEP, sdnotify=mode)
    found = box.inspect()
    assert not has(found.monitor_pid, "NOTIFY_SOCKET")
    assert not has(found.pid, "NOTIFY_SOCKET")
    box.remove(force=True)
    assert manager.silent


# A program that says so when it is told to by a file, as somebody without any privilege. It also
# says what would let it choose the process that the manager kills.
SAYS_READY = """
import os, socket, sys, time
with open("/flag") as flag:
    flag.readline()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
    one.sendto(b"MAINPID=1\\nREADY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(1000)
"""


def test_sd_notify_the_program_s_own_word_is_passed_on(
    cli: hostkit.Cli, engine: Engine, short_tmp: Path, manager: Manager
) -> None:
    """The command line's default. READY comes when the program says it, and not before."""
    python = os.path.realpath(sys.executable)
    on_root = os.stat(python).st_dev == os.stat("/").st_dev
    hostkit.needs("a Python on the root file system", python, on_root)
    flag = short_tmp / "flag"
    os.mkfifo(flag)
    flag.chmod(0o644)
    volume = f"{flag}:/flag"
    run = ["run", "-d", "--name", "box", "--user", "65534", "-v", volume, "--rootfs", "/:O"]
    cli(*run, python, "-I", "-S", "-c", SAYS_READY)
    box = engine.get("box")
    found = box.inspect()
    assert manager.next() == [f"MAINPID={found.monitor_pid}"]
    with flag.open("w") as writer:  # it is there, and has said nothing by then
        assert manager.silent
        writer.write("\n")
    assert manager.next() == ["READY=1"]
    assert "NOTIFY_SOCKET=" not in cli("exec", "box", "env").stdout
    box.remove(force=True)


def test_a_start_that_fails_gives_the_main_pid_back(
    engine: Engine, busybox_rootfs: Path, manager: Manager
) -> None:
    """conmon ends then, and with it what the manager took for the service."""
    box = engine.create(command=["/nosuch"], rootfs=busybox_rootfs, sdnotify="conmon")
    with pytest.raises(ProgramNotFound):
        box.start()
    heard = []
    while not manager.silent:
        heard += manager.next()
    # crun finds it out at create, runc may at start
    assert not heard or heard[-1] == f"MAINPID={os.getpid()}"
    assert "READY=1" not in heard
    box.remove()


def test_a_manager_that_is_gone_is_a_warning(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_tmp / "gone"))
    box = started(engine, busybox_rootfs, SLEEP, sdnotify="conmon")
    assert "is not told MAINPID=" in caplog.text
    box.remove(force=True)


def test_an_exec_gets_none_of_it(
    activated: Activated, engine: Engine, listening: list[socket.socket], busybox_rootfs: Path,
    manager: Manager,
) -> None:  # fmt: skip
    rootfs = str(busybox_rootfs)
    activated(listening, "run", "-d", "--name", "box", "--rootfs", rootfs, "sleep", "1000")
    out = activated(listening, "exec", "box", "sh", "-c", f"echo $NOTIFY_SOCKET;{LOOK}")
    lines = out.splitlines()
    assert lines[:2] == ["", ",,"]
    assert not [line for line in lines if line.startswith("socket")]
    assert has(engine.get("box").inspect().pid, "NOTIFY_SOCKET")
    engine.get("box").remove(force=True)


@pytest.mark.root
def test_what_the_runtimes_would_do(
    runtime: str, busybox_rootfs: Path, short_tmp: Path, manager: Manager
) -> None:
    """The reason for all that: it fails when a runtime has learnt better."""
    program = hostkit.which(runtime)
    assert program
    bundle, state = short_tmp / "b", short_tmp / "state"
    bundle.mkdir()
    shutil.move(busybox_rootfs, bundle / "rootfs")
    subprocess.run([program, "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["sleep", "1000"], "terminal": False, "rlimits": []}
    config["root"]["readonly"] = False
    config["linux"]["cgroupsPath"] = "/longshore-notify"
    (bundle / "config.json").write_text(json.dumps(config))

    def call(*words: str, timeout: float = 30) -> None:
        subprocess.run(
            [program, "--root", str(state), *words],
            env={**os.environ, "NOTIFY_SOCKET": manager.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=True,
        )

    try:
        call("create", "--bundle", str(bundle), "x")
        with pytest.raises(subprocess.TimeoutExpired):
            call("start", "x", timeout=1)
    finally:
        call("delete", "--force", "x")
