"""What every command is given: the global options, the engine, and the printing of errors."""

from __future__ import annotations

import os
import sys

from longshore import _log
from longshore.cli.flags import EACH, SWITCH, TEXT, Flag, Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.engine import Engine
    from longshore.errors import LongshoreError

__all__ = ["GLOBALS", "App"]

_LEVELS = {
    "trace": _log.DEBUG - 5,
    "debug": _log.DEBUG,
    "info": _log.INFO,
    "warn": _log.WARNING,
    "warning": _log.WARNING,
    "error": _log.ERROR,
    "fatal": _log.CRITICAL,
    "panic": _log.CRITICAL,
}
GLOBALS = (
    Flag(
        "cdi-spec-dir",
        "",
        EACH,
        "Where CDI devices are described; a later one is stronger",
        metavar="DIR",
        completes="dir",
    ),
    Flag(
        "cgroup-manager",
        "",
        TEXT,
        "Who makes the cgroups of containers",
        metavar="NAME",
        choices=("cgroupfs", "systemd"),
    ),
    Flag("conmon", "", TEXT, "The conmon program", metavar="PATH", completes="file"),
    Flag("help", "", SWITCH, "Show this help"),
    Flag(
        "hooks-dir",
        "",
        EACH,
        "Where OCI hooks are described; a later one is stronger",
        metavar="DIR",
        completes="dir",
    ),
    Flag(
        "log-level",
        "",
        TEXT,
        "The least to be shown: warnings at warn, at debug also where failures come from",
        metavar="LEVEL",
        choices=tuple(_LEVELS),
        default="warn",
    ),
    Flag(
        "root", "", TEXT, "Where records, logs and layers are kept", metavar="DIR", completes="dir"
    ),
    Flag("runroot", "", TEXT, "Where what a reboot ends is kept", metavar="DIR", completes="dir"),
    Flag("runtime", "", TEXT, "The OCI runtime, by name or path", metavar="NAME"),
    Flag(
        "runtime-flag",
        "",
        EACH,
        "A global flag for the OCI runtime, without its --",
        metavar="FLAG[=VALUE]",
    ),
    Flag("version", "v", SWITCH, "Show the version of Longshore"),
)


def _make_engine(options: Parsed) -> Engine:
    from longshore.engine.engine import Engine

    engine = Engine(
        root=options.maybe("root"),
        run_root=options.maybe("runroot"),
        runtime=options.maybe("runtime"),
        cgroup_manager=options.maybe("cgroup-manager"),
        conmon=options.maybe("conmon"),
        runtime_flags=options.many("runtime-flag"),
        hooks_dirs=options.many("hooks-dir"),
        cdi_spec_dirs=options.many("cdi-spec-dir"),
    )
    engine._machinery.sdnotify = "container"  # as podman
    return engine


class App:
    """One run of the command line.

    ``argv`` is the whole of it, for ``inspect``. The engine is made at its first use, so that a
    wrong flag costs nothing and touches nothing.
    """

    __slots__ = ("_engine", "argv", "options")

    def __init__(self, argv: list[str], engine: Engine | None = None) -> None:
        self.argv = argv
        self.options = Parsed({flag.name: flag for flag in GLOBALS})
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """The engine that the global options describe."""
        if self._engine is None:
            self._engine = _make_engine(self.options)
        return self._engine

    @property
    def level(self) -> int:
        """The least level of what is to be shown, as a number of `longshore._log`."""
        if os.environ.get("LONGSHORE_DEBUG"):
            return _log.DEBUG
        return _LEVELS[self.options.text("log-level")]

    @property
    def debug(self) -> bool:
        """Whether failures are to show where they come from."""
        return self.level <= _log.DEBUG

    def hear(self, level: int, message: str) -> None:
        """Print what the library says beside its work on standard error, as one line."""
        word = "warning" if level >= _log.WARNING else "debug"
        try:
            _write(f"longshore: {word}: {' '.join(message.split())}")
        except OSError:
            pass  # it is not worth the work that goes on

    def report(self, error: LongshoreError) -> None:
        """Print an error, its hint and its notes on standard error."""
        sys.stdout.flush()
        lines = [f"Error: {error}"]
        if error.hint:
            lines.append(f"hint: {error.hint}")
        lines += [f"note: {note}" for note in getattr(error, "__notes__", ())]
        if self.debug:
            import traceback

            lines.append("".join(traceback.format_exception(error)).rstrip())
        _write("\n".join(lines))


def _write(text: str) -> None:
    # A runtime's words may hold what a terminal would obey.
    clean = "".join(c if c >= " " or c in "\n\t" else repr(c)[1:-1] for c in text)
    sys.stderr.write(clean.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stderr.flush()
