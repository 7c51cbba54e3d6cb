"""Waiting for what a container is, and not only for its end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import SLEEP, make
from longshore import Engine, InvalidArgument, NoSuchContainer, OperationTimeout, Status


def later(seconds: float, what: object) -> threading.Timer:
    timer = threading.Timer(seconds, what)  # type: ignore[arg-type]
    timer.start()
    return timer


def test_each_status_as_it_comes(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    assert box.wait_status(Status.CREATED, timeout=0) is Status.CREATED
    for act, status in (
        (box.start, Status.RUNNING),
        (box.pause, Status.PAUSED),
        (box.unpause, Status.RUNNING),
        (lambda: box.kill("KILL"), Status.EXITED),
    ):
        timer = later(0.05, act)
        # between the end and the clean-up it is STOPPED, and one or the other may be seen
        wanted = (status, Status.STOPPED) if status is Status.EXITED else (status,)
        assert box.wait_status(*wanted, timeout=30) in wanted
        timer.join()


def test_its_limits(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    with pytest.raises(OperationTimeout, match="is created, and was not running or paused"):
        box.wait_status(Status.RUNNING, Status.PAUSED, timeout=0.05)
    with pytest.raises(InvalidArgument):
        box.wait_status()
    timer = later(0.05, box.remove)
    with pytest.raises(NoSuchContainer):
        box.wait_status(Status.RUNNING, timeout=30)
    timer.join()
    with pytest.raises(NoSuchContainer):
        box.wait_status(Status.RUNNING, timeout=30)


def test_the_command(cli: Cli, busybox_rootfs: Path) -> None:
    cli("create", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    timer = later(0.2, lambda: cli("start", "box"))
    assert cli("wait", "--condition", "running", "box").stdout == "-1\n"
    timer.join()
    assert "next_exit" in cli("wait", "--condition", "healthy", "box", code=125).stderr
    cli("rm", "-f", "-t", "0", "box")
