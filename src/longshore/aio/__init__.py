"""The same containers for asyncio: the names and types of `longshore`, awaited.

``from longshore.aio import Engine``. It works with every event loop that has ``add_reader`` (those
of the standard library and uvloop), and several loops may be used in one process.

Cancellation is defined, call by call, in the docstrings. The rule: what is short is done, or taken
back, before the cancellation is passed on; what waits lets go at once and changes nothing; what
runs something (`Engine.run`, `Container.exec`) ends all of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.aio.attachment import Attachment
    from longshore.aio.container import Container, EventStream
    from longshore.aio.engine import Engine
    from longshore.aio.process import Process

__all__ = ["Attachment", "Container", "Engine", "EventStream", "Process"]

_HOME = {
    "Attachment": "attachment",
    "Container": "container",
    "Engine": "engine",
    "EventStream": "container",
    "Process": "process",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'longshore.aio' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"longshore.aio.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
