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


def machine(tmp_path: Path, **stubs: str) -> dict[str, str]:
    """Return an environment that sees none of the programs, and shell scripts in their place."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "cut", "cat", "sed", "grep", "rm", "mount", "env"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    for name, script in stubs.items():
        path = tools / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return {"PATH": str(tools), "LONGSHORE_PYTHON": "/usr/bin/python3"}


def test_dnf_gets_its_own_names(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    env = machine(tmp_path, id="echo 0", dnf=f'echo "$*" >>{asked}')
    said = setup(ROOT, "run", **env)
    line = asked.read_text().splitlines()[0]
    assert line.startswith("-y --setopt=install_weak_deps=False install ")
    assert {"conmon", "crun"} <= set(line.split())
    assert "installing with dnf" in said


def test_sudo_is_used_by_others_than_root(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    env = machine(
        tmp_path, id="echo 1000", sudo=f'echo "$*" >>{asked}', apt_get="echo not root; exit 1"
    )
    setup(ROOT, "run", **env)
    assert "apt-get -y --no-install-recommends" in asked.read_text()
    assert " conmon crun" in asked.read_text()


@pytest.mark.parametrize(
    ("stubs", "words"),
    [
        ({"id": "echo 1000", "apt_get": "exit 1"}, "not root, and no sudo; please install:"),
        ({"id": "echo 0"}, "no apt-get and no dnf here; please install: conmon crun"),
        ({"id": "echo 0", "apt_get": "echo E: all mirrors are down; exit 100"}, "mirrors are down"),
    ],
)
def test_what_cannot_be_installed_is_named(
    tmp_path: Path, stubs: dict[str, str], words: str
) -> None:
    env = machine(tmp_path, **stubs)
    assert words in setup(ROOT, "run", code=1, **env)
    assert words in setup(ROOT, "venv", **env), "the environment is made all the same"
