"""linux/processes.py: identities that outlive a pid, and what a process does with signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore.linux import processes
from longshore.linux.processes import (
    ProcessId,
    boot_id,
    command_lines,
    identify,
    is_alive,
    open_pidfd,
    program_of,
    send,
    send_group,
    signal_masks,
)
from longshore.linux.procs import poll_until

Child = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def child() -> Iterator[Child]:
    """Start a Python that does something, says so, and waits until it is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = "", **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [
                sys.executable, "-I", "-S", "-c",
                f"import os, signal, time\n{code}\nos.write(1, b'.')\nwhile True: time.sleep(1000)",
            ],
            stdout=subprocess.PIPE,
            **options,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _end(process: subprocess.Popen[bytes], *, reap: bool) -> None:
    fd = os.pidfd_open(process.pid)
    process.kill()
    assert poll_until([fd], time.monotonic() + 10)
    os.close(fd)
    if reap:
        process.wait()


def test_identity_of_this_process() -> None:
    found = identify(os.getpid())
    assert found is not None
    assert found == identify(os.getpid())
    assert found.pid == os.getpid()
    assert is_alive(found)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < found.start / os.sysconf("SC_CLK_TCK") <= uptime


def test_identity_survives_json() -> None:
    found = identify(os.getpid())
    assert found is not None
    assert ProcessId.from_json(found.to_json()) == found


def test_a_pid_that_nobody_has(child: Child) -> None:
    process = child()
    identity = identify(process.pid)
    _end(process, reap=True)
    assert identify(process.pid) is None
    assert not is_alive(identity)
    assert open_pidfd(identity) is None
    assert not send(identity, signal.SIGKILL)
    assert not send_group(identity, signal.SIGKILL)
    assert signal_masks(process.pid) is None


def test_a_zombie_exists_and_is_not_alive(child: Child) -> None:
    process = child()
    identity = identify(process.pid)
    assert is_alive(identity)
    _end(process, reap=False)
    assert identify(process.pid) == identity
    assert not is_alive(identity)
    assert open_pidfd(identity) is None
    assert not send(identity, 0)


def test_nobody() -> None:
    assert not is_alive(None)
    assert open_pidfd(None) is None
    assert not send(None, signal.SIGKILL)
    assert not send_group(None, signal.SIGKILL)


@pytest.mark.parametrize("name", ["a b", ")", ") Z 1 (", "(((", "x\\n) R", "\xe4) Z"])
def test_any_command_name(child: Child, name: str) -> None:
    plain = child()
    named = child(f"open('/proc/self/comm', 'wb').write({name.encode('latin1')!r})")
    identity, other = identify(named.pid), identify(plain.pid)
    assert identity is not None
    assert other is not None
    assert is_alive(identity)
    assert other.start <= identity.start < other.start + 100 * os.sysconf("SC_CLK_TCK")


def test_a_pid_that_belongs_to_another_by_now(child: Child) -> None:
    process = child()
    real = identify(process.pid)
    assert real is not None
    former = real.replace(start=real.start - 1)
    assert not is_alive(former)
    assert open_pidfd(former) is None
    assert not send(former, signal.SIGKILL)
    assert not send_group(former, signal.SIGKILL)
    assert process.poll() is None


def test_no_pidfd_of_a_pid_that_is_reused_between_two_looks(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = child(), child()
    identity = identify(first.pid)
    real_open = os.pidfd_open
    opened: list[int] = []

    def reused(pid: int) -> int:
        """Stand for the moment after the pid went to another process."""
        first.kill()
        first.wait()
        opened.append(real_open(second.pid))
        return opened[-1]

    monkeypatch.setattr(processes.os, "pidfd_open", reused)
    assert open_pidfd(identity) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    assert second.poll() is None


def test_a_pidfd_fires_at_the_end(child: Child) -> None:
    process = child()
    fd = open_pidfd(identify(process.pid))
    assert fd is not None
    assert not os.get_inheritable(fd)
    assert poll_until([fd], time.monotonic()) == []
    process.kill()
    assert poll_until([fd], time.monotonic() + 10) == [fd]
    os.close(fd)


def test_send_reaches_its_process(child: Child) -> None:
    process = child()
    assert send(identify(process.pid), 0)
    assert send(identify(process.pid), signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


def test_send_group_reaches_a_leaders_children(child: Child) -> None:
    leader = child("c = os.fork() or time.sleep(1000)", process_group=0)
    other = child(process_group=leader.pid)
    assert send_group(identify(leader.pid), signal.SIGTERM)
    assert leader.wait() == -signal.SIGTERM
    assert other.wait() == -signal.SIGTERM


def test_send_group_spares_the_group_of_a_process_that_leads_none(child: Child) -> None:
    leader = child(process_group=0)
    member = child(process_group=leader.pid)
    assert not send_group(identify(member.pid), signal.SIGTERM)
    assert (leader.poll(), member.poll()) == (None, None)


def test_a_program_is_told_from_the_next(child: Child) -> None:
    again = "if 'again' not in os.environ: os.write(1, b'.'), os.read(0, 1), "
    again += "os.execve('/proc/self/exe', ['p', '-S', '-c', code], {'again': ''})"
    code = "import os, time; os.write(1, b'!'); time.sleep(1000)"
    process = child(f"code = {code!r}\n{again}", stdin=subprocess.PIPE)
    first = program_of(process.pid)
    assert first
    assert program_of(process.pid) == first
    assert process.stdin and process.stdout
    process.stdin.write(b"x")
    process.stdin.close()
    assert process.stdout.read(1) == b"!"
    second = program_of(process.pid)
    assert second and second != first
    _end(process, reap=False)
    assert program_of(process.pid) is None


def test_signal_masks(child: Child) -> None:
    process = child(
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMAX])"
    )
    masks = signal_masks(process.pid)
    assert masks is not None
    assert signal.SIGTERM in masks.caught
    assert signal.SIGHUP in masks.ignored
    assert masks.blocked == {signal.SIGUSR1, signal.SIGRTMAX}
    assert signal.SIGUSR2 not in masks.caught | masks.blocked | masks.ignored
    assert not masks.is_namespace_init


def test_masks_of_an_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last number of NSpid is the pid in the innermost namespace."""
    text = (
        b"Name:\tinit\nNSpid:\t%s\nSigBlk:\t0000000000000000\n"
        b"SigIgn:\t0000000000001000\nSigCgt:\t8000000000014003\n"
    )
    for pids, expected in ((b"4242\t1", True), (b"1", True), (b"4242\t11", False), (b"12", False)):
        monkeypatch.setattr(
            processes,
            "open",
            lambda path, _, pids=pids: io.BytesIO(text % pids if "status" in path else b"0"),
            raising=False,
        )
        masks = signal_masks(4242)
        assert masks is not None
        assert masks.is_namespace_init is expected
        assert masks.caught == {1, 2, 15, 17, 64}
        assert masks.ignored == {13}
        assert masks.blocked == frozenset()


def test_a_process_in_sigwait_may_receive_what_it_waits_for(child: Child) -> None:
    """The kernel takes what it waits for out of its mask, for as long as it sleeps."""
    process = child(
        "import threading\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "threading.Timer(0, os.write, (1, b'.')).start() or signal.sigwait([signal.SIGTERM])"
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        masks = signal_masks(process.pid)
        assert masks is not None
        if masks.waits and signal.SIGTERM not in masks.blocked:
            break
        time.sleep(0.005)
    assert masks.waits
    assert send(identify(process.pid), signal.SIGTERM)


def test_command_lines(child: Child) -> None:
    process = child("x = 'spaces and\\ttabs'")
    found = dict(command_lines())
    assert found[process.pid][:2] == [sys.executable, "-I"]
    assert "spaces and" in found[process.pid][4]
    assert os.getpid() in found


def test_boot_id_is_read_once() -> None:
    assert len(boot_id()) == 36
    assert boot_id() is boot_id()
