"""_log.py: who hears warnings, and what they cost when there is nothing to say."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hostkit import ROOT
from longshore import _log
from longshore.config import Settings
from longshore.engine import machinery
from longshore.engine.machinery import Machinery


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.heard: list[tuple[int, str]] = []

    def hear(self, level: int, message: str) -> None:
        self.heard.append((level, message))


@pytest.fixture
def ear() -> Iterator[Ear]:
    found = Ear(_log.WARNING)
    before = _log.listen(found)
    yield found
    assert _log.listen(before) is found


def test_the_logger_hears_warnings(caplog: pytest.LogCaptureFixture) -> None:
    _log.warn("100 % of it")
    assert caplog.record_tuples == [("longshore", logging.WARNING, "100 % of it")]


def test_details_are_for_those_who_ask(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "longshore"):
        _log.debug("a detail")
        assert not _log.is_debugging()
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "longshore"):
        _log.debug("a detail")
        assert _log.is_debugging()
    assert caplog.messages == ["a detail"]


def test_a_listener_stands_for_the_logger(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    _log.warn("one")
    _log.debug("two")
    assert not _log.is_debugging()
    ear.level = _log.DEBUG
    _log.debug("three")
    assert _log.is_debugging()
    ear.level = _log.ERROR
    _log.warn("four")
    assert ear.heard == [(_log.WARNING, "one"), (_log.DEBUG, "three")]
    assert not caplog.records


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_nothing_is_printed_by_a_library() -> None:
    """Without any handler, logging itself would print warnings on stderr."""
    done = python("from longshore import _log; _log.warn('x'); _log.debug('y')")
    assert (done.stdout, done.stderr) == ("", "")
    configured = "import logging; logging.basicConfig(); "
    done = python(configured + "from longshore import _log; _log.warn('x')")
    assert done.stderr == "WARNING:longshore:x\n"


def test_silence_imports_nothing() -> None:
    done = python(
        "import sys; from longshore import _log; _log.debug('x'); print(_log.is_debugging());"
        "print('logging' in sys.modules)"
    )
    assert done.stdout == "False\nFalse\n"


# --- what is warned of --------------------------------------------------------------------------

WRITTEN = Settings(root="/r", run_root="/s", cgroup_manager="systemd")


def test_a_cgroup_manager_that_is_not_there_is_said_once(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "_warned", set())
    for _ in range(2):
        Machinery(WRITTEN).warn_of_settings()
        Machinery(WRITTEN).warn_of_settings()
    assert [message[:44] for _, message in ear.heard] == [
        'containers.conf says cgroup_manager = "syste'
    ]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (WRITTEN, "cgroupfs"),
        (WRITTEN.replace(cgroup_manager="cgroupfs"), None),
        (WRITTEN.replace(cgroup_manager=""), None),
    ],
)
def test_a_cgroup_manager_that_is_followed(
    settings: Settings, asked: str | None, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machinery, "_warned", set())
    Machinery(settings, cgroup_manager=asked).warn_of_settings()
    assert not ear.heard
