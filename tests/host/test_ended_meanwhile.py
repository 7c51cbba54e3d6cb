"""A container that ends between the look at it and the runtime's call: WrongState, as if before."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostlife import SLEEP, await_end, started
from longshore import Container, Engine
from longshore.errors import RuntimeFailed, WrongState
from longshore.lifecycle import Status
from longshore.linux.cgroups import Cgroup, detect
from longshore.models import ExitReason
from longshore.runtime import Runtime

OPERATIONS: dict[str, tuple[str, Callable[[Container], None]]] = {
    "pause": ("pause", Container.pause),
    "unpause": ("resume", Container.unpause),
    "kill": ("kill", Container.kill),
}


@contextlib.contextmanager
def ending_at(box: Container, method: str, *, zombie: bool) -> Iterator[None]:
    """End a container at the moment when a verb of its runtime is called."""
    real = getattr(Runtime, method)
    found = box.inspect()
    init, conmon = found.pid, found.monitor_pid
    assert init is not None and conmon is not None

    def call(self: Runtime, *args: object) -> None:
        if zombie:
            os.kill(conmon, signal.SIGSTOP)  # nobody else reaps it
        os.kill(init, signal.SIGKILL)
        Cgroup(detect(), found.cgroup_path).thaw()
        await_end(init)
        real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runtime, method, call)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(conmon, signal.SIGCONT)


@pytest.mark.parametrize("zombie", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_it_ends_before_the_call(
    operation: str, zombie: bool, engine: Engine, busybox_rootfs: Path
) -> None:
    method, act = OPERATIONS[operation]
    box = started(engine, busybox_rootfs, SLEEP)
    if operation == "unpause":
        box.pause()
    with ending_at(box, method, zombie=zombie), pytest.raises(WrongState) as caught:
        act(box)
    assert (caught.value.op, caught.value.actual) == (operation, "stopped")
    assert isinstance(caught.value.__cause__, RuntimeFailed), "the runtime's words are kept"
    ended = box.wait(30)
    # by SIGKILL, and not by ours, which did not reach it
    assert (ended.code, ended.reason) == (137, ExitReason.SIGNALED)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_runtime_that_fails_for_another_reason(
    operation: str, engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, act = OPERATIONS[operation]
    box = started(engine, busybox_rootfs, SLEEP)
    if operation == "unpause":
        box.pause()
    before = box.inspect()

    def fails(*_: object) -> None:
        raise RuntimeFailed("no")

    monkeypatch.setattr(Runtime, method, fails)
    with pytest.raises(RuntimeFailed, match="no"):
        act(box)
    assert box.inspect() == before
    monkeypatch.undo()
    assert box.status is (Status.PAUSED if operation == "unpause" else Status.RUNNING)
