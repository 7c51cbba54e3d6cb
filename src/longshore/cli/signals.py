"""Take signals in a thread, at once, wherever the main thread is.

Python runs a handler in the main thread, between two of its steps. A signal that comes after the
last look and before poll(2) has begun to sleep is therefore seen only when something else ends that
sleep. What the C handler writes to a descriptor (`signal.set_wakeup_fd`) comes at any moment.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Self


class Taking:
    """While it is entered, by the main thread, ``take`` is called with each signal, in order.

    ``handler`` is what the main thread does with it besides, by default nothing. A signal that is
    ignored at the beginning stays so: nohup, a shell's ``&``.
    """

    __slots__ = ("_before", "_handler", "_numbers", "_pipe", "_take", "_woken")

    def __init__(
        self,
        numbers: Iterable[int],
        take: Callable[[int], None],
        handler: Callable[[int, FrameType | None], None] | None = None,
    ) -> None:
        self._numbers = tuple(numbers)
        self._take = take
        self._handler = handler or _nothing
        self._before: dict[int, object] = {}
        self._pipe = -1
        self._woken = -1  # who was written to before

    def __enter__(self) -> Self:
        import _thread

        heard = [n for n in self._numbers if signal.getsignal(n) is not signal.SIG_IGN]
        if not heard:
            return self
        source, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        _thread.start_new_thread(self._work, (source,))
        self._woken = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
        for number in heard:
            self._before[number] = signal.signal(number, self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it
        if self._pipe >= 0:
            signal.set_wakeup_fd(self._woken)
            os.close(self._pipe)  # the thread's end of file

    def _work(self, source: int) -> None:
        with open(source, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                for number in numbers:
                    if number in self._before or number in self._numbers:
                        self._take(number)


def _nothing(_: int, __: FrameType | None) -> None:
    return
