"""What a starter has of its own: activation sockets arrive, NOTIFY_SOCKET is for conmon alone."""

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
from hostlife import started
from longshore import Engine

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
def manager(short_tmp: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(short_tmp / "notify"))
        one.setblocking(False)
        yield one


def test_a_start_does_not_wait_for_ready(
    engine: Engine,
    busybox_rootfs: Path,
    manager: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With NOTIFY_SOCKET, `start` of both runtimes waits for READY=1 or the container's end."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    before = sorted(busybox_rootfs.rglob("*"))
    script = "echo $NOTIFY_SOCKET; exec sleep 1000"
    begun = time.monotonic()
    box = started(engine, busybox_rootfs, script)
    assert time.monotonic() - begun < 30
    found = box.inspect()
    environ = Path(f"/proc/{found.monitor_pid}/environ").read_bytes().split(b"\0")
    assert b"NOTIFY_SOCKET=" + manager.getsockname().encode() in environ  # S7: conmon has it
    own = Path(f"/proc/{found.pid}/environ").read_bytes()
    assert b"NOTIFY_SOCKET" not in own  # nobody would listen there
    assert sorted(busybox_rootfs.rglob("*")) == before  # and no place was made for it
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    box.remove(force=True)


def test_what_the_runtimes_would_do(
    runtime: str, busybox_rootfs: Path, short_tmp: Path, manager: socket.socket
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
            env={**os.environ, "NOTIFY_SOCKET": manager.getsockname()},
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
