"""`make run`, `make venv` and `longshore` on minimal trees of Debian with nothing set up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

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


@pytest.mark.timeout(300)
def test_an_end_in_the_middle_leaves_no_tree() -> None:
    needs("mmdebstrap", which("mmdebstrap"))
    needs("root", os.geteuid(), os.geteuid() == 0)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore"
    argv = [sys.executable, str(ROOT / "scripts/fresh-test"), "12"]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(argv, stdout=output, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        while "$ make run" not in process.stderr.readline():
            assert process.poll() is None
        trees = set(cache.iterdir())
        process.terminate()
        assert process.wait(60) == 128 + 15
    gone = trees - set(cache.iterdir())
    assert [path.name.startswith("debian-12-") for path in gone] == [True]
