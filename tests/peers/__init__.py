"""Small programs that speak conmon's and a runtime's protocols, and do what a test tells them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Peer:
    """A scripted program: ``path`` is what to run, `journal` what it was asked."""

    def __init__(self, program: str, directory: Path, script: object, name: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.script = directory / f"{name or program}.json"
        self.script.write_text(json.dumps(script))
        wrapper = directory / (name or program)
        # The same interpreter, alone: a test's environment must not change what a peer does.
        words = [sys.executable, "-I", "-S", str(HERE / f"{program}.py"), str(self.script)]
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        wrapper.chmod(0o755)
        self.path = str(wrapper)

    def journal(self) -> list[dict[str, Any]]:
        """Return what was noted so far, oldest first."""
        try:
            text = Path(f"{self.script}.journal").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def noted(self, key: str) -> Any:
        """Return the last value noted under a key."""
        return next(entry[key] for entry in reversed(self.journal()) if key in entry)


def fake_conmon(directory: Path, *steps: tuple[Any, ...]) -> Peer:
    """Make a conmon that does these steps; see fake_conmon.py."""
    return Peer("fake_conmon", directory, steps, "conmon")


def fake_runtime(directory: Path, name: str = "faker", **verbs: dict[str, Any]) -> Peer:
    """Make a runtime that does this for these verbs; see fake_runtime.py."""
    return Peer("fake_runtime", directory, verbs, name)
