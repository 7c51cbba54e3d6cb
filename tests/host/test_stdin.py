"""stdin: input arrives, exactly and to its end; nobody who only watches touches it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import make, printed, ready, started
from longshore import Engine, InvalidArgument, OperationTimeout

MIB = 1 << 20
COUNTS = "cat | sha256sum | cut -d' ' -f1"
LOGS = pytest.mark.parametrize("log", ["k8s-file", "none"])


@pytest.fixture
def longshore(dirs: tuple[Path, Path], runtime: str) -> list[str]:
    """The command, in the directories of the test."""
    program = str(Path(sys.executable).with_name("longshore"))
    return [program, "--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]


def through(argv: list[str], size: int) -> tuple[str, str, int]:
    """Pump bytes through a command; return both hashes, and its greatest memory in bytes."""
    block = os.urandom(MIB)
    sent, got = hashlib.sha256(), hashlib.sha256()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def write() -> None:
        for number in range(size // MIB):
            data = number.to_bytes(8, "big") + block[8:]
            sent.update(data)
            stdin.write(data)
        stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    memory = 0
    while data := stdout.read(MIB):
        got.update(data)
        memory = _peak_memory(process.pid) or memory  # of the one that was executed, not forked
    writer.join()
    stdout.close()
    assert process.wait(20) == 0
    return sent.hexdigest(), got.hexdigest(), memory


def _peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie


@LOGS
def test_100_mb_through_cat(longshore: list[str], busybox_rootfs: Path, log: str) -> None:
    words = ["run", "--rm", "-i", "--log-driver", log, "--rootfs", str(busybox_rootfs), "cat"]
    sent, got, memory = through([*longshore, *words], 100 * MIB)
    assert got == sent
    assert memory < 80 * MIB


@pytest.mark.soak
@pytest.mark.timeout(600)
@LOGS
def test_1_gb_through_cat(longshore: list[str], busybox_rootfs: Path, log: str) -> None:
    words = ["run", "--rm", "-i", "--log-driver", log, "--rootfs", str(busybox_rootfs), "cat"]
    sent, got, memory = through([*longshore, *words], 1024 * MIB)
    assert got == sent
    assert memory < 80 * MIB


def test_written_and_read_in_one_process(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "cat", interactive=True)
    data = os.urandom(30 * MIB)
    with box.attach(start=True, stdin=True) as attached:

        def write() -> None:
            attached.write(data)
            attached.close_stdin()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            assert b"".join(d for _, d in attached) == data
            writing.result()
    assert box.wait(10).ok


def test_written_without_reading(engine: Engine, busybox_rootfs: Path) -> None:
    """One thread that only writes is not held up by output, of however much there is."""
    for options in ({}, {"log_driver": "none"}):
        box = make(engine, busybox_rootfs, "cat", interactive=True, **options)
        with box.attach(start=True, stdin=True, buffer=1000) as attached:
            attached.write(bytes(5 * MIB))
            attached.close_stdin()
            assert box.wait(20).ok
        box.remove()


def test_the_end_of_input_is_never_lost(engine: Engine, busybox_rootfs: Path) -> None:
    """conmon loses it when it cannot write to whoever sends it."""

    def echoed(number: int) -> bool:
        data = os.urandom(300_000) + b"%d" % number
        command = ["cat"]
        result = engine.run(command=command, rootfs=busybox_rootfs, input=data, timeout=30)
        return result.stdout == data and result.exit.ok

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(echoed, range(24)))


def test_half_close(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, f"{COUNTS}; sleep 0.3; echo later", interactive=True)
    with box.attach(start=True, stdin=True) as attached:
        attached.write(b"some data")
        attached.close_stdin()
        attached.close_stdin()
        with pytest.raises(ValueError, match="closed"):
            attached.write(b"more")
        out = b"".join(d for _, d in attached)
    assert out == hashlib.sha256(b"some data").hexdigest().encode() + b"\nlater\n"
    assert box.wait(10).ok


def test_nothing_is_nothing(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "cat; echo over", interactive=True)
    with box.attach(start=True, stdin=True) as attached:
        attached.write(b"")
        attached.write(b"one\n")
        assert next(attached) == ("stdout", b"one\n")
        attached.write(b"")
        time.sleep(0.2)
        assert printed(box) == b"one\n"
        attached.write(b"two\n")
        assert next(attached) == ("stdout", b"two\n")
    assert box.wait(10).ok  # leaving is the end of input, without a terminal


def test_an_observer_never_touches_it(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "echo ready; cat; echo over", interactive=True)
    with box.attach(start=True, stdin=True) as writer:
        ready(box)
        for _ in range(3):
            with box.attach() as observer:
                with pytest.raises(BrokenPipeError, match="not attached to"):
                    observer.write(b"x")
                observer.close_stdin()
                writer.write(b"line\n")
                assert next(observer) == ("stdout", b"line\n")
        time.sleep(0.2)
        assert b"over" not in printed(box)
        assert box.status.value == "running"
    assert box.wait(10).ok


def test_writing_to_what_has_ended(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "head -c 1", interactive=True)
    with box.attach(start=True, stdin=True) as attached:
        attached.write(b"x")
        box.wait(10)
        began = time.monotonic()
        with pytest.raises(BrokenPipeError, match="has ended"):
            attached.write(bytes(MIB))
        assert time.monotonic() - began < 1
        attached.close_stdin()


def test_an_end_reaches_who_is_writing(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "sleep 0.5", interactive=True)
    with box.attach(start=True, stdin=True) as attached, pytest.raises(BrokenPipeError):
        attached.write(bytes(5 * MIB))
    assert box.wait(10).ok


def test_closing_reaches_who_is_writing(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "exec sleep 1000", interactive=True)
    attached = box.attach(start=True, stdin=True)
    timer = threading.Timer(0.3, attached.close)
    timer.start()
    with pytest.raises(BrokenPipeError):
        attached.write(bytes(5 * MIB))
    timer.join()
    box.remove(force=True)


def test_a_container_that_does_not_read_in_time(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "exec sleep 1000", interactive=True)
    with box.attach(start=True, stdin=True) as attached:
        began = time.monotonic()
        with pytest.raises(OperationTimeout):
            attached.write(bytes(5 * MIB), timeout=0.3)
        assert 0.2 < time.monotonic() - began < 5
        box.remove(force=True)


def test_what_nobody_passes_on(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "sleep 1000")
    with pytest.raises(InvalidArgument, match="no standard input"):
        box.attach(stdin=True)
    box.remove(force=True)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run_cat(busybox_rootfs: Path) -> list[str]:
    return ["run", "--rm", "-i", "--rootfs", str(busybox_rootfs), "cat"]


def test_a_pipe(cli: Cli, run_cat: list[str]) -> None:
    assert cli(*run_cat, input="from a pipe\x10\x11").stdout == "from a pipe\x10\x11"


def test_a_file(cli: Cli, run_cat: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("from a file")
    with file.open() as source:
        assert cli(*run_cat, stdin=source).stdout == "from a file"


def test_the_null_device(cli: Cli, run_cat: list[str]) -> None:
    assert cli(*run_cat).stdout == ""


def test_closed(longshore: list[str], run_cat: list[str]) -> None:
    argv = ["sh", "-c", '"$@" <&-', "sh", *longshore, *run_cat]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_pipe_that_stays_open(longshore: list[str], busybox_rootfs: Path) -> None:
    """The end of the container is the end of the command, whatever may still come."""
    words = ["run", "--rm", "-i", "--rootfs", str(busybox_rootfs), "head", "-n", "1"]
    with subprocess.Popen(
        [*longshore, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\ntwo\n")
        process.stdin.flush()
        assert process.wait(20) == 0
        assert process.stdout.read() == b"one\n"


def test_a_writer_that_is_stopped_harms_nobody(
    longshore: list[str], engine: Engine, busybox_rootfs: Path
) -> None:
    """conmon would wait for a client that does not read; one that writes input need not."""
    script = "echo ready; sleep 0.5; seq 1 200000; echo over"
    words = ["run", "-i", "--name", "box", "--rootfs", str(busybox_rootfs), "sh", "-c", script]
    with subprocess.Popen(
        [*longshore, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGSTOP)
        box = engine.get("box")
        assert box.wait(20).ok
        assert printed(box).endswith(b"200000\nover\n")
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read().endswith(b"200000\nover\n")
        assert process.wait(20) == 0
    box.remove()
