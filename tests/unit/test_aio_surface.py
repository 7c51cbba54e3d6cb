"""The async face has the sync face's names, parameters and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from longshore import Container, Engine, Process, aio
from longshore.aio import attachment, container
from longshore.engine.attachment import Attachment
from longshore.engine.container import Attendance
from longshore.engine.eventstream import EventStream

PAIRS: list[tuple[type, type]] = [
    (Engine, aio.Engine),
    (Container, aio.Container),
    (Process, aio.Process),
]
# What a thread needs and an event loop does otherwise.
ONLY_SYNC: dict[type, set[str]] = {Engine: set(), Container: set(), Process: set()}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


@pytest.mark.parametrize(("sync", "async_"), PAIRS)
def test_names(sync: type, async_: type) -> None:
    assert public(async_) == public(sync) - ONLY_SYNC[sync]


@pytest.mark.parametrize(("sync", "async_"), PAIRS)
def test_parameters(sync: type, async_: type) -> None:
    wrong = []
    for name in public(sync) & public(async_):
        one, other = getattr(sync, name), getattr(async_, name)
        if inspect.isfunction(one) and parameters(one) != parameters(other):
            wrong.append(f"{name}: {parameters(one)} and {parameters(other)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("sync", "async_"), PAIRS)
def test_what_can_take_time_is_awaited(sync: type, async_: type) -> None:
    quick = {"fileno", "attended"}
    for name in public(async_):
        method = getattr(async_, name)
        if inspect.isfunction(method) and name not in quick:
            assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name


def test_everything_says_what_it_does() -> None:
    for _, async_ in PAIRS:
        for name in public(async_):
            member = getattr(async_, name)
            if inspect.isfunction(member) or isinstance(member, property):
                assert inspect.getdoc(member), f"{async_.__name__}.{name}"


def test_the_streams_are_there() -> None:
    assert public(EventStream) - public(container.EventStream) == {"advance", "end"}
    assert public(Attachment) - public(attachment.Attachment) == {"steps"}
    assert public(Attendance) - public(container.Attendance) == {"begin", "release"}
