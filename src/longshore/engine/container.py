"""The handle of one container. It holds an id and nothing else, so it is never out of date."""

from __future__ import annotations

# What a start does not need is imported by the method that does: each start-up of the command
# line would pay for it before conmon is spawned.
from longshore.engine import events, finishing
from longshore.engine.inside import Inside
from longshore.engine.observe import look
from longshore.engine.trace import UNTRACED
from longshore.errors import NoSuchContainer, RecordCorrupt
from longshore.lifecycle import Op, Status
from longshore.linux.locks import Lease
from longshore.linux.steps import run
from longshore.models import ContainerId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, Unpack

    from longshore.engine.inspection import Inspection
    from longshore.engine.machinery import Machinery
    from longshore.engine.trace import Trace
    from longshore.linux.steps import Steps
    from longshore.models import ExitInfo, LogRecord
    from longshore.options import UpdateOptions


class Container(Inside):
    """One container, made by `Engine.create` or found by `Engine.get`. Safe from any thread.

    Methods raise NoSuchContainer once it is removed (`wait` still knows its last exit), and Busy
    when another operation holds it past a deadline.
    """

    __slots__ = ("_attendance", "_machinery", "id")

    def __init__(self, machinery: Machinery, container_id: str) -> None:
        """Private: use the engine's `create`, `get` and `list`."""
        self._machinery = machinery
        self.id = ContainerId(container_id)
        self._attendance: Attendance | None = None

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def name(self) -> str:
        """Its name now. Read from disk: keep it if you need it often."""
        return self._machinery.store.peek(self.id).name

    @property
    def status(self) -> Status:
        """Its status now, computed from facts."""
        return look(self._machinery, self._machinery.store.peek(self.id)).status

    def start(
        self, *, console_size: tuple[int, int] | None = None, trace: Trace = UNTRACED
    ) -> None:
        """Start it; when this returns its program has begun. CREATED, STOPPED, EXITED → RUNNING.

        One that runs already is fine. ``console_size`` is that of its terminal, (rows, columns):
        its program finds it at its first instruction. ProgramNotFound and ProgramNotExecutable when
        the runtime says so; RuntimeFailed and MonitorFailed with their own words; nothing is left
        then.
        """
        self._start(console_size=console_size, trace=trace)

    def _start(
        self,
        *,
        console_size: tuple[int, int] | None,
        trace: Trace,
        created: Callable[[], None] | None = None,
    ) -> bool:
        from longshore.engine import starting

        if console_size is not None:
            from longshore.engine.attachment import checked_size

            console_size = checked_size(self._machinery, self.id, console_size, "console_size")
        attendance = self._attendance
        return starting.start(
            self._machinery,
            self.id,
            trace=trace,
            prepared=attendance.begin if attendance is not None else None,
            created=created,
            console_size=console_size,
        )

    def wait(self, timeout: float | None = None, *, condition: str = "exited") -> ExitInfo:
        """Wait until it has ended and return how: the same answer before and after its removal.

        ``condition``: "exited" (at once if it has ended), "next_exit" (of the run that is now, or
        of the next one), "removed". ``timeout`` in seconds raises OperationTimeout and changes
        nothing.
        """
        from longshore.engine import waiting

        return waiting.await_condition(self._machinery, self.id, condition, timeout=timeout)

    def wait_status(self, *wanted: Status, timeout: float | None = None) -> Status:
        """Wait until its status is one of these, and return it; at once if it is already.

        ``timeout`` in seconds raises OperationTimeout and changes nothing. NoSuchContainer when it
        is removed meanwhile.
        """
        from longshore.engine import waiting

        return waiting.await_status(self._machinery, self.id, wanted, timeout=timeout)

    def stop(
        self,
        timeout: float | None = None,
        *,
        signal: str | int | None = None,
        fast_stop: bool = True,
    ) -> ExitInfo | None:
        """Stop it: its stop signal, ``timeout`` seconds of grace, then SIGKILL. → EXITED.

        Both default to what it was created with; timeout 0 kills at once. With ``fast_stop`` a
        signal that its pid 1 cannot receive is not waited for (the reason is then
        STOP_ESCALATED). Returns how it ended; None if it never ran. Stopping what does not run is
        fine.
        """
        return run(self._stop_steps(timeout, signal=signal, fast_stop=fast_stop))

    def _stop_steps(
        self, timeout: float | None, *, signal: str | int | None, fast_stop: bool
    ) -> Steps[ExitInfo | None]:
        from longshore.engine import stopping

        return stopping.stop_steps(
            self._machinery,
            self.id,
            signal=None if signal is None else _signal_number(signal),
            timeout=timeout,
            fast=fast_stop,
        )

    def kill(self, signal: str | int = "KILL") -> None:
        """Send a signal to its pid 1, by name or number. RUNNING or PAUSED; does not wait."""
        from longshore.engine import stopping

        stopping.send_signal(self._machinery, self.id, _signal_number(signal))

    def drops(self, signal: str | int) -> bool:
        """Whether the kernel would drop a signal because its pid 1 has no handler for it.

        Outside a pid namespace the signal's default action would be taken (pid_namespaces(7)).
        """
        from longshore.engine import stopping

        return stopping.drops_default(self._machinery, self.id, _signal_number(signal))

    def pause(self) -> None:
        """Freeze all of its processes. RUNNING → PAUSED."""
        from longshore.engine import stopping

        stopping.freeze(self._machinery, self.id, Op.PAUSE)

    def unpause(self) -> None:
        """Let its processes go on. PAUSED → RUNNING."""
        from longshore.engine import stopping

        stopping.freeze(self._machinery, self.id, Op.UNPAUSE)

    def update(self, **limits: Unpack[UpdateOptions]) -> None:
        """Change its limits, in any status: at once where it runs, and for every later start.

        ``limits`` are those of `Engine.create`; what is not named stays. InvalidArgument and
        HostUnsupported for what cannot be applied, before anything is touched; after any error the
        record and the kernel have the limits that they had.
        """
        from longshore.engine import updating

        updating.update(self._machinery, self.id, limits)

    def restart(self, timeout: float | None = None) -> None:
        """Stop it as `stop` does, then start it. Any status but DAMAGED → RUNNING."""
        run(self._restart_steps(timeout))

    def _restart_steps(self, timeout: float | None) -> Steps[None]:
        if timeout is not None:
            from longshore.engine.waiting import checked_seconds

            timeout = checked_seconds(timeout)
        events.emit(self._machinery, "restart", self._machinery.store.peek(self.id))
        yield from self._stop_steps(timeout, signal=None, fast_stop=True)
        self.start()

    def remove(
        self,
        *,
        force: bool = False,
        timeout: float | None = None,
        missing_ok: bool = False,
        depend: bool = False,
    ) -> None:
        """Remove it and all its files; its last exit is kept for an hour. CREATED, EXITED → gone.

        ``force`` ends it first: at once, or after ``timeout`` seconds of grace when that is given.
        HasDependents when other containers use its namespaces; with ``depend`` these are removed
        before it, in the same way.
        """
        from longshore.engine import dependencies, stopping

        try:
            if depend:
                for dependent in dependencies.of(self._machinery, self.id):
                    Container(self._machinery, dependent).remove(
                        force=force, timeout=timeout, missing_ok=True, depend=True
                    )
            dependencies.refuse(self._machinery, self.id)  # before anything is ended
            if force:
                try:
                    if timeout is not None:
                        self.stop(timeout)
                    stopping.remove_live(self._machinery, self.id)
                except RecordCorrupt:
                    pass  # it is taken down from what can be found without its record
            finishing.remove(self._machinery, self.id, force=force)
        except NoSuchContainer:
            if not missing_ok:
                raise

    def cleanup(self) -> None:
        """Write its exit down and take away what its run left, as conmon's exit command does.

        Nothing is done to a container that runs.
        """
        finishing.after_exit(self._machinery, self.id)

    def inspect(self) -> Inspection:
        """Return all there is to know about it at this moment. Takes no lock."""
        from longshore.engine import inspection

        return inspection.inspect(self._machinery, self.id)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        after: str = "",
    ) -> Iterator[LogRecord]:
        """Yield what it has printed; with ``follow``, until the end of the run and its last byte.

        ``tail`` lines from the end; ``since_ns`` and ``until_ns`` in nanoseconds since the epoch.
        ``after`` is the cursor of a record, of any process: it goes on right behind that one. Where
        lines are missing, because they were thrown away by a rotation, comes a record without data
        (`LogRecord.gap`). Takes no lock and cannot slow the container down.
        """
        from longshore.engine import logs

        return logs.read(
            self._machinery,
            self.id,
            follow=follow,
            tail=tail,
            since_ns=since_ns,
            until_ns=until_ns,
            after=after,
        )

    def output(self) -> Iterator[tuple[str, bytes]]:
        """Yield all output of its run as (stream, data), from its beginning to its last byte.

        Faster than `logs`, and without times. Reads the log, so it cannot slow the container down.
        """
        from longshore.engine import logs

        return logs.output(self._machinery, self.id)

    def rename(self, name: str) -> None:
        """Give it another name, in any status. NameInUse; InvalidArgument."""
        from longshore.options.names import check_name

        check_name(name)
        with self._machinery.store.locked(self.id, "rename") as held:
            old = held.record.name
            self._machinery.store.rename(held, name)
            if name != old:
                events.emit(self._machinery, "rename", held.record, attributes={"oldName": old})

    def attended(self) -> Attendance:
        """Start it inside a ``with`` block, and this process cleans up at the end of the block.

        Otherwise conmon's exit command does that, which costs the start of a Python. A process
        that is killed inside the block breaks the promise safely: the exit command takes over.
        """
        self._attendance = Attendance(self)
        return self._attendance

    def feed(self, source: int | bytes) -> None:
        """Copy a descriptor, or bytes, to its standard input; stay until the container has ended.

        For containers that were created with ``interactive=True`` and are RUNNING; one feeder at a
        time. A container that does not read all of it is fine, as for a pipe whose reader has gone.
        """
        from longshore.engine import streams

        streams.feed(self._machinery, self.id, source)


class Attendance:
    """A process that stays with a container until its end; see `Container.attended`."""

    __slots__ = ("_container", "_lease")

    def __init__(self, container: Container) -> None:
        self._container = container
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Take the lease: the run directory is there, and conmon is not yet."""
        self.release()
        machinery = self._container._machinery
        self._lease = Lease(machinery.paths(self._container.id).run)

    def release(self) -> None:
        """Break off the promise: the exit command does the work."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def __exit__(self, *_: object) -> None:
        self._container._attendance = None
        try:
            if self._lease is not None:
                finishing.after_exit(self._container._machinery, self._container.id, attended=True)
        except NoSuchContainer:
            pass  # somebody else removed it
        finally:
            self.release()


def _signal_number(signal: str | int) -> int:
    from longshore.options.parse import parse_signal

    return parse_signal(signal)
