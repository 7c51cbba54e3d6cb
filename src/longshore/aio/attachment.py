"""A connection to a container's streams for asyncio; see `longshore.engine.attachment`."""

from __future__ import annotations

from longshore.aio.loop import Stepping, call, go_on, sleep
from longshore.linux.steps import Sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from longshore.engine.attachment import Attachment as SyncAttachment


class Attachment:
    """Iterate over a container's output, write its input. An asynchronous context manager.

    Made by `Container.attach`. No thread waits for output. Cancelling who iterates loses nothing.
    """

    __slots__ = ("_rest", "_stepping", "_sync")

    def __init__(self, sync: SyncAttachment) -> None:
        """Private: use `Container.attach`."""
        self._sync = sync
        self._stepping = Stepping(sync.steps())
        self._rest: list[tuple[str, bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        """Wait for output and return ("stdout" or "stderr", data). It ends with the last byte."""
        while not self._rest:
            found = await self._stepping.next()
            if found is None:
                raise StopAsyncIteration
            if isinstance(found, Sleep):
                await sleep(found)
            else:
                self._rest = [*found]
        return self._rest.pop(0)

    @property
    def dropped(self) -> int:
        """How many bytes were thrown away before what was read last."""
        return self._sync.dropped

    async def write(self, data: bytes, timeout: float | None = None) -> None:
        """Write all of it to the container's input. A thread is busy while the container is slow.

        Cancelled, it goes on.
        """
        await go_on(self._sync.write, data, timeout)

    async def close_stdin(self, timeout: float | None = None) -> None:
        """Let the container read the end of its input, when it has read what was written."""
        await go_on(self._sync.close_stdin, timeout)

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        await call(self._sync.resize, rows, columns)

    async def close(self) -> None:
        """Leave the container as it is, but for the end of an input that was attached to.

        Who iterates in another task is to be cancelled before.
        """
        await self._stepping.close()
        await call(self._sync.close)
