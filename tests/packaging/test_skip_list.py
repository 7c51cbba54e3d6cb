"""The written list of skips: what is on it passes in CI, what is not fails there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostkit import ROOT

TESTS = """
import pytest
def test_listed(): pytest.skip("no such thing here")
def test_unlisted(): pytest.skip("needs a moon; found: none")
def test_ran(): pass
"""


def session(tmp_path: Path, listed: str, *, ci: bool) -> tuple[int, str]:
    """Run TESTS with a list of its own; return the exit code and the output."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tests / "allowed-skips.txt").write_text(listed)
    (tests / "test_some.py").write_text(TESTS)
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "LONGSHORE_CI", "PYTEST_ADDOPTS")}
    if ci:
        env["CI"] = "true"
    argv = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    argv += ["--rootdir", str(tmp_path), str(tests)]
    done = subprocess.run(
        argv,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


BOTH = "*::test_listed  it is known\n*::test_unlisted  this too\n"


@pytest.mark.parametrize(
    ("listed", "ci", "code"),
    [("", False, 0), ("", True, 1), (BOTH, True, 0), ("*::test_listed  known\n", True, 1)],
)
def test_skips(tmp_path: Path, listed: str, ci: bool, code: int) -> None:
    got, output = session(tmp_path, listed, ci=ci)
    assert got == code, output
    assert ("test_unlisted: needs a moon; found: none" in output) == (code == 1)


def test_a_listed_test_that_is_not_skipped_is_pointed_out(tmp_path: Path) -> None:
    _, output = session(tmp_path, BOTH + "*::test_ran  not any more\n", ci=True)
    assert "*::test_ran was not skipped here" in output


def test_every_entry_has_a_reason() -> None:
    for line in (ROOT / "tests/allowed-skips.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert len(line.partition("  ")[2].strip()) > 10, line
