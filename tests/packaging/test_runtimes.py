"""scripts/runtimes has made what the contract suite runs over, and does nothing the second time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hostkit import MADE, ROOT, needs

SCRIPT = [sys.executable, str(ROOT / "scripts/runtimes")]


def test_the_second_time_nothing_is_made() -> None:
    needs("mmdebstrap", shutil.which("mmdebstrap"))
    needs("root", os.geteuid(), os.geteuid() == 0)
    subprocess.run(SCRIPT, check=True, stdout=subprocess.DEVNULL)
    before = {path: path.stat().st_mtime_ns for path in MADE.iterdir()}
    began = time.monotonic()
    done = subprocess.run(SCRIPT, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in MADE.iterdir()} == before
    assert time.monotonic() - began < 30
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert {"crun", "runc", "runsc"} == {path.name.partition("-")[0] for path in paths}
    for path in paths:
        said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)
        assert said.stdout.startswith(f"{path.name.partition('-')[0]} version ")


def test_what_is_half_made_is_made_anew() -> None:
    needs("mmdebstrap", shutil.which("mmdebstrap"))
    needs("root", os.geteuid(), os.geteuid() == 0)
    subprocess.run(SCRIPT, check=True, stdout=subprocess.DEVNULL)
    stamp = next(MADE.glob(".*"))
    stamp.unlink()
    done = subprocess.run(SCRIPT, check=True, capture_output=True, text=True)
    assert "making" not in done.stderr  # the tree is there
    assert stamp.exists()


def test_arguments_are_refused() -> None:
    done = subprocess.run([*SCRIPT, "--help"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "scripts/runtimes" in done.stderr
