"""The wheel installs into a bare environment, with pip and with pipx, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hostkit import ROOT

PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def run(*argv: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a program away from the checkout; return what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        argv,
        cwd="/",
        env=clean | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longshore's wheel, built from a copy of the checkout: building writes into the source."""
    source = tmp_path_factory.mktemp("source")
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        (source / part).write_bytes((ROOT / part).read_bytes())
    for path in (ROOT / "src/longshore").rglob("*"):
        if path.suffix == ".py" or path.name == "py.typed":
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_has_everything_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src").rglob("*.py")}
    expected |= {"longshore/py.typed"}
    assert {n for n in names if n.startswith("longshore/")} == expected
    others = {n for n in names if not n.startswith("longshore/")}
    assert all(".dist-info/" in n for n in others), others
    assert any(n.endswith("LICENSE") for n in others)


def works(longshore: Path, python: Path) -> None:
    assert run(longshore, "--version").startswith("longshore ")
    assert "Usage" in run(longshore, "run", "--help")
    shown = run(python, "-W", "error", "-c", "import longshore; print(longshore.Engine.__module__)")
    assert shown.startswith("longshore.")
    place = run(python, "-c", "import longshore; print(longshore.__file__)").strip()
    assert not place.startswith(str(ROOT))


def test_pip_into_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    run(python, *PIP, "install", "--no-index", wheel)
    works(tmp_path / "env/bin/longshore", python)
    run(python, *PIP, "uninstall", "--yes", "longshore")
    assert not (tmp_path / "env/bin/longshore").exists()


def test_pipx(wheel: Path, tmp_path: Path) -> None:
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run(
        sys.executable, "-m", "pipx", "install", wheel,
        env=places | {"PIPX_DEFAULT_PYTHON": sys.executable, "PIPX_MAN_DIR": str(tmp_path / "man")},
    )  # fmt: skip
    works(tmp_path / "bin/longshore", tmp_path / "home/venvs/longshore/bin/python")
