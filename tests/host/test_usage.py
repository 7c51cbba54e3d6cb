"""usage_after_exit: what a run used in all; what this host cannot measure is None, never 0."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from longshore import Engine

BURN = """
import time
block = bytearray(50_000_000)
block[::4096] = b"x" * len(block[::4096])
while time.process_time() < 0.3:
    pass
"""


def test_after_exit(engine: Engine, layout: str) -> None:
    python = str(Path(sys.executable).resolve())
    info = engine.run(command=[python, "-I", "-S", "-c", BURN], rootfs="/", overlay=True).exit
    assert info.ok
    usage = info.usage
    assert usage.cpu_user is not None and usage.cpu_system is not None
    assert 0.25 <= usage.cpu_user + usage.cpu_system <= 2
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if layout == "v1" or "memory" in controllers.read_text().split():
        assert usage.memory_peak is not None
        assert 50_000_000 <= usage.memory_peak <= 200_000_000
    else:
        assert usage.memory_peak is None
    if layout == "v1" or "pids" in controllers.read_text().split():
        assert usage.pids_peak is None or 1 <= usage.pids_peak <= 30
    else:
        assert usage.pids_peak is None


@pytest.mark.parametrize("detach", [False, True])
def test_of_an_exec_within_five_percent(engine: Engine, detach: bool) -> None:
    """What a program says that it has used, its child too, is what is written down."""
    python = str(Path(sys.executable).resolve())
    script = """
import os, time
if os.fork() == 0:
    while time.process_time() < 1:
        pass
    os._exit(0)
while time.process_time() < 2:
    pass
child = os.wait4(-1, 0)[2]
print(time.process_time() + child.ru_utime + child.ru_stime, flush=True)
"""
    box = engine.create(command=["sleep", "1000"], rootfs="/", overlay=True)
    box.start()
    with box.popen([python, "-I", "-S", "-c", script], detach=detach) as process:
        out, _ = process.communicate()
        info = process.wait()
    box.remove(force=True)
    assert out is not None and info.usage.cpu_user is not None
    assert info.usage.cpu_system is not None
    truth = float(out)
    assert truth > 2.5
    used = info.usage.cpu_user + info.usage.cpu_system
    # the start of the program is the runtime's own, and counted too
    assert truth * 0.95 <= used <= truth * 1.05 + 0.1


def test_of_the_shortest(engine: Engine, busybox_rootfs: Path) -> None:
    usage = engine.run(command=["true"], rootfs=busybox_rootfs).exit.usage
    assert usage.cpu_user is not None and usage.cpu_system is not None
    assert usage.cpu_user + usage.cpu_system < 1


def test_each_run_has_its_own(engine: Engine, busybox_rootfs: Path) -> None:
    burn = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done"
    script = f"[ -e /again ] && exit; >/again; {burn}"
    box = engine.create(command=["sh", "-c", script], rootfs=busybox_rootfs)
    for _ in range(2):
        box.start()
        box.wait(60)
    first, second = (info.usage for info in box.inspect().exits)
    assert first.cpu_user is not None and second.cpu_user is not None
    assert first.cpu_system is not None and second.cpu_system is not None
    assert second.cpu_user + second.cpu_system < first.cpu_user + first.cpu_system
