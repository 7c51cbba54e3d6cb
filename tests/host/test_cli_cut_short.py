"""`longshore run` and `start` that are ended while conmon does not answer: nothing stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostkit import Cli
from hostlife import eventually
from peers import Peer, fake_conmon

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Where conmon hangs: before it has read its start pipe, or after its fork.
STAGES: dict[str, list[tuple[Any, ...]]] = {
    "at once": [("hang",)],
    "forked": [("start",), ("fork",), ("pidfile",), ("hang",)],
    "no pid file": [("start",), ("fork",), ("hang",)],
}


def _begun(
    dirs: tuple[Path, Path], runtime: str, conmon: Peer, *words: str
) -> subprocess.Popen[bytes]:
    """Start a command, and wait until its conmon hangs."""
    program = Path(sys.executable).with_name("longshore")
    own = ["--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]
    command = subprocess.Popen(
        [str(program), *own, "--conmon", conmon.path, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    told = "monitor" if '"fork"' in conmon.script.read_text() else "pid"
    eventually(lambda: any(told in one for one in conmon.journal()), 30)
    return command


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES)
def test_run(
    cli: Cli, dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, short_tmp: Path,
    stage: str, number: signal.Signals,
) -> None:  # fmt: skip
    host = hostkit.Host()
    conmon = fake_conmon(short_tmp, *STAGES[stage])
    words = ["run", "--rm", "--name", "box", "--rootfs", f"{busybox_rootfs}:O", "true"]
    with _begun(dirs, runtime, conmon, *words) as command:
        command.send_signal(number)
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out, err) == (128 + number, b"", b"")
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    assert cli("ps", "-aq").stdout == ""


@pytest.mark.parametrize("flags", [[], ["-d"], ["-i"]], ids=" ".join)
def test_one_that_is_kept(
    cli: Cli, dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, short_tmp: Path,
    flags: list[str],
) -> None:  # fmt: skip
    """Without --rm the container stays, as one that was not started. Several signals are one."""
    host = hostkit.Host()
    conmon = fake_conmon(short_tmp, *STAGES["forked"])
    words = ["run", *flags, "--name", "box", "--rootfs", f"{busybox_rootfs}:O", "echo", "hi"]
    with _begun(dirs, runtime, conmon, *words) as command:
        for _ in range(5):
            command.send_signal(signal.SIGHUP)
            command.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        out, err = command.communicate(timeout=60)
        assert command.returncode in (128 + signal.SIGHUP, 128 + signal.SIGTERM)
        assert (out, err) == (b"", b"")
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    assert cli("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout == "box Created\n"
    assert cli("start", "-a", "box").stdout == "hi\n"
    cli("rm", "box")


def test_start(
    cli: Cli, dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, short_tmp: Path
) -> None:
    cli("create", "--name", "box", "--rootfs", str(busybox_rootfs), "true")
    conmon = fake_conmon(short_tmp, *STAGES["forked"])
    with _begun(dirs, runtime, conmon, "start", "box") as command:
        command.terminate()
        assert command.wait(60) == 143
    assert cli("ps", "-a", "--format", "{{.State}}").stdout == "Created\n"
    cli("rm", "box")


def test_what_a_starter_has_ignored_stays_ignored(
    cli: Cli, dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """nohup."""
    conmon = fake_conmon(short_tmp, *STAGES["forked"])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        words = ["run", "--rm", "--rootfs", str(busybox_rootfs), "true"]
        command = _begun(dirs, runtime, conmon, *words)
    finally:
        signal.signal(signal.SIGHUP, before)
    with command:
        command.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert command.poll() is None
        command.terminate()
        assert command.wait(60) == 143
