"""The wheel installs into a bare environment, with pip and with pipx, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

import hostkit
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
    runs(longshore, python)


def runs(longshore: Path, python: Path) -> None:
    """What was installed runs containers, where that can be tried."""
    if not hostkit.on_test_host():
        return
    host = hostkit.Host()
    with tempfile.TemporaryDirectory(prefix="ls", dir="/tmp") as place:
        rootfs = hostkit.make_busybox_rootfs(Path(place, "rootfs"))
        where = ("--root", f"{place}/root", "--runroot", f"{place}/run")
        where += ("--runtime", hostkit.working_runtimes()[0])
        command = (longshore, *where)
        script = "echo I am $$; exec sleep 1000"
        assert run(*command, "run", "--rm", "--rootfs", f"{rootfs}:O", "echo", "hi") == "hi\n"
        run(*command, "run", "-d", "--name", "box", "--rootfs", rootfs, "sh", "-c", script)
        assert run(*command, "exec", "box", "cat", "/proc/1/comm") == "sleep\n"
        assert run(*command, "logs", "box") == "I am 1\n"
        code = (
            f"from longshore import Engine; box = Engine(root={place + '/root'!r}, "
            f"run_root={place + '/run'!r}).get('box'); print(box.stop(timeout=0).code); "
            "box.start()"
        )
        assert run(python, "-W", "error", "-c", code) == "137\n"
        # nobody stays with it: its end is seen to by what conmon runs, of this installation
        brief = run(*command, "run", "-d", "--rm", "--rootfs", rootfs, "true").strip()
        run(*command, "wait", "--condition", "removed", brief)
        run(*command, "rm", "--force", "box")
        assert run(*command, "ps", "--all", "--quiet") == ""
    assert not host.left_after(hostkit.PATIENCE)


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
