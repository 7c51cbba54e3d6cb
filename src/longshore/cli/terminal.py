"""The user's terminal while a container has it: raw mode, its size, detach keys.

Whatever way this process leaves, but SIGKILL, the terminal is as it was before: by the end of a
``with`` block, or out of the handler of the signal that ends it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time

from longshore.errors import InvalidArgument, LongshoreError
from longshore.linux import ttys
from longshore.linux.files import write_all
from longshore.linux.procs import poll_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Protocol, Self

    class Streams(Protocol):
        """An attachment, to a container or to a process in one: see `engine.attachment`.

        ``close`` may be called by any thread, and ends an iteration.
        """

        def __iter__(self) -> Iterator[tuple[str, bytes]]: ...
        def write(self, data: bytes) -> None: ...
        def close_stdin(self) -> None: ...
        def resize(self, rows: int, columns: int) -> None: ...
        def close(self) -> None: ...

    class Proxy(AbstractContextManager[object], Protocol):
        """Who takes signals while it is entered: see `cli.run.Signals`."""

        @property
        def numbers(self) -> Iterable[int]: ...

        last_words: Callable[[], None]


__all__ = ["DetachKeys", "Keyboard", "Terminal", "converse", "parse_detach_keys"]

LONE_PREFIX = 0.5  # seconds after which the beginning of the detach keys is taken for a key
_CHUNK = 1 << 16
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is byte 0, and so on


def parse_detach_keys(text: str) -> bytes:
    """Return the bytes of detach keys as podman spells them: ``ctrl-p,ctrl-q`` or ``a,b``.

    "" is none: one cannot detach then. InvalidArgument for what is no key.
    """
    keys = bytearray()
    for word in text.split(",") if text else ():
        name = word.removeprefix("ctrl-")
        if name != word and len(name) == 1 and name in _CONTROL:
            keys.append(_CONTROL.index(name))
        elif word == "DEL":
            keys.append(127)
        elif len(word) == 1 and word.isascii():
            keys += word.encode()
        else:
            raise InvalidArgument(
                f"detach keys {text!r}: there is no key {word!r}",
                hint="one character, or ctrl- and one of a-z @ [ \\ ] ^ _, with commas in between",
            )
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence of bytes in what is typed, and passes on everything else, in order."""

    __slots__ = ("_held", "_keys")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""  # the beginning of the sequence, which may go on

    @property
    def holds(self) -> bool:
        """Whether something is held back, because it may become the sequence."""
        return bool(self._held)

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the sequence was seen; the rest is lost."""
        data = self._held + data
        self._held = b""
        if not self._keys:
            return data, False
        at = data.find(self._keys)
        if at >= 0:
            return data[:at], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False

    def give_up(self) -> bytes:
        """Return what is held back: it was not the sequence."""
        held, self._held = self._held, b""
        return held


def converse(
    streams: Streams,
    signals: Proxy,
    *,
    tty: bool,
    stdin: bool,
    keys: bytes,
    known: tuple[int, int] | None = None,
) -> bool:
    """Show what comes and pass on what is typed, until the end; whether the user has detached.

    ``tty`` and ``stdin`` say what the other side has, ``keys`` detach. ``known`` is the size that
    its terminal was given at its start; a program that has run for a while has none that we know,
    and is made to draw its screen again.
    """

    def resized(size: tuple[int, int]) -> None:
        nonlocal known
        if size == known:
            return
        if known is None:
            # One that stays the same would be no news to it (SIGWINCH).
            streams.resize(size[0], size[1] + 1)
        streams.resize(*size)
        known = size

    sys.stdout.flush()
    keyboard = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals)
        fd = 0 if stdin and os.isatty(0) else 1
        if tty and os.isatty(fd):
            terminal = Terminal(fd, keys=fd == 0, resized=resized, proxied=signals.numbers)
            signals.last_words = terminal.restore  # first: a signal may come at any moment
            stack.enter_context(terminal)
        if stdin:
            # From a pipe or a file every byte is the program's.
            keyboard = stack.enter_context(Keyboard(streams, keys if os.isatty(0) else b""))
        for stream, data in streams:
            write_all(2 if stream == "stderr" else 1, data)
    return keyboard is not None and keyboard.detached


class Keyboard(threading.Thread):
    """Passes descriptor 0 on to a container until its end, in a thread that holds nobody up.

    ``keys`` detach: it closes the streams then, and ``detached`` says so.
    """

    def __init__(self, streams: Streams, keys: bytes) -> None:
        super().__init__(name="stdin", daemon=True)
        self._streams = streams
        self._keys = DetachKeys(keys)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self.detached = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Read no more: what is typed from now on is for somebody else."""
        os.eventfd_write(self._bell, 1)
        self._streams.close()
        self.join(1.0)
        if not self.is_alive():
            os.close(self._bell)

    def run(self) -> None:
        """Copy."""
        try:
            while not self._copy():
                pass
        except (LongshoreError, OSError, ValueError):
            pass  # it has ended or was left, and what it has not read is nobody's loss

    def _copy(self) -> bool:
        """Copy what comes next; whether it was the last."""
        deadline = time.monotonic() + LONE_PREFIX if self._keys.holds else None
        ready = poll_until([0, self._bell], deadline)
        if self._bell in ready:
            return True
        if not ready:
            self._streams.write(self._keys.give_up())
            return False
        data = _read()
        if data is None:
            return False
        if not data:
            self._streams.write(self._keys.give_up())
            self._streams.close_stdin()
            return True
        passed, self.detached = self._keys.feed(data)
        self._streams.write(passed)
        if self.detached:
            self._streams.close()
        return self.detached


def _read() -> bytes | None:
    """Read standard input; b"" is its end, None that somebody else was faster."""
    try:
        return os.read(0, _CHUNK)
    except BlockingIOError:
        return None
    except OSError as err:
        if err.errno == errno.EIO:  # a terminal that is gone
            return b""
        raise


class Terminal:
    """A terminal that is a container's while this is entered; a context manager.

    ``keys`` says whether its keys are, too, and not its output alone. ``resized`` is called at the
    beginning and after each change of its size. ``proxied`` are signals that somebody else takes;
    of the others, those that end this process do so after the terminal was put back, and so does
    one that stops it.
    """

    def __init__(
        self,
        fd: int,
        *,
        keys: bool,
        resized: Callable[[tuple[int, int]], None],
        proxied: Iterable[int] = (),
    ) -> None:
        self._fd = fd
        self._raw = ttys.RawMode(fd, keys=keys)
        self._resized = resized
        self._proxied = frozenset(proxied)
        self._before: dict[int, object] = {}
        self._changes = 0  # of its size
        self._resizing = False

    def __enter__(self) -> Self:
        try:
            for number in _ENDING:
                if number not in self._proxied:
                    self._catch(number, self._end)
            self._catch(signal.SIGTSTP, self._pause)
            self._catch(signal.SIGCONT, self._go_on)
            self._catch(signal.SIGWINCH, self._resize)
            self._raw.__enter__()
            self._resize()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.__exit__()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it
        self._before.clear()

    def restore(self) -> None:
        """Put the terminal back, before this process ends of a signal."""
        self._raw.restore()

    def _catch(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        # what our starter had ignored (nohup, a shell's &) stays ignored
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._before[number] = signal.signal(number, handler)

    def _end(self, number: int, _: FrameType | None = None) -> None:
        self.restore()
        end_by(number)

    def _pause(self, number: int, _: FrameType | None = None) -> None:
        self.restore()
        end_by(number)  # it stops here, unless there is no shell that could let it go on
        self._go_on()

    def _go_on(self, _: int = 0, __: FrameType | None = None) -> None:
        if signal.SIGTSTP in self._before:
            signal.signal(signal.SIGTSTP, self._pause)
        self._raw.resume()
        self._resize()

    def _resize(self, _: int = 0, __: FrameType | None = None) -> None:
        self._changes += 1
        done = 0
        # Not within itself: a change that comes meanwhile is what the next round sees.
        while done != self._changes and not self._resizing:
            self._resizing = True
            try:
                done = self._changes
                self._tell()
            finally:
                self._resizing = False

    def _tell(self) -> None:
        size = ttys.size([self._fd])
        if size is not None:
            try:
                self._resized(size)
            except (LongshoreError, OSError):
                pass  # it has ended


def end_by(number: int) -> None:
    """Do what a signal does to a process that has no handler for it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
