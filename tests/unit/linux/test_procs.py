"""linux/procs.py with real programs: whole output, no waiting for grandchildren, nothing leaks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.errors import OperationTimeout, ProgramNotExecutable, ProgramNotFound
from longshore.linux import procs
from longshore.linux.procs import (
    Completed,
    clean_env,
    memory_file,
    poll_until,
    read_memory_file,
    run,
    spawn,
    wait_child,
)

PYTHON = (sys.executable, "-I", "-S", "-c")


def _gone(pid: int) -> bool:
    """Wait until a process that is not ours to reap has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(poll_until([fd], time.monotonic() + 10))
    finally:
        os.close(fd)


# --- output ----------------------------------------------------------------------------------


def test_many_lines_arrive_whole() -> None:
    done = run(["seq", "1", "11000"])
    assert done.returncode == 0
    assert done.stdout == b"".join(b"%d\n" % n for n in range(1, 11001))
    assert done.stderr == b""


def test_much_on_both_streams_arrives_whole() -> None:
    code = (
        "import os\n"
        "for n in range(400):\n"
        "    os.write(1, b'o' * 1024); os.write(2, b'e' * 1024)"
    )  # fmt: skip
    done = run([*PYTHON, code])
    assert (done.stdout, done.stderr) == (b"o" * 409_600, b"e" * 409_600)


def test_any_bytes_arrive_as_they_are() -> None:
    code = "import os; os.write(1, bytes(range(256)) * 300)"
    digest = hashlib.sha256(run([*PYTHON, code]).stdout).digest()
    assert digest == hashlib.sha256(bytes(range(256)) * 300).digest()


def test_a_grandchild_that_keeps_stdout_does_not_hold_us_up() -> None:
    before = time.monotonic()
    done = run(["sh", "-c", "echo first; sleep 1000 & echo $!"])
    took = time.monotonic() - before
    first, pid = done.stdout.split()
    os.kill(int(pid), signal.SIGKILL)
    assert first == b"first"
    assert took < 100  # not a thousand seconds


def test_return_codes_are_those_of_subprocess() -> None:
    assert run(["sh", "-c", "exit 3"]).returncode == 3
    assert run(["sh", "-c", "kill -9 $$"]).returncode == -9


def test_words_are_stderr_without_blanks_around() -> None:
    done = Completed(argv=("x",), returncode=1, stdout=b"", stderr=b" \xff no \n")
    assert done.words == "\ufffd no"


def test_standard_input_is_empty() -> None:
    done = run([*PYTHON, "import os; print(repr(os.read(0, 1)), os.readlink('/proc/self/fd/0'))"])
    assert done.stdout == b"b'' /dev/null\n"


def test_cwd(tmp_path: Path) -> None:
    assert run(["pwd"], cwd=str(tmp_path)).stdout.strip() == os.fsencode(tmp_path)


# --- time ------------------------------------------------------------------------------------


def test_a_timeout_kills_the_whole_group_and_raises(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = f'sleep 1000 & echo "$$ $!" > "{note}.new"; mv "{note}.new" "{note}"; wait'
    with pytest.raises(OperationTimeout, match=r"sh did not end within 0\.5 s and was killed"):
        run(["sh", "-c", script], timeout=0.5)
    assert all(_gone(int(pid)) for pid in note.read_text().split())


def test_a_program_that_ends_in_time_is_not_killed() -> None:
    assert run(["true"], timeout=100).returncode == 0


def test_wait_child_of_one_that_has_ended_and_of_one_that_has_not() -> None:
    process = spawn(["sleep", "1000"], env=clean_env())
    try:
        assert not wait_child(process, time.monotonic())
        process.kill()
        assert wait_child(process, time.monotonic() + 10)
    finally:
        process.kill()
        assert process.wait() == -9


class _Poll:
    """A poll object that counts, and notes what it was asked."""

    def __init__(self) -> None:
        self._real = _real_poll()
        self.asked: list[int | None] = []
        self.register = self._real.register

    def poll(self, timeout: int | None) -> list[tuple[int, int]]:
        self.asked.append(timeout)
        return self._real.poll(0 if timeout is None or timeout > 1000 else timeout)


_real_poll = select.poll


@pytest.fixture
def poller(monkeypatch: pytest.MonkeyPatch) -> _Poll:
    watcher = _Poll()
    monkeypatch.setattr(procs.select, "poll", lambda: watcher)
    return watcher


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def test_poll_never_ends_early_and_never_spins(poller: _Poll, pipe: tuple[int, int]) -> None:
    for wanted in (0.0004, 0.001, 0.0101):
        poller.asked.clear()
        deadline = time.monotonic() + wanted
        assert poll_until([pipe[0]], deadline) == []
        assert time.monotonic() >= deadline
        assert 0 not in poller.asked[:-1], "it has asked without waiting, more than once"
        assert len(poller.asked) <= 3


def test_poll_of_the_past_looks_once(poller: _Poll, pipe: tuple[int, int]) -> None:
    assert poll_until([pipe[0]], time.monotonic() - 1) == []
    assert poller.asked == [0]
    os.write(pipe[1], b"x")
    assert poll_until([pipe[0]], time.monotonic() - 1) == [pipe[0]]


@pytest.mark.parametrize("seconds", [1e7, 1e10, float("inf")])
def test_poll_of_a_far_future(poller: _Poll, pipe: tuple[int, int], seconds: float) -> None:
    os.write(pipe[1], b"x")
    assert poll_until([pipe[0]], time.monotonic() + seconds) == [pipe[0]]
    assert poller.asked[0] is not None
    assert 1000 < poller.asked[0] < 1 << 31


def test_poll_without_a_deadline(poller: _Poll, pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    assert poll_until([pipe[0]], None) == [pipe[0]], "a hang-up counts"
    assert poller.asked == [None]


# --- programs that are not there -------------------------------------------------------------


def test_a_missing_program() -> None:
    with pytest.raises(ProgramNotFound, match="cannot run /no/such: there is no such") as caught:
        run(["/no/such"])
    assert (caught.value.exit_code, caught.value.argv) == (127, ("/no/such",))
    assert "such" in (caught.value.hint or "")


def test_a_file_that_is_not_executable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o644)
    with pytest.raises(ProgramNotExecutable, match="is not executable") as caught:
        run([str(file)])
    assert caught.value.exit_code == 126


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\1\2\3")
    file.chmod(0o755)
    with pytest.raises(ProgramNotExecutable, match="Exec format error"):
        run([str(file)])


def test_a_missing_working_directory_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(["true"], cwd=str(tmp_path / "none"))


def test_a_failed_spawn_leaves_no_descriptor() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ProgramNotFound):
            run(["/no/such"])
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- what a program knows --------------------------------------------------------------------


def test_only_the_list_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "PYTHONPATH", "NOTIFY_SOCKET", "LISTEN_FDS", "_OCI_SYNCPIPE"):
        monkeypatch.setenv(name, "x")
    for name in procs._PASSED_ON:
        monkeypatch.setenv(name, f"value of {name}")
    assert clean_env() == {name: f"value of {name}" for name in procs._PASSED_ON}


def test_there_is_always_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in procs._PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    assert clean_env() == {"PATH": procs._DEFAULT_PATH}
    assert clean_env({"PATH": "/mine", "A": "1"}) == {"PATH": "/mine", "A": "1"}


def test_the_environment_of_a_program_is_the_clean_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    lines = run(["env"]).stdout.decode().splitlines()
    assert sorted(lines) == sorted(f"{k}={v}" for k, v in clean_env().items())
    assert run(["env"], env={"A": "b"}).stdout == b"A=b\n"


_LIST = "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))"


def test_no_descriptor_leaks_into_a_program(tmp_path: Path) -> None:
    kept = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        # the listing itself has one open: the lowest that is free
        assert run([*PYTHON, _LIST]).stdout == b"0 1 2 3\n"
    finally:
        os.close(kept)


def test_passed_descriptors_keep_their_numbers(tmp_path: Path) -> None:
    first = os.open(tmp_path, os.O_RDONLY)
    high = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, 217)
    try:
        found = run([*PYTHON, _LIST], pass_fds=(high,)).stdout
        assert found.split() == [b"0", b"1", b"2", b"3", b"%d" % high]
        assert not os.get_inheritable(high), "only in the child"
    finally:
        os.close(first)
        os.close(high)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"needs a hard limit of 2048 open files; found: {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_descriptors_above_1024(pipe: tuple[int, int]) -> None:
    high = fcntl.fcntl(pipe[0], fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        assert poll_until([high], time.monotonic() + 0.001) == []
        found = run([*PYTHON, _LIST], pass_fds=(high,)).stdout
        assert b"%d" % high in found.split()
        os.write(pipe[1], b"x")
        assert poll_until([high], time.monotonic() + 10) == [high]
    finally:
        os.close(high)


def test_a_program_has_its_own_group_only_if_asked() -> None:
    code = "import os; print(os.getpgrp() == os.getpid())"
    assert run([*PYTHON, code]).stdout == b"True\n"
    process = spawn(
        [*PYTHON, "import os; raise SystemExit(os.getpgrp() == os.getpid())"], env=clean_env()
    )
    assert process.wait() == 0


def test_spawn_is_silent_by_default() -> None:
    code = (
        "import os; open_ = {os.readlink(f'/proc/self/fd/{n}') for n in range(3)};"
        "raise SystemExit(open_ != {'/dev/null'})"
    )
    assert spawn([*PYTHON, code], env=clean_env()).wait() == 0


# --- memory files ----------------------------------------------------------------------------


def test_memory_files() -> None:
    fd = memory_file("x", b"data")
    try:
        assert not os.get_inheritable(fd)
        assert os.read(fd, 2) == b"da"
        assert read_memory_file(fd) == b"data"
        subprocess.run(["sh", "-c", "echo more >&2"], stderr=fd, check=True)
        assert read_memory_file(fd) == b"damore\n"
    finally:
        os.close(fd)
    empty = memory_file("y")
    assert read_memory_file(empty) == b""
    os.close(empty)
