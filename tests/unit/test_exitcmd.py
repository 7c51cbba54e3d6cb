"""engine/exitcmd.py: the shell waits for a lease, Python starts only if something is left to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longshore
from longshore.engine import exitcmd, finishing
from longshore.engine.exitcmd import command, main
from longshore.errors import NoSuchContainer, StoreError
from longshore.linux.locks import Lease

ID = "ab" * 32
PACKAGE = str(Path(longshore.__file__).parent.parent)


def test_the_command_line() -> None:
    assert command(
        python="/py", import_path=PACKAGE, root="/root dir", run_root="/run",
        run_dir="/run/containers/x", container_id=ID,
    ) == (
        "/bin/sh", "-c", exitcmd._SCRIPT.format(patience=30), "longshore-exit",
        "/run/containers/x", "/py", PACKAGE, "/root dir", "/run", ID,
    )  # fmt: skip


class Shell:
    """The exit command with a Python that only notes that it was started, and with what."""

    def __init__(self, top: Path) -> None:
        self.run_dir = top / "run dir'\"$(touch x)"
        self.run_dir.mkdir()
        self.pidfile = self.run_dir / "pidfile"
        self.pidfile.touch()
        self.note = top / "note"
        python = top / "my python"
        python.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word"; done > "{self.note}"\n')
        python.chmod(0o755)
        self.argv = command(
            python=str(python), import_path=PACKAGE, root="-root", run_root="/run; false",
            run_dir=str(self.run_dir), container_id=ID,
        )  # fmt: skip

    def start(self, path: str | None = None) -> subprocess.Popen[bytes]:
        env = {"PATH": path if path is not None else os.defpath}
        return subprocess.Popen(self.argv, env=env, stderr=subprocess.PIPE)

    @property
    def said(self) -> list[str]:
        return self.note.read_text().splitlines() if self.note.exists() else []


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path)


def _end(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_python_is_started_isolated_and_told_everything(shell: Shell, tmp_path: Path) -> None:
    assert _end(shell.start()) == 0
    assert shell.said[:3] == ["-I", "-S", "-c"]
    assert shell.said[4:] == [PACKAGE, "-root", "/run; false", ID]
    assert "from longshore.engine.exitcmd import main" in shell.said[3]
    assert not (tmp_path / "x").exists(), "nothing in a path is a command"


def test_python_is_not_started_when_all_is_done(shell: Shell) -> None:
    shell.pidfile.unlink()
    assert _end(shell.start()) == 0
    assert shell.said == []


def test_nothing_is_done_for_a_container_that_is_gone(shell: Shell) -> None:
    shell.pidfile.unlink()
    shell.run_dir.rmdir()
    _end(shell.start())
    assert shell.said == []


@pytest.fixture
def lease(shell: Shell) -> Iterator[Lease]:
    held = Lease(str(shell.run_dir))
    yield held
    held.release()


def test_a_lease_is_waited_for_and_its_holder_may_do_the_work(shell: Shell, lease: Lease) -> None:
    process = shell.start()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    shell.pidfile.unlink()
    lease.release()
    assert _end(process) == 0
    assert shell.said == []


def test_a_holder_that_lets_go_leaves_the_work_to_it(shell: Shell, lease: Lease) -> None:
    process = shell.start()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert shell.said == []
    lease.release()
    assert _end(process) == 0
    assert shell.said[-1] == ID


_HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from longshore.linux.locks import Lease
lease = Lease(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_holder_that_is_killed_breaks_its_promise_safely(shell: Shell) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HOLD, PACKAGE, str(shell.run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    process = shell.start()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert _end(process) == 0
    assert shell.said[-1] == ID


def test_a_holder_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exitcmd, "_PATIENCE", 1)
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    held = Lease(str(shell.run_dir))
    assert _end(shell.start()) == 0
    assert shell.said[-1] == ID
    held.release()


def test_a_host_without_flock(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    held = Lease(str(shell.run_dir))
    assert _end(shell.start(str(tmp_path / "empty"))) == 0
    assert shell.said[-1] == ID
    held.release()


def test_main_does_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def after_exit(machinery: object, container_id: str) -> None:
        settings = machinery.settings  # type: ignore[attr-defined]
        asked.append((settings.root, settings.run_root, container_id))

    monkeypatch.setattr(finishing, "after_exit", after_exit)
    main(["/root", "/run", ID])
    assert asked == [("/root", "/run", ID)]


def test_main_of_a_container_that_was_removed(tmp_path: Path) -> None:
    main([str(tmp_path / "root"), str(tmp_path / "run"), ID])


def test_main_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def after_exit(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(finishing, "after_exit", after_exit)
    with pytest.raises(SystemExit, match="the disk is full"):
        main(["/root", "/run", ID])
    assert not issubclass(StoreError, NoSuchContainer)


# --- what it costs ---------------------------------------------------------------------------

_MODULES = """
import sys
bare = set(sys.modules)
sys.path.insert(0, sys.argv[1])
from longshore.engine.exitcmd import main
main(sys.argv[2:])
print(*sorted(set(sys.modules) - bare), sep="\\n")
"""
BUDGET = 79  # modules beyond a bare interpreter's; 76 with Python 3.11
# None of these is needed to clean up, and each costs a millisecond or more.
UNNEEDED = {
    "argparse", "asyncio", "copy", "ctypes", "dataclasses", "datetime", "inspect", "logging",
    "pathlib", "random", "shutil", "socket", "tempfile", "tomllib", "traceback", "typing",
    "longshore.aio", "longshore.cli", "longshore.engine.container", "longshore.engine.context",
    "longshore.engine.engine", "longshore.engine.host", "longshore.engine.starting",
    "longshore.engine.stopping", "longshore.monitor.attach", "longshore.monitor.launch",
    "longshore.monitor.logs", "longshore.oci", "longshore.options.check",
    "longshore.options.parse",
}  # fmt: skip


def _loaded(tmp_path: Path) -> set[str]:
    done = subprocess.run(
        [
            sys.executable, "-I", "-S", "-c", _MODULES, PACKAGE,
            str(tmp_path / "root"), str(tmp_path / "run"), ID,
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_exit_command_loads_little(tmp_path: Path) -> None:
    found = _loaded(tmp_path)
    assert not found & UNNEEDED
    assert len(found) <= BUDGET, sorted(found)
    assert "longshore.engine.finishing" in found, "or this test looks at nothing"
