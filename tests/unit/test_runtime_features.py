"""A runtime is asked once what it can do, and once more when it is another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.runtime import features
from longshore.runtime.driver import Runtime

CRUN = "      --cgroup=PATH          sub-cgroup in the container\n"
RUNC = "   --cgroup value                     run the process in an (existing) sub-cgroup(s).\n"
RUNSC = "  -cgroup value\n    \tGo's own package for flags\n"


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(features, "_known", {})
    return write(tmp_path / "runtime", CRUN)


def write(path: Path, text: str) -> Path:
    asked = path.with_name("asked")
    path.write_text(f"#!/bin/sh\necho \"$*\" >> {asked}\ncat <<'END'\n{text}END\n")
    path.chmod(0o755)
    return path


def questions(binary: Path) -> list[str]:
    asked = binary.with_name("asked")
    return asked.read_text().splitlines() if asked.exists() else []


def confines(binary: Path) -> bool:
    cache = str(binary.with_name("cache"))
    return Runtime("x", str(binary), state_dir="/nowhere", cache_dir=cache).confines()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (CRUN, True),
        (RUNC, True),
        (RUNSC, True),
        ("   --cgroups value\n", False),
        ("   --no-cgroup\n", False),
        ("   --cgroup-parent=X\n", False),
        ("", False),
    ],
)
def test_answers(binary: Path, text: str, answer: bool) -> None:
    write(binary, text)
    assert confines(binary) is answer
    assert questions(binary) == ["exec --help"]


def test_it_is_asked_once_in_a_process(binary: Path) -> None:
    assert confines(binary)
    assert confines(binary)
    assert questions(binary) == ["exec --help"]


def test_it_is_asked_once_for_all_processes(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert confines(binary)
    monkeypatch.setattr(features, "_known", {})
    assert confines(binary)
    assert questions(binary) == ["exec --help"]


def test_another_binary_is_asked_anew(binary: Path) -> None:
    assert confines(binary)
    write(binary, "nothing\n")
    os.utime(binary, ns=(1, 1))
    assert not confines(binary)
    assert len(questions(binary)) == 2


def test_a_damaged_cache(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert confines(binary)
    (kept,) = binary.with_name("cache").glob("flag-*")
    for content in (b"", b"\0", b"another\0001", b"\xff" * 100):
        kept.write_bytes(content)
        monkeypatch.setattr(features, "_known", {})
        assert confines(binary)


def test_a_cache_that_cannot_be_written(binary: Path) -> None:
    binary.with_name("cache").write_text("a file")
    assert confines(binary)


def test_a_binary_that_is_gone(binary: Path) -> None:
    binary.unlink()
    assert not confines(binary)


def test_flags_before_any_verb(binary: Path) -> None:
    """runsc lists them only when it is asked for them, and on stderr."""
    binary.write_text(
        "#!/bin/sh\n"
        "case $1 in flags) echo '  -network value' >&2;; "
        """*) echo 'Use "x flags" for a list';; esac\n"""
    )
    cache = str(binary.with_name("cache"))
    for flag, answer in (("--network", True), ("--net", False), ("--overlay2", False)):
        assert features.takes_flag(str(binary), "", flag, cache_dir=cache) is answer
    runtime = Runtime("x", str(binary), state_dir="/nowhere", cache_dir=cache)
    assert runtime.sandbox_flags("none") == ("--network=none",)
    assert runtime.sandbox_flags("") == ("--network=none",)
    assert runtime.sandbox_flags("host") == ("--network=host",)
    assert runtime.sandbox_flags("container:x") == ()
    assert not runtime.sandboxes()
