"""The front door for asyncio: `longshore.Engine`, awaited."""

from __future__ import annotations

from longshore.aio.container import Container, EventStream
from longshore.aio.loop import call, call_or_undo, take, until_interrupted
from longshore.engine.engine import Engine as SyncEngine
from longshore.engine.trace import UNTRACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from os import PathLike
    from typing import Unpack

    from longshore.config import Settings
    from longshore.engine.container import Container as SyncContainer
    from longshore.engine.host import Finding, HostInfo, VersionInfo
    from longshore.engine.inspection import Inspection
    from longshore.engine.trace import Trace
    from longshore.models import ExitInfo, RunResult, Stats
    from longshore.options import CreateOptions


class Engine:
    """The containers of one root directory, for asyncio; see `longshore.Engine`.

    What only reads or is done in a moment is not interrupted by a cancellation: it is passed on
    when the call has ended. Where more is promised, the method says so.
    """

    __slots__ = ("_sync",)

    def __init__(
        self,
        *,
        root: str | PathLike[str] | None = None,
        run_root: str | PathLike[str] | None = None,
        runtime: str | None = None,
        cgroup_manager: str | None = None,
        conmon: str | None = None,
        runtime_flags: Sequence[str] = (),
        hooks_dirs: Sequence[str | PathLike[str]] = (),
        cdi_spec_dirs: Sequence[str | PathLike[str]] = (),
        settings: Settings | None = None,
    ) -> None:
        """Take what `longshore.Engine` takes. Reads a few small files, at once."""
        self._sync = SyncEngine(
            root=root,
            run_root=run_root,
            runtime=runtime,
            cgroup_manager=cgroup_manager,
            conmon=conmon,
            runtime_flags=runtime_flags,
            hooks_dirs=hooks_dirs,
            cdi_spec_dirs=cdi_spec_dirs,
            settings=settings,
        )

    def __repr__(self) -> str:
        return repr(self._sync)

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        return self._sync.settings

    async def create(
        self,
        image: str | None = None,
        command: Sequence[str] | None = None,
        **options: Unpack[CreateOptions],
    ) -> Container:
        """Make a container without starting it. → CREATED. Cancelled, it leaves none."""

        def undo(box: SyncContainer) -> None:
            box.remove(force=True, missing_ok=True)

        made = await call_or_undo(lambda: self._sync.create(image, command, **options), undo)
        return Container(made)

    async def run(
        self,
        image: str | None = None,
        command: Sequence[str] | None = None,
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float | None = None,
        check: bool = False,
        trace: Trace = UNTRACED,
        **options: Unpack[CreateOptions],
    ) -> RunResult:
        """Run a command in a new container to its end, and remove the container.

        Cancelled, or after any other exception, the container is killed and gone when this returns.
        A thread is busy for as long as ``input`` is being read.
        """
        engine = self._sync
        running = await call_or_undo(
            lambda: engine._run(image, command, options, data=input, timeout=timeout, trace=trace),
            lambda made: made.abandon(Exception()),
        )
        try:
            await call(running.begin)
            if input is not None:
                await until_interrupted(lambda: running.feed(bytes(input)), running.interrupt)
            if not await take(running.exit_steps()):
                await call(running.time_out)
            return await call(running.finish, check=check)
        except BaseException as error:
            await call(running.abandon, error)
            raise

    async def get(self, ref: str) -> Container:
        """Return the container with this name, id, or unambiguous beginning of an id."""
        return Container(await call(self._sync.get, ref))

    async def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - podman's word
    ) -> builtins.list[Container]:
        """Return the containers that run, newest first; with ``all``, every one."""
        return [Container(box) for box in await call(self._sync.list, all=all)]

    async def inspect_all(self) -> builtins.list[Inspection]:
        """Return a snapshot of every container, newest first, in one pass without locks."""
        return await call(self._sync.inspect_all)

    async def exit_of(self, container_id: str) -> ExitInfo | None:
        """Return the last exit of a container by its whole id, even after its removal."""
        return await call(self._sync.exit_of, container_id)

    async def stats(self) -> builtins.list[Stats]:
        """Measure every container that runs. Takes no lock."""
        return await call(self._sync.stats)

    async def events(
        self,
        *,
        since: int | datetime | None = None,
        until: int | datetime | None = None,
        containers: Collection[str] = (),
        actions: Collection[str] = (),
        follow: bool = True,
    ) -> EventStream:
        """Return what happens to containers: an asynchronous iterator and context manager.

        What happens from the moment that this returns on is not missed. Cancelling who iterates
        loses nothing: the next one is still the next one.
        """
        return EventStream(
            await call_or_undo(
                lambda: self._sync.events(
                    since=since,
                    until=until,
                    containers=containers,
                    actions=actions,
                    follow=follow,
                ),
                lambda stream: stream.close(),
            )
        )

    async def prune(self) -> builtins.list[str]:
        """Remove every container that does not run; return their ids."""
        return await call(self._sync.prune)

    async def info(self) -> HostInfo:
        """Return what this host and this engine are."""
        return await call(self._sync.info)

    async def version(self) -> VersionInfo:
        """Return the versions of Longshore and of the programs it drives."""
        return await call(self._sync.version)

    async def doctor(self) -> builtins.list[Finding]:
        """Check what this host has and lacks; each finding names what mends it."""
        return await call(self._sync.doctor)
