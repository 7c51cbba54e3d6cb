"""Runs command lines in this process, over a stand-in for the engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cli_standin import StandIn

from longshore.cli import app, main


class Outcome:
    """What a command line left: its code, and both outputs."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


class Shell:
    """Runs command lines against one stand-in."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.engine = StandIn()

    def __call__(self, *words: str) -> Outcome:
        code = main(list(words))
        out, err = self._capfd.readouterr()
        return Outcome(code, out, err)


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    runner = Shell(capfd)
    make: Callable[[object], StandIn] = lambda _options: runner.engine  # noqa: E731
    monkeypatch.setattr(app, "_make_engine", make)
    monkeypatch.setenv("TZ", "UTC")
    return runner
