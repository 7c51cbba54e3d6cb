"""What is done inside a running container, for asyncio; see `longshore.engine.inside`."""

from __future__ import annotations

import time

from longshore.aio.loop import call, call_or_undo, go_on, ready, until_interrupted
from longshore.engine import execs
from longshore.engine.trace import UNTRACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import IO, Any, Literal, Unpack

    from longshore.aio.attachment import Attachment
    from longshore.aio.process import Process
    from longshore.engine.capture import Capture
    from longshore.engine.container import Container as SyncContainer
    from longshore.engine.trace import Trace
    from longshore.models import ProcessInfo, RunResult, Stats
    from longshore.options.execs import ExecOptions


class Inside:
    """The methods of `Container` that need it to run; a base class, not for use by itself."""

    __slots__ = ()

    if TYPE_CHECKING:
        _sync: SyncContainer

    async def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float | None = None,
        check: bool = False,
        max_output: int | None = None,
        **options: Unpack[ExecOptions],
    ) -> RunResult:
        """Run a command in it to its end, and return both outputs and the `ExitInfo`.

        Cancelled, the command is killed with all that it has begun, and gone when this returns. No
        thread waits meanwhile, except with ``tty``.
        """
        job = execs.Job(
            self._sync._machinery,
            self._sync.id,
            command,
            options,
            data=input,
            timeout=timeout,
            max_output=max_output,
        )
        if job.tty:
            from longshore.engine.terminalexec import TerminalExec

            made = await call_or_undo(
                lambda: TerminalExec(job), lambda terminal: terminal.interrupt()
            )
            return await until_interrupted(lambda: made.run(check=check), made.interrupt)
        running = await call_or_undo(
            lambda: execs.Execution(job), lambda running: running.abandon()
        )
        try:
            if not await captured(running.capture, running.deadline):
                await call(running.time_out)
            return await call(running.finish, check=check)
        except BaseException:
            await call(running.abandon)
            raise

    async def popen(
        self,
        command: Sequence[str],
        *,
        stdin: bool | int = False,
        stdout: bool | int = True,
        stderr: bool | int | Literal["stdout"] = True,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        bufsize: int = -1,  # noqa: ARG002 - the stream keeps what it needs, and no more
        detach: bool = False,
        **options: Unpack[ExecOptions],
    ) -> Process[Any]:
        """Begin to run a command in it and return its live handle. RUNNING → RUNNING.

        Cancelled, the command is killed, and gone when this returns.
        """
        from longshore.aio.process import Process

        box = self._sync

        def begin() -> Any:
            return execs.begin(
                box._machinery,
                box.id,
                command,
                options,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                bufsize=0,
                detach=detach,
            )

        def undo(process: Any) -> None:
            with process:
                process.kill()

        made = await call_or_undo(begin, undo)
        return Process(made, (encoding, errors) if text else None)

    async def execs(self) -> list[Process[bytes]]:
        """Return its exec sessions, the oldest first."""
        from longshore.aio.process import Process

        return [Process(one, None) for one in await call(self._sync.execs)]

    async def get_exec(
        self, ref: str, *, text: bool = False, encoding: str = "utf-8", errors: str = "strict"
    ) -> Process[Any]:
        """Find an exec session by its id or the beginning of it, whoever has started it."""
        from longshore.aio.process import Process

        found = await call(self._sync.get_exec, ref)
        return Process(found, (encoding, errors) if text else None)

    async def top(self) -> list[ProcessInfo]:
        """Return every process of it, those of execs too, by pid. RUNNING or PAUSED."""
        return await call(self._sync.top)

    async def stats(self) -> Stats:
        """Measure what it uses at this moment. RUNNING or PAUSED; takes no lock."""
        return await call(self._sync.stats)

    async def attach(
        self,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        when_full: Literal["drop", "block"] = "drop",
        buffer: int = 1 << 20,
        start: bool = False,
        console_size: tuple[int, int] | None = None,
        trace: Trace = UNTRACED,
    ) -> Attachment:
        """Attach to it: iterate over what it prints from now on, to its end; write its input.

        Cancelled, nobody is attached; a container that was to be started by it may have begun.
        """
        from longshore.aio.attachment import Attachment

        box = self._sync
        return Attachment(
            await call_or_undo(
                lambda: box.attach(
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    logs=logs,
                    when_full=when_full,
                    buffer=buffer,
                    start=start,
                    console_size=console_size,
                    trace=trace,
                ),
                lambda attached: attached.close(),
            )
        )

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; its program is told by SIGWINCH."""
        await call(self._sync.resize, rows, columns)

    async def read_file(self, path: str | os.PathLike[str]) -> bytes:
        """Return the bytes of a regular file in it, whether it runs or not."""
        return await call(self._sync.read_file, path)

    async def write_file(
        self,
        path: str | os.PathLike[str],
        data: bytes,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Put a file into it in one step. Cancelled, it is done all the same."""
        await call(self._sync.write_file, path, data, mode=mode, user=user)

    async def copy_in(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        target: str | os.PathLike[str],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of the host into it. Cancelled, the copying goes on."""
        await go_on(self._sync.copy_in, source, target, keep_owner=keep_owner, overwrite=overwrite)

    async def copy_out(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str] | IO[bytes],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of it to the host. Cancelled, the copying goes on."""
        await go_on(self._sync.copy_out, source, target, keep_owner=keep_owner, overwrite=overwrite)

    async def copy_to(
        self,
        source: str | os.PathLike[str],
        other: Inside,
        target: str | os.PathLike[str],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of it into another container. Cancelled, it goes on."""
        await go_on(
            self._sync.copy_to,
            source,
            other._sync,
            target,
            keep_owner=keep_owner,
            overwrite=overwrite,
        )


async def captured(capture: Capture, deadline: float | None = None) -> bool:
    """Do what `Capture.run` does, asleep in the event loop."""
    try:
        while not capture.step():
            readers, writers, until = capture.interests()
            if deadline is not None:
                if time.monotonic() >= deadline:
                    return False
                until = deadline if until is None else min(until, deadline)
            woken = await ready(readers, writers, until=until)
            if woken or (deadline is not None and time.monotonic() >= deadline):
                continue  # what has come is read before anything else
            await call(capture.look)
        return True
    finally:
        capture.forget()
