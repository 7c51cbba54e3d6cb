"""What Longshore says when nothing has failed: warnings, and details for debugging.

It never prints. Messages go to the logger ``longshore`` of the standard library's logging, which is
imported when there is something to say and not before: that costs as much as the rest of a
start-up. A program that shows them itself, as the command line does, puts a `Listener` in the
logger's place.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Protocol

    class Listener(Protocol):
        """Who hears every message instead of the logger; ``level`` is the least that it wants."""

        @property
        def level(self) -> int: ...

        def hear(self, level: int, message: str) -> None: ...


DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50  # the numbers of logging
_NAME = "longshore"

_listener: Listener | None = None


def listen(listener: Listener | None) -> Listener | None:
    """Let ``listener`` hear what is said in this process; return who heard it until now.

    For the program that owns the process. None gives the messages back to the logger.
    """
    global _listener
    before, _listener = _listener, listener
    return before


def warn(message: str) -> None:
    """Say that something was asked for, or is usual, and could not be done; the work went on."""
    _say(WARNING, message)


def debug(message: str) -> None:
    """Say what is done and how. Ask `is_debugging` first where the message costs something."""
    if is_debugging():
        _say(DEBUG, message)


def is_debugging() -> bool:
    """Whether somebody wants to hear details."""
    if _listener is not None:
        return _listener.level <= DEBUG
    # Nobody can have asked the logger for them without having imported it.
    return "logging" in sys.modules and _logger().isEnabledFor(DEBUG)


def _say(level: int, message: str) -> None:
    if _listener is None:
        _logger().log(level, message)
    elif _listener.level <= level:
        _listener.hear(level, message)


def _logger() -> logging.Logger:
    import logging

    logger = logging.getLogger(_NAME)
    if not logger.handlers:
        # Without any, logging would print warnings on stderr in a program that configures nothing.
        logger.addHandler(logging.NullHandler())
    return logger
