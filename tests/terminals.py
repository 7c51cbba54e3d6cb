"""Drive a command in a pseudo-terminal of its own, as a user's terminal does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Any, Self

_FLAGS = 4  # iflag, oflag, cflag and lflag come first in what tcgetattr returns


class Terminal:
    """A command whose three streams are a new terminal, which is also its controlling one.

    What it has printed is in `seen`. A context manager: what still runs in the end is killed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        rows: int = 24,
        columns: int = 80,
        **streams: Any,
    ) -> None:
        self._fd, self._own = os.openpty()
        self.seen = b""
        self._at = 0  # what was waited for ends here
        self.resize(rows, columns)
        self._whole = termios.tcgetattr(self._own)
        self.before = self.mode()
        streams = {"stdin": self._own, "stdout": self._own, "stderr": self._own, **streams}
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@"', "sh", *argv],
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(self._own, termios.TIOCSCTTY, 0),
            **streams,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        self.hang_up()
        if self._own >= 0:
            os.close(self._own)

    def resize(self, rows: int, columns: int) -> None:
        """Change its size, as a window does; its foreground processes get SIGWINCH."""
        termios.tcsetwinsize(self._fd, (rows, columns))

    def mode(self) -> list[Any]:
        """Return its settings, of which all that a program may change is a part."""
        *flags, _, _, characters = termios.tcgetattr(self._own)
        return [*flags[:_FLAGS], characters]

    def type(self, data: bytes) -> None:
        """Press keys."""
        while data:
            data = data[os.write(self._fd, data) :]

    def signal(self, number: int) -> None:
        """Signal the command."""
        self.process.send_signal(number)

    def expect(self, *wanted: bytes, patience: float = 15.0) -> None:
        """Wait until each of these has been printed, one after the other."""
        for data in wanted:
            self._read_until(lambda data=data: self.seen.find(data, self._at) >= 0, patience, data)
            self._at = self.seen.index(data, self._at) + len(data)

    def rest(self, duration: float) -> bytes:
        """Return what is printed within some seconds, after what was waited for."""
        end = time.monotonic() + duration
        while time.monotonic() < end:
            self._read(end - time.monotonic())
        return self.seen[self._at :]

    def end(self, patience: float = 15.0) -> int:
        """Wait until the command has ended, and return its code; −n for signal n."""
        self._read_until(lambda: self.process.poll() is not None, patience, "its end")
        self.rest(0.05)
        code = self.process.returncode
        assert isinstance(code, int)
        return code

    def is_raw(self) -> bool:
        """Whether keys arrive one by one."""
        return not self.mode()[3] & termios.ICANON

    def is_restored(self) -> bool:
        """Whether it is as it was before the command began."""
        return self.mode() == self.before

    def restore(self) -> None:
        """Put its settings back, as a shell does when its job has stopped."""
        termios.tcsetattr(self._own, termios.TCSANOW, self._whole)

    def children(self) -> list[int]:
        """Return the pids of what the command has started."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def hang_up(self) -> None:
        """Close the window."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_until(self, reached: Any, patience: float, what: object) -> None:
        deadline = time.monotonic() + patience
        while not reached():
            left = deadline - time.monotonic()
            assert left > 0, f"{what!r} did not come within {patience} s; seen: {self.seen!r}"
            if not self._read(min(left, 0.1)) and self.process.poll() is not None:
                self._read(0.1)
                assert reached(), f"it ended without {what!r}; seen: {self.seen!r}"

    def _read(self, duration: float) -> bool:
        if not select.select([self._fd], [], [], max(0.0, duration))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has it open any more
            return False
        self.seen += data
        return bool(data)


ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
