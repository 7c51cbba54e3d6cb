"""What a thousand who wait cost while nothing happens: processor time of this process, a second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from measure import Table

from longshore import aio

if TYPE_CHECKING:
    from contestants import Bench

WAITERS = 1000
BOXES = 4
SECOND = 1.0


def table(bench: Bench, rounds: int) -> Table:
    """Measure the waits of asyncio, beside an event loop with nothing to do."""
    found = Table(f"processor time in a second of {WAITERS} idle waits")
    found.add("an idle event loop", lambda: asyncio.run(_idle(bench, 0)))
    row = found.add(f"{WAITERS} × aio wait", lambda: asyncio.run(_idle(bench, WAITERS)))
    row.target = "target: as without"
    return found.go(rounds)


async def _idle(bench: Bench, waiters: int) -> float:
    boxes = [bench.engine.create(command=["sleep", "10000"], **bench.options) for _ in range(BOXES)]
    for box in boxes:
        box.start()
    engine = aio.Engine(
        root=bench.engine.settings.root,
        run_root=bench.engine.settings.run_root,
        runtime=bench.runtime_name,
    )
    faces = [await engine.get(box.id) for box in boxes]
    waits = [asyncio.create_task(faces[i % BOXES].wait()) for i in range(waiters)]
    while True:  # until all of them are asleep
        before = time.process_time()
        await asyncio.sleep(0.2)
        if time.process_time() - before < 0.005:
            break
    before = time.process_time()
    await asyncio.sleep(SECOND)
    took = time.process_time() - before
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    for box in boxes:
        box.remove(force=True)
    return took
