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


def run(program: Path, runtime: str, tmp_path: Path) -> str:
    """Run a Python program with a default runtime; return what it printed."""
    conf = tmp_path / "containers.conf"
    conf.write_text(f'[engine]\nruntime = "{runtime}"\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        env=os.environ | {"CONTAINERS_CONF": str(conf)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path: Path, runtime: str, tmp_path: Path) -> None:
    printed = run(path, runtime, tmp_path)
    missing = [words for words in SAYS[path.name] if words not in printed]
    assert not missing, printed


def test_readme(runtime: str, layout: str, tmp_path: Path) -> None:
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    if layout == "v2" and "memory" not in Path("/sys/fs/cgroup/cgroup.controllers").read_text():
        # A limit that cannot be held is refused; the machine's own v1 has the controller.
        code = code.replace(', memory="64m"', "")
    (tmp_path / "readme.py").write_text(code)
    printed = run(tmp_path / "readme.py", runtime, tmp_path).splitlines()
    assert printed[0] == "b'hi' 3 ExitReason.EXITED"
    assert printed[1].startswith("Status.RUNNING ")
