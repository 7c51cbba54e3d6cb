"""The datagrams to a service manager: what it hears, and when the sender may go."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from longshore.linux.notify import tell
from managers import Manager


@pytest.mark.parametrize("name", ["", "@longshore-test"])
def test_lines_are_one_datagram(tmp_path: Path, name: str) -> None:
    address = f"{name}{tmp_path.name}" if name else str(tmp_path / "n")
    with Manager(address) as manager:
        tell(address, "MAINPID=5", "READY=1")
        assert manager.next() == ["MAINPID=5", "READY=1"]
        tell(address, "STATUS=x")
        assert manager.next() == ["STATUS=x"]


def test_it_waits_until_it_has_been_read(tmp_path: Path) -> None:
    address = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        thread = threading.Thread(target=tell, args=(address, "READY=1"))
        thread.start()
        assert manager.recv(100) == b"READY=1"
        assert thread.is_alive()
        assert manager.recv(100) == b"BARRIER=1"  # without taking the descriptor: it is closed
        thread.join(30)
        assert not thread.is_alive()


def test_a_manager_that_never_reads_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longshore.linux.notify._PATIENCE", 0.01)
    address = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        tell(address, "READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        tell(str(tmp_path / "none"), "READY=1")
