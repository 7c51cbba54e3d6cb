"""cli/signals.py: a signal is taken wherever the main thread is."""

from __future__ import annotations

import os
import select
import signal

from longshore.cli.signals import Taking
from longshore.linux.procs import poll_until


def test_a_signal_that_does_not_wake_the_main_thread() -> None:
    """As one that comes when that has looked for the last time and does not sleep yet."""
    reader, writer = os.pipe()
    before = signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)
    numbers = {signal.SIGUSR1, signal.SIGUSR2}
    try:
        with Taking(numbers, lambda number: os.write(writer, bytes((number,))) and None):
            # only another thread can be interrupted by them now
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
            sent = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1]
            heard = b""
            for number in sent:
                os.kill(os.getpid(), number)
                assert poll_until([reader], 1e9)  # nothing else ends it
                heard += os.read(reader, 1)
            assert list(heard) == sent
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        os.close(reader)
        os.close(writer)
    assert (signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)) == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with Taking([signal.SIGUSR1], lambda _: None):
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_handler_is_the_main_threads() -> None:
    heard: list[int] = []
    with Taking([signal.SIGUSR1], lambda _: None, lambda number, _: heard.append(number)):
        os.kill(os.getpid(), signal.SIGUSR1)
        select.select([], [], [], 0)
    assert heard == [signal.SIGUSR1]
