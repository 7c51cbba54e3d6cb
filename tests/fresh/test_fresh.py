"""`make run`, `make venv` and `longshore` on minimal trees of Debian with nothing set up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hostkit import ROOT, needs, which


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["12", "13"])
def test_fresh_debian(release: str) -> None:
    needs("mmdebstrap", which("mmdebstrap"))
    needs("root", os.geteuid(), os.geteuid() == 0)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/fresh-test", release],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
