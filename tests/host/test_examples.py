"""Every program in examples/ runs as it stands, and says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostkit import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "hello.py": ["hello world, I am process 1", "it ended with 3: exited"],
    "lifecycle.py": [": created", "it says: ready", "frozen: paused", "code 0, stopped", "leaving"],
    "parallel.py": ["sums: exited 0", "'20000'", "'mine'", "fails: exited 9", "hangs: timeout 137"],
    "takeover.py": ["signal 9", "its container: running", "exit: 137", "still here", "and gone"],
}


def test_every_example_has_its_words() -> None:
    assert [path.name for path in EXAMPLES] == sorted(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, runtime: str, tmp_path: Path) -> None:
    conf = tmp_path / "containers.conf"
    conf.write_text(f'[engine]\nruntime = "{runtime}"\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        env=os.environ | {"CONTAINERS_CONF": str(conf)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    missing = [words for words in SAYS[path.name] if words not in done.stdout]
    assert not missing, done.stdout
