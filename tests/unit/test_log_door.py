"""_log.py: who hears warnings, and what they cost when there is nothing to say."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hostkit import ROOT
from longshore import _log


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
