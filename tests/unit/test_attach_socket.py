"""conmon's attach socket and winsz fifo, against a peer that speaks the other side."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.errors import MonitorGone
from longshore.linux.steps import slept
from longshore.monitor.attach import OutputSocket, StdinSocket, output_steps, resize


class Peer:
    """The listening side, as conmon has it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        self._listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._listener.listen(10)

    def accept(self) -> socket.socket:
        connection = self._listener.accept()[0]
        connection.settimeout(10)
        return connection

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """One whose path is longer than that of a socket may be."""
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    peer = Peer(directory / "attach")
    yield peer
    peer.close()


# --- input ---------------------------------------------------------------------------------------


def test_input_arrives_in_packets_and_ends(peer: Peer) -> None:
    data = os.urandom(100_000)
    got: list[bytes] = []
    with StdinSocket(peer.path) as stdin, peer.accept() as other:

        def read() -> None:
            while packet := other.recv(1 << 16):
                got.append(packet)

        reader = threading.Thread(target=read)
        reader.start()
        assert stdin.send(b"")  # nothing, and not the end
        assert stdin.send(data)
        assert stdin.end()
        reader.join(10)
        assert not reader.is_alive()
    assert b"".join(got) == data
    assert max(map(len, got)) <= 8192


def test_a_writer_never_has_to_read(peer: Peer) -> None:
    """What the kernel throws away is sent, for the sender: it never waits, and sees no error."""
    with StdinSocket(peer.path) as stdin, peer.accept() as other:
        for _ in range(1000):
            assert other.send(b"\2" + bytes(8192)) == 8193
        assert not select.select([stdin], [], [], 0)[0]
        assert stdin.send(b"still here")
        assert other.recv(100) == b"still here"
        stdin.close()
        assert other.recv(100) == b""  # an end, not a reset


def test_sending_ends_with_the_program(peer: Peer) -> None:
    reader, writer = os.pipe()
    with StdinSocket(peer.path) as stdin, peer.accept():
        assert not stdin.send(bytes(1 << 20), deadline=time.monotonic() + 0.1)
        os.write(writer, b"x")
        assert not stdin.send(b"x", until=[reader])
        assert not stdin.end(until=[reader])
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("unread", [b"", b"unread"])
def test_sending_to_a_conmon_that_has_gone(peer: Peer, unread: bytes) -> None:
    with StdinSocket(peer.path) as stdin:
        other = peer.accept()
        stdin.send(unread)
        other.close()
        assert not stdin.send(b"x")
        assert not stdin.end()


@pytest.mark.parametrize("kind", [StdinSocket, OutputSocket])
def test_nobody_there(peer: Peer, kind: type) -> None:
    before = len(os.listdir("/proc/self/fd"))
    peer.close()
    with pytest.raises(ConnectionRefusedError):
        kind(peer.path)
    with pytest.raises(FileNotFoundError):
        kind(f"{peer.path}.not")
    with pytest.raises(FileNotFoundError):
        kind("/nowhere/attach")
    assert len(os.listdir("/proc/self/fd")) <= before


# --- output --------------------------------------------------------------------------------------


def test_frames(peer: Peer) -> None:
    with OutputSocket(peer.path) as output, peer.accept() as other:
        assert output.read() == []
        for packet in (b"\2out", b"\3err", b"\2" + bytes(8192), b"\7of a later version", b"\3"):
            other.send(packet)
        expected = [
            ("stdout", b"out"),
            ("stderr", b"err"),
            ("stdout", bytes(8192)),
            ("stderr", b""),
        ]
        assert output.read() == expected
        assert not output.over
        other.send(b"\2last")
        other.close()
        assert output.read() == [("stdout", b"last")]
        assert output.over
        assert output.read() == []


def test_a_reset_hides_nothing(peer: Peer) -> None:
    """A peer that closes with something unread makes the first recv fail; more follows."""
    with OutputSocket(peer.path) as output:
        other = peer.accept()
        output._socket.send(b"never read")
        other.send(b"\2one")
        other.send(b"\3two")
        other.close()
        assert output.read() == [("stdout", b"one"), ("stderr", b"two")]
        assert output.over


def test_steps_end_when_all_was_read(peer: Peer) -> None:
    bell, ring = os.pipe()
    with OutputSocket(peer.path) as output, peer.accept() as other:
        other.send(b"\2first")
        ended = False
        steps = slept(output_steps(output, ended=lambda: ended, wake_fds=[bell]))
        assert next(steps) == [("stdout", b"first")]
        ended = True  # conmon does not hang up: its exit command still runs
        other.send(b"\2last")
        os.write(ring, b"x")
        assert list(steps) == [[("stdout", b"last")]]
    os.close(bell)
    os.close(ring)


def test_steps_end_when_conmon_hangs_up(peer: Peer) -> None:
    with OutputSocket(peer.path) as output:
        other = peer.accept()
        timer = threading.Timer(0.05, other.close)
        timer.start()
        assert list(slept(output_steps(output, ended=lambda: False))) == []
        timer.join()


# --- size ----------------------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "winsz"
    os.mkfifo(path)
    return path


def test_resize(fifo: Path) -> None:
    with pytest.raises(MonitorGone, match="does not listen"):
        resize(str(fifo), 1, 1)
    with pytest.raises(MonitorGone, match="does not listen"):
        resize(f"{fifo}.not", 1, 1)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    resize(str(fifo), 24, 80)
    assert os.read(reader, 100) == b"24 80\n"
    resize(str(fifo), 5000, 1)
    assert os.read(reader, 100) == b"1000 1\n"
    os.close(reader)


def test_two_sizes_are_never_read_at_once(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    got: list[bytes] = []

    def read() -> None:
        while b"20 20\n" not in got:
            select.select([reader], [], [])
            time.sleep(0.005)  # a busy conmon
            got.append(os.read(reader, 200))

    slow = threading.Thread(target=read)
    slow.start()
    for number in range(21):
        resize(str(fifo), number, number)
    slow.join(10)
    os.close(reader)
    assert got == [b"%d %d\n" % (n, n) for n in range(21)]


def test_a_conmon_that_hangs(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    resize(str(fifo), 1, 1)
    used = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
    with pytest.raises(MonitorGone, match="hangs"):
        resize(str(fifo), 2, 2)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_utime - used < 0.1
    os.close(reader)
