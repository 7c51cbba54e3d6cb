"""The handshake with the conmon of an exec session: a scripted one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.errors import MonitorGone, OperationTimeout
from longshore.monitor.launch import CreationRefused
from longshore.monitor.session import SessionHandshake, SessionLaunch
from peers import Peer, fake_conmon

BEGIN = (("start",), ("fork",), ("pidfile",))


@pytest.fixture
def launch(tmp_path: Path) -> SessionLaunch:
    (tmp_path / "run").mkdir()
    return SessionLaunch(
        container_id="c0ffee",
        session_id="5e5510",
        name="box",
        runtime="/bin/false",
        runtime_args=(),
        process=f"{tmp_path}/run/process.json",
        bundle=f"{tmp_path}/run",
        pidfile=f"{tmp_path}/run/pidfile",
        conmon_pidfile=f"{tmp_path}/run/conmon.pid",
        log=f"k8s-file:{tmp_path}/exec.log",
        exit_dir=str(tmp_path),
    )


def shake(peer: Peer, launch: SessionLaunch, timeout: float = 30.0, **more: int) -> int:
    with SessionHandshake(peer.path, launch, **more) as handshake:
        handshake.release()
        return handshake.container_pid(timeout)


@pytest.mark.parametrize(
    "sends", [['{"data": 42}\n'], ['{"data": 42}\n{"data": 0}\n'], ['{"data"', ": 42}\n"]]
)
def test_the_first_line_is_the_pid(tmp_path: Path, launch: SessionLaunch, sends: list[str]) -> None:
    """The second is the exit code; of a short program both come at once."""
    peer = fake_conmon(tmp_path, *BEGIN, *(("send", text) for text in sends))
    assert shake(peer, launch) == 42
    seen = peer.journal()[0]
    assert seen["argv"] == launch.argv(peer.path)[1:]
    assert seen["cwd"] == launch.bundle


@pytest.mark.parametrize("number", [-1, -126])
def test_a_refusal_has_the_runtimes_words(
    tmp_path: Path, launch: SessionLaunch, number: int
) -> None:
    text = f'{{"data": {number}, "message": "no such file\\n"}}\n'
    with pytest.raises(CreationRefused, match=r"^no such file$"):
        shake(fake_conmon(tmp_path, *BEGIN, ("send", text)), launch)


def test_an_end_without_a_word(tmp_path: Path, launch: SessionLaunch) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("exit", 1))
    with pytest.raises(MonitorGone, match="cannot run a process in container box: "):
        shake(peer, launch)


def test_no_word_in_time(tmp_path: Path, launch: SessionLaunch) -> None:
    peer = fake_conmon(tmp_path, ("hang",))
    with pytest.raises(OperationTimeout, match=r"container box: it was not started within 0\.3 s"):
        shake(peer, launch, 0.3)


def test_preserved_descriptors_keep_their_numbers(tmp_path: Path, launch: SessionLaunch) -> None:
    peer = fake_conmon(tmp_path, *BEGIN, ("send", '{"data": 42}\n'))
    try:
        before = os.dup(3)
    except OSError:
        before = -1
    reader, writer = os.pipe()
    try:
        if reader != 3:
            os.dup2(reader, 3)
        assert shake(peer, launch, preserved=1) == 42
        inode = os.fstat(reader).st_ino
        assert peer.journal()[0]["fds"]["3"] == f"pipe:[{inode}]"
    finally:
        if before >= 0:
            os.dup2(before, 3)
        for fd in {3, reader} if before < 0 else {before, reader}:
            os.close(fd)
        os.close(writer)
