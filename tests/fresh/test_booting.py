"""scripts/testbed: the exit code comes back, and nothing is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hostkit
from hostkit import ROOT, needs, which

TESTBED = [sys.executable, str(ROOT / "scripts/testbed")]
PATIENCE = 10.0


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    needs("mmdebstrap and systemd-nspawn", which("mmdebstrap") and which("systemd-nspawn"))
    needs("root", os.geteuid(), os.geteuid() == 0)
    subprocess.run([*TESTBED, "build"], check=True)


def apart(own: Path) -> list[str]:
    """Return the script with a /var/tmp of its own: others may boot at the same time."""
    script = 'mount --bind "$0" /var/tmp && exec "$@"'
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    return [*unshare, "sh", "-c", script, str(own), *TESTBED]


def run(*argv: str, testbed: list[str] = TESTBED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*testbed, *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -TERM $$", 143)])
def test_what_comes_back_and_what_does_not(script: str, code: int, tmp_path: Path) -> None:
    before = hostkit.Host()
    made = "touch /made /etc/made /root/made made /dev/made"
    words = f"{made}; seq 200000; echo err >&2; {script}"
    done = run("run", "sh", "-c", words, testbed=apart(tmp_path))
    expected = "".join(f"{n}\n" for n in range(1, 200001)) + "err\n"
    assert (done.returncode, done.stdout == expected) == (code, True), done.stderr
    tree = Path(run("build").stdout.strip())
    for place in (tree, tree / "etc", tree / "root", tree / "opt/longshore", ROOT, Path("/dev")):
        assert not (place / "made").exists()
    assert not before.left_after(PATIENCE)
    assert os.listdir(tmp_path) == []


def test_words_arrive_as_they_are() -> None:
    words = ["a b", "$HOME", "'", "100%", "\n"]
    done = run("run", "--user", "tester", "printf", "%s|", *words)
    assert done.stdout == "".join(f"{word}|" for word in words), done.stderr


def test_a_shell() -> None:
    done = subprocess.run(
        [*TESTBED, "shell", "--user", "tester"],
        input="id -un; pwd; command -v longshore; exit 4",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 4, done.stderr
    assert done.stdout.split() == ["tester", "/opt/longshore", "/opt/venv/bin/longshore"]


@pytest.mark.parametrize(
    "argv", [[], ["run"], ["run", "--user", "root", "id"], ["build", "it"], ["nonsense"]]
)
def test_bad_arguments(argv: list[str]) -> None:
    done = run(*argv)
    assert done.returncode == 2
    assert "scripts/testbed run" in done.stderr


def to_the_script(process: subprocess.Popen[bytes]) -> None:
    process.terminate()


def to_all_in_front(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C


def without_warning(process: subprocess.Popen[bytes]) -> None:
    process.kill()


@pytest.mark.parametrize(
    ("end", "code"), [(to_the_script, 143), (to_all_in_front, 130), (without_warning, -9)]
)
def test_nothing_is_left(
    end: Callable[[subprocess.Popen[bytes]], None], code: int, tmp_path: Path
) -> None:
    before = hostkit.Host()
    with subprocess.Popen(
        [*apart(tmp_path), "run", "sh", "-c", "echo up; exec sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert os.listdir(tmp_path)
        end(process)
        assert process.wait(30) == code
    assert not before.left_after(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.listdir(tmp_path) == []
