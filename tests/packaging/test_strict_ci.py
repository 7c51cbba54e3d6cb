"""What CI is strict about: skips that are on no list, and tests that pass only when tried again."""

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


UNSTEADY = """
import pytest
tries = set()
@pytest.mark.parametrize("number", range(NUMBER))
def test_passes_when_tried_again(number):
    first = number not in tries
    tries.add(number)
    assert not first, f"wrong with {number}"
def test_steady(): pass
"""


def session(
    tmp_path: Path, listed: str, *args: str, ci: bool, text: str = TESTS
) -> tuple[int, str]:
    """Run tests with a list of their own; return the exit code and the output."""
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("conftest.py", "effort.py"):
        (tests / name).write_text((ROOT / "tests" / name).read_text())
    (tests / "allowed-skips.txt").write_text(listed)
    (tests / "test_some.py").write_text(text)
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "LONGSHORE_CI", "PYTEST_ADDOPTS")}
    if ci:
        env["CI"] = "true"
    argv = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    argv += ["--rootdir", str(tmp_path), *args, str(tests)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
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


@pytest.mark.parametrize(("number", "code"), [(0, 0), (2, 0), (3, 1)])
def test_a_few_may_need_a_second_try_and_are_told(tmp_path: Path, number: int, code: int) -> None:
    text = UNSTEADY.replace("NUMBER", str(number))
    got, output = session(tmp_path, "", "--reruns", "1", ci=False, text=text)
    assert got == code, output
    for one in range(number):
        assert f"test_passes_when_tried_again[{one}]\n" in output
        assert f"wrong with {one}" in output


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    broken = "def test_broken(): assert False, 'always'"
    got, output = session(tmp_path, "", "--reruns", "1", ci=False, text=broken)
    assert got == 1
    assert "1 failed" in output
