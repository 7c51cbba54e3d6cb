"""scripts/setup makes .venv once, makes it anew when it must, and says what it does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hostkit import ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, as a clone would be: nothing made in it yet."""
    target = tmp_path_factory.mktemp("clone") / "longshore"
    target.mkdir()
    for part in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy2(ROOT / part, target / part)
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in ("src", "scripts"):
        shutil.copytree(ROOT / part, target / part, ignore=skipped)
    return target


def setup(checkout: Path, level: str = "venv", code: int = 0, **env: str) -> str:
    """Run scripts/setup; return what it said."""
    done = subprocess.run(
        [checkout / "scripts/setup", level],
        cwd="/",
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_setup(checkout: Path) -> None:
    first = setup(checkout, PYTHONDONTWRITEBYTECODE="1")
    assert "making .venv" in first
    assert "installing Longshore" in first
    venv = checkout / ".venv/bin"
    done = subprocess.run([venv / "longshore", "--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"longshore ")
    source = checkout / "src/longshore"
    assert len([*source.glob("__pycache__/*.pyc")]) == len([*source.glob("*.py")])

    assert setup(checkout) == "", "the second time it has nothing to do"

    project = checkout / "pyproject.toml"
    project.write_text(project.read_text() + "\n# changed\n")
    again = setup(checkout)
    assert "installing Longshore" in again
    assert "making .venv" not in again

    moved = checkout.rename(checkout.with_name("moved"))
    assert "making .venv" in setup(moved), "scripts in a moved environment name the old place"
    subprocess.run([moved / ".venv/bin/longshore", "--version"], capture_output=True, check=True)


def test_bad_arguments(checkout: Path) -> None:
    source = checkout if checkout.exists() else checkout.with_name("moved")
    assert "scripts/setup [venv|run|test]" in setup(source, "nonsense", code=2)


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = text.split(".PHONY:")[1].splitlines()[0].split()
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in phony:
        assert f"make {target} " in shown.stdout
    assert subprocess.check_output(["make"], cwd=ROOT, text=True) == shown.stdout


@pytest.mark.parametrize("script", ["setup", "check", "test", "demo", "../.ci/run"])
def test_scripts_parse(script: str) -> None:
    path = ROOT / "scripts" / script
    shell = "bash" if script.endswith("run") else "sh"
    subprocess.run([shell, "-n", path], check=True)
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith(("#!/bin/sh\n", "#!/usr/bin/env bash\n"))
