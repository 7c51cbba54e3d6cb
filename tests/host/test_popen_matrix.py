"""popen_matrix: live processes with subprocess's manners, in every mix."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlife import SLEEP, eventually, started
from longshore import Container, Engine, Process
from longshore.errors import (
    ContainerFailed,
    InvalidArgument,
    OperationTimeout,
    ProgramNotFound,
)
from longshore.models import ExitReason

BOTH = "echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2; exit 3"


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    container = started(engine, busybox_rootfs, SLEEP, name="box")
    yield container
    container.remove(force=True, missing_ok=True)


def lines_of(process: Process[bytes], name: str, how: str) -> bytes:
    """Read one stream to its end, in one of the ways of a file object."""
    stream = getattr(process, name)
    if how == "lines":
        return b"".join(stream)
    if how == "readline":
        return b"".join(iter(stream.readline, b""))
    if how == "chunks":
        return b"".join(iter(lambda: stream.read1(5), b""))
    if how == "exact":
        return b"".join(iter(lambda: stream.read(3), b""))
    return bytes(stream.read())


def test_popen_matrix_of_bytes(box: Container) -> None:
    for how in ("lines", "readline", "chunks", "exact", "all"):
        with box.popen(["sh", "-c", BOTH]) as process:
            assert lines_of(process, "stdout", how) == b"out 1\nout 2\n", how
            assert lines_of(process, "stderr", how) == b"err 1\nerr 2\n", how
            assert process.wait().code == 3
        with box.popen(["sh", "-c", BOTH], stderr="stdout") as process:
            assert process.stderr is None
            # in between stands runc, which may take them in turns
            got = sorted(lines_of(process, "stdout", how).splitlines())
            assert got == [b"err 1", b"err 2", b"out 1", b"out 2"], how
            assert process.wait().code == 3


def test_popen_matrix_of_text(box: Container) -> None:
    script = "printf 'caf\\303\\251\\r\\nnext\\n'; echo err >&2"
    with box.popen(["sh", "-c", script], text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert list(process.stdout) == ["café\n", "next\n"]
        assert process.stderr.read() == "err\n"
    with box.popen(["sh", "-c", script], text=True) as process:
        assert process.communicate() == ("café\nnext\n", "err\n")
    with box.popen(["sh", "-c", script], text=True, encoding="latin-1") as process:
        assert process.communicate()[0] == "caf\u00c3\u00a9\nnext\n"
    bad = ["printf", "\\377"]
    with box.popen(bad, text=True, errors="replace") as process:
        assert process.communicate() == ("\ufffd", "")
    with box.popen(bad, text=True) as process, pytest.raises(UnicodeDecodeError):
        process.communicate()


def test_popen_matrix_of_communicate(box: Container) -> None:
    with box.popen(["sh", "-c", "cat; echo end >&2"], stdin=True) as process:
        assert process.communicate(b"in") == (b"in", b"end\n")
        assert process.returncode == 0
    with box.popen(["cat"], stdin=True, text=True) as process:
        assert process.communicate("ü\n") == ("ü\n", "")
    with box.popen(["sh", "-c", BOTH], stdout=False) as process:
        assert process.communicate() == (None, b"err 1\nerr 2\n")
    with box.popen(["sh", "-c", BOTH], stderr=False) as process:
        assert process.communicate() == (b"out 1\nout 2\n", None)
    with box.popen(["cat"]) as process:
        with pytest.raises(InvalidArgument, match="no stdin"):
            process.communicate(b"in")
        assert process.communicate() == (b"", b"")
    with box.popen(["cat"], stdin=True) as process, pytest.raises(InvalidArgument, match="bytes"):
        process.communicate("text")  # type: ignore[arg-type]


def test_popen_matrix_of_large_streams(box: Container) -> None:
    """All of stdin, stdout and stderr at the same time, more than any pipe holds."""
    data = os.urandom(8 << 20)
    with box.popen(["sh", "-c", "tee /dev/stderr"], stdin=True) as process:
        out, err = process.communicate(data)
    wanted = hashlib.md5(data).digest()
    assert out is not None and err is not None
    assert hashlib.md5(out).digest() == hashlib.md5(err).digest() == wanted


def test_communicate_again_after_a_timeout(box: Container) -> None:
    script = "echo one; until [ -e /go ]; do sleep 0.05; done; echo two; cat"
    with box.popen(["sh", "-c", script], stdin=True) as process:
        with pytest.raises(OperationTimeout, match=r"sh has not ended within 0\.2 s"):
            process.communicate(b"in", timeout=0.2)
        with pytest.raises(InvalidArgument, match="given before"):
            process.communicate(b"again")
        box.exec(["touch", "/go"])
        assert process.communicate() == (b"one\ntwo\nin", b"")
        assert process.communicate() == (b"one\ntwo\nin", b"")


def test_communicate_after_reading(box: Container) -> None:
    with box.popen(["sh", "-c", BOTH]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InvalidArgument, match="read from already"):
            process.communicate()


def test_descriptors_of_the_caller(box: Container, tmp_path: Path, runtime: str) -> None:
    target = tmp_path / "out"
    with (
        target.open("wb") as file,
        (tmp_path / "in").open("w+") as source,
    ):
        source.write("from a file")
        source.flush()
        source.seek(0)
        with box.popen(
            ["sh", "-c", "cat; link=$(readlink /proc/$$/fd/1); echo $link >&2"],
            stdin=source.fileno(),
            stdout=file.fileno(),
        ) as process:
            assert process.stdin is process.stdout is None
            assert process.stderr is not None
            link = process.stderr.read()
            assert process.wait().ok
    assert target.read_text() == "from a file"
    if runtime == "crun":
        assert link.decode().strip().endswith("/out")
    with pytest.raises(InvalidArgument, match="not True, False or a descriptor"):
        box.popen(["true"], stdout="file")  # type: ignore[call-overload]


# --- time --------------------------------------------------------------------------------------


def test_wait_and_poll(box: Container) -> None:
    with box.popen(["sh", "-c", "read go; exit 7"], stdin=True) as process:
        assert process.stdin is not None
        assert process.poll() is None
        assert process.returncode is None and process.exit is None
        with pytest.raises(OperationTimeout, match=r"not ended within 0\.1 s"):
            process.wait(0.1)
        with pytest.raises(TimeoutError):
            process.wait(0)
        process.stdin.write(b"go\n")
        info = process.wait(20)
        assert info.code == process.returncode == 7
        assert process.poll() is process.wait() is process.exit is info
    assert process.args == ("sh", "-c", "read go; exit 7")
    assert repr(process) == "<Process 'sh' code 7>"


def test_timeouts_change_nothing(box: Container) -> None:
    with box.popen(["cat"], stdin=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(3):
            with pytest.raises(OperationTimeout):
                process.wait(0.01)
        process.stdin.write(b"still there\n")
        assert process.stdout.readline() == b"still there\n"


def test_select_tells_the_end(box: Container) -> None:
    with box.popen(["cat"], stdin=True) as process:
        assert process.stdin is not None
        poller = select.poll()
        poller.register(process, select.POLLIN)
        assert poller.poll(0) == []
        process.stdin.close()
        assert poller.poll(20_000)
        info = process.poll()
        assert info is not None and info.ok


def test_many_waiters_of_one_process(box: Container) -> None:
    with box.popen(["sh", "-c", "read go; exit 9"], stdin=True) as process:
        assert process.stdin is not None
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(process.wait(20).code)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        process.stdin.write(b"go\n")
        for thread in threads:
            thread.join()
        assert found == [9] * 8


@pytest.mark.parametrize("code", [0, 3, 137])
def test_popen_matrix_wait_is_for_the_program_alone(box: Container, code: int) -> None:
    """What it has left running holds its streams, and can still be read from them."""
    late = "until [ -e /go ]; do sleep 0.05; done; echo late; echo also >&2"
    end = "kill -9 $$" if code == 137 else f"exit {code}"
    with box.popen(["sh", "-c", f"({late}) & echo early; {end}"], stdin=True) as process:
        assert process.stdout is not None and process.stderr is not None
        info = process.wait(60)
        assert info.code == code
        assert process.poll() is info
        assert process.stdout.readline() == b"early\n"
        box.exec(["touch", "/go"])
        assert process.stdout.read() == b"late\n"
        assert process.stderr.read() == b"also\n"


# --- stdin -------------------------------------------------------------------------------------


def test_stdin_is_a_conversation(box: Container) -> None:
    with box.popen(["cat"], stdin=True, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for word in ("one", "two", "three"):
            assert process.stdin.write(f"{word}\n") == len(word) + 1
            assert process.stdout.readline() == f"{word}\n"
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait().ok
        with pytest.raises(ValueError, match="closed"):
            process.stdin.write("more")


def test_stdin_half_close(box: Container) -> None:
    """Its end is read while its output goes on."""
    with box.popen(["sh", "-c", "wc -c; sleep 0.2; echo after"], stdin=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"12345")
        assert process.stdin.write(b"") == 0
        process.stdin.close()
        assert process.stdout.read() == b"5\nafter\n"


def test_stdin_of_a_finished_process_is_a_broken_pipe_at_once(box: Container) -> None:
    # one that has left a process behind, which holds the other end
    for script in ("exit 0", "sleep 60 <&0 >/dev/null 2>&1 & exit 0"):
        with box.popen(["sh", "-c", script], stdin=True) as process:
            assert process.stdin is not None
            process.wait(20)
            assert process.stdin.write(b"") == 0
            with pytest.raises(BrokenPipeError) as caught:
                process.stdin.write(b"x")
            assert caught.value.errno == errno.EPIPE
    with box.popen(["true"], stdin=True, text=True) as process:
        assert process.stdin is not None
        process.wait(20)
        with pytest.raises(BrokenPipeError):
            process.stdin.write("x")
        process.stdin.close()


def test_stdin_that_was_not_asked_for(box: Container) -> None:
    with box.popen(["wc", "-c"]) as process:
        assert process.stdin is None
        assert process.communicate() == (b"0\n", b"")


def test_a_streaming_copy_of_100_mb(box: Container) -> None:
    size, hashed = 100 << 20, hashlib.md5()
    with box.popen(["sh", "-c", "cat"], stdin=True) as process:
        assert process.stdin is not None and process.stdout is not None
        block = os.urandom(1 << 20)

        def write() -> None:
            assert process.stdin is not None
            for _ in range(100):
                process.stdin.write(block)
            process.stdin.close()

        writer = threading.Thread(target=write)
        writer.start()
        read = 0
        while data := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
            read += len(data)
            hashed.update(data)
        writer.join()
    wanted = hashlib.md5()
    for _ in range(100):
        wanted.update(block)
    assert (read, hashed.digest()) == (size, wanted.digest())


# --- signals -----------------------------------------------------------------------------------


def test_signals(box: Container) -> None:
    script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    with box.popen(["sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal("USR1")
        assert process.stdout.readline() == b"usr1\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"usr1\n"
        process.terminate()
        info = process.wait(20)
        assert (info.code, info.signal, info.reason) == (143, 15, ExitReason.KILLED)
        process.send_signal("TERM")
        process.kill()  # ended is fine
        assert process.wait() is info


def test_a_signal_before_the_program_has_begun(box: Container) -> None:
    for number in (15, 9):
        with box.popen(["sleep", "1000"]) as process:
            process.send_signal(number)
            assert process.wait(20).code == 128 + number


def test_pid(box: Container) -> None:
    with box.popen(["sh", "-c", "echo ready; exec sleep 1000"]) as process:
        assert process.stdout is not None
        process.stdout.readline()
        eventually(lambda: process.pid is not None)
        assert process.pid is not None
        eventually(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"sleep\x001000\0")
        process.kill()
        assert process.pid is None


def test_there_is_no_terminal(box: Container) -> None:
    with box.popen(["sleep", "1000"]) as process:
        with pytest.raises(InvalidArgument, match="no terminal"):
            process.resize(24, 80)
        process.kill()


# --- ways to leave -----------------------------------------------------------------------------


def test_leaving_closes_stdin_and_waits(box: Container) -> None:
    with box.popen(["sh", "-c", "cat >/dev/null; sleep 0.3; touch /done"], stdin=True) as process:
        pass
    assert process.exit is not None and process.exit.ok
    assert box.exec(["test", "-e", "/done"]).exit.ok
    assert process.stdin is not None and process.stdin.closed


def test_leaving_with_output_that_nobody_has_read(box: Container) -> None:
    with box.popen(["sh", "-c", "head -c 3000000 /dev/zero; exit 5"]) as process:
        pass
    assert process.returncode == 5


def test_leaving_says_that_it_could_not_be_run(box: Container) -> None:
    with pytest.raises(ProgramNotFound), box.popen(["nope"]) as process:
        pass
    assert process.exit is not None
    assert (process.exit.reason, process.exit.code) == (ExitReason.START_FAILED, 127)
    assert "nope" in process.exit.message
    with box.popen(["nope"]) as process:
        eventually(lambda: process.poll())
        assert process.returncode == 127
        for _ in range(2):
            with pytest.raises(ProgramNotFound):
                process.wait()


def test_one_that_has_ended_is_forgotten_silently(box: Container) -> None:
    process = box.popen(["true"])
    process.wait(20)
    del process
    gc.collect()
    process = box.popen(["true"])
    select.select([process], [], [])
    del process
    gc.collect()


def test_sigchld_that_others_take(box: Container) -> None:
    """A host that reaps every child: the code is lost, and that is said; nothing hangs."""
    with box.popen(["sh", "-c", "exit 3"]) as process:
        os.waitpid(-1, 0)
        info = process.wait(20)
    assert (info.code, info.reason) == (-1, ExitReason.MONITOR_LOST)
    assert info.message


def test_it_is_as_subprocess_has_it(box: Container) -> None:
    """The names that people know are there."""
    known = {
        "args", "communicate", "kill", "pid", "poll", "returncode", "send_signal", "stderr",
        "stdin", "stdout", "terminate", "wait",
    }  # fmt: skip
    assert known <= set(dir(Process))
    with subprocess.Popen(["true"]) as real:
        assert known <= set(dir(real))


@pytest.mark.parametrize("before", ["wait", "poll"])
@pytest.mark.parametrize("detach", [False, True])
def test_popen_matrix_communicate_after_the_end(box: Container, before: str, detach: bool) -> None:
    with box.popen(["sh", "-c", "echo x; echo y >&2"], detach=detach) as process:
        if before == "wait":
            assert process.wait(30).ok
        else:
            eventually(lambda: process.poll() is not None)
        assert process.communicate() == (b"x\n", b"y\n")
        assert process.communicate() == (b"x\n", b"y\n")


@pytest.mark.parametrize("detach", [False, True])
def test_popen_matrix_terminate_is_for_the_program_alone(box: Container, detach: bool) -> None:
    script = "setsid sleep 4711 >/dev/null 2>&1 & echo x; exec sleep 1000"
    with box.popen(["sh", "-c", script], detach=detach) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        eventually(lambda: any("1000" in p.command and p.pid != 1 for p in box.top()))
        process.terminate()
        out, _ = None, process.stdout.read()
        assert process.poll() is not None or process.wait(30)
        assert process.returncode == 143
        assert out is None
    assert any("4711" in p.command for p in box.top())


def test_popen_matrix_exec_on_a_terminal(box: Container) -> None:
    found = box.exec(["sh", "-c", "test -t 0 && test -t 1 && echo yes"], tty=True)
    assert (found.stdout, found.stderr, found.exit.code) == (b"yes\r\n", b"", 0)
    late = box.exec(["sh", "-c", "echo so far; sleep 1000"], tty=True, timeout=3)
    assert late.exit.reason is ExitReason.TIMEOUT
    assert late.stdout in (b"so far\r\n", b"")  # on a busy host it may not have come so far
    short = box.exec(["echo", "123456"], tty=True, max_output=3)
    assert (short.stdout, short.stdout_dropped) == (b"123", 5)
    with pytest.raises(ContainerFailed) as caught:
        box.exec(["sh", "-c", "echo no; exit 3"], tty=True, check=True)
    assert (caught.value.stdout, caught.value.returncode) == (b"no\r\n", 3)
    assert [p.pid for p in box.top()] == [1]
