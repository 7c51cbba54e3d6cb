"""Children with descriptors of chosen numbers, their codes, and what is known of any process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from longshore.errors import ProgramNotFound
from longshore.linux.cgroups import _split
from longshore.linux.processes import ProcessId, identify, is_ending, parent_of
from longshore.linux.procs import DEVNULL, clean_env, poll_until, reap, spawn, spawn_numbered


def ended(pid: int) -> int | None:
    pidfd = os.pidfd_open(pid)
    try:
        assert poll_until([pidfd], time.monotonic() + 20)
        return reap(pidfd)
    finally:
        os.close(pidfd)


def run_numbered(script: str, fds: list[int], **ends: int) -> tuple[int | None, bytes]:
    reader, writer = os.pipe()
    try:
        pid = spawn_numbered(
            ["/bin/sh", "-c", script],
            env=clean_env(),
            **{"stdin": DEVNULL, "stdout": writer, "stderr": writer, **ends},  # type: ignore[arg-type]
            fds=fds,
        )
        os.close(writer)
        writer = -1
        with open(reader, "rb", closefd=False) as file:
            output = file.read()
        return ended(pid), output
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)


def test_descriptors_get_the_numbers_of_their_order() -> None:
    pipes = [os.pipe() for _ in range(3)]
    try:
        code, output = run_numbered(
            "echo three >&3; echo four >&4; echo five >&5; exit 7",
            [pipes[2][1], pipes[0][1], pipes[1][1]],
        )
        assert (code, output) == (7, b"")
        assert [os.read(pipes[n][0], 10) for n in (2, 0, 1)] == [b"three\n", b"four\n", b"five\n"]
    finally:
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])


def test_the_same_descriptor_twice_and_low_ones() -> None:
    """Whatever numbers they have here, none is overwritten before it is copied."""
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from longshore.linux.procs import clean_env, spawn_numbered
r3, w4 = os.pipe(); r5, w6 = os.pipe()
assert (r3, w4, r5, w6) == (3, 4, 5, 6)
pid = spawn_numbered(["/bin/sh", "-c", "echo a >&3; echo b >&4; echo c >&5"], env=clean_env(),
                     stdin=r3, stdout=1, stderr=2, fds=[w6, w4, w6])
os.waitpid(pid, 0)
print(os.read(r3, 9), os.read(r5, 9))
"""
    source = os.path.dirname(os.path.dirname(sys.modules["longshore"].__file__ or ""))
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "b'b\\n' b'a\\nc\\n'\n"


def test_a_session_of_its_own() -> None:
    code, output = run_numbered("cut -d' ' -f1,6 /proc/$$/stat; exit 0", [])
    pid, session = output.split()
    assert (code, pid) == (0, session)
    child = spawn(["sleep", "60"], env=clean_env(), new_session=True)
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        child.kill()
        child.wait()


def test_what_cannot_be_spawned() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ProgramNotFound):
        spawn_numbered(["/no/such"], env={}, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, fds=[1])
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_reap() -> None:
    for script, code in (("exit 0", 0), ("exit 200", 200), ("kill -9 $$", -9)):
        child = spawn(["sh", "-c", script], env=clean_env())
        assert ended(child.pid) == code
        child.returncode = code
    child = spawn(["true"], env=clean_env())
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    assert reap(pidfd) is None
    os.close(pidfd)


def test_parents() -> None:
    assert parent_of(os.getpid()) == os.getppid()
    child = spawn(["sleep", "60"], env=clean_env())
    own = identify(child.pid)
    assert own is not None
    assert parent_of(child.pid) == os.getpid()
    assert not is_ending(own)
    assert is_ending(own.replace(start=own.start + 1))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert parent_of(child.pid) == 0  # a zombie
    assert is_ending(own)
    child.wait()
    assert parent_of(child.pid) == 0
    assert is_ending(own) and is_ending(None) and is_ending(ProcessId(pid=child.pid, start=1))


@pytest.mark.parametrize(
    ("total", "user", "system", "answer"),
    [
        (None, None, None, (None, None)),
        (None, 4, 8, (4, 8)),
        (100, 0, 0, (100, 0)),  # as the kernel does it
        (100, 4, 4, (50, 50)),
        (100, 300, 100, (75, 25)),
        (0, 4, 0, (0, 0)),
    ],
)
def test_times_add_up(
    total: int | None, user: int | None, system: int | None, answer: tuple[int | None, int | None]
) -> None:
    assert _split(total, user, system) == answer
