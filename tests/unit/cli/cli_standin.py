"""A stand-in for the engine: containers that are values, and a list of what was asked of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Self

from longshore.config import Settings
from longshore.engine.inspection import Inspection
from longshore.errors import InvalidArgument, LongshoreError, NoSuchContainer, WrongState
from longshore.lifecycle import Status
from longshore.models import ContainerId, ExitInfo, ExitReason, LogRecord
from longshore.options import ContainerConfig

SECOND = 10**9
NOW = 1_800_000_000 * SECOND


def inspection(name: str, status: Status = Status.RUNNING, **fields: object) -> Inspection:
    config = {k: fields.pop(k) for k in list(fields) if k in ContainerConfig._fields}
    values: dict[str, object] = {
        "id": ContainerId((name.encode().hex() + "0" * 64)[:64]),
        "config": ContainerConfig(**{"name": name, "command": ("sleep", "1"), **config}),
        "status": status,
        "created_ns": NOW,
        **fields,
    }
    return Inspection(**values)


def ended(code: int = 0, reason: ExitReason = ExitReason.EXITED) -> ExitInfo:
    return ExitInfo(code=code, reason=reason, started_ns=NOW, finished_ns=NOW + SECOND)


class StandIn:
    """The part of `Engine` that the command line uses, over a list of inspections."""

    def __init__(self, *found: Inspection) -> None:
        self.found = {one.config.name: one for one in found}
        self.asked: list[tuple[object, ...]] = []
        self.kept: dict[str, ExitInfo] = {}
        self.records: list[LogRecord] = []
        self.records_of: dict[str, list[LogRecord]] = {}  # by container
        self.failure: LongshoreError | None = None  # of every start
        self.until: threading.Event | None = None  # what output goes on until
        self.dropped: set[int] = set()  # signals that pid 1 has no handler for
        self.exit = ended(7)  # of every run
        self.endless = False  # attachments go on until their input ends, or they are closed
        self.dropped_bytes = 0  # by every attachment
        self.settings = Settings(root="/r", run_root="/s")

    def inspect_all(self) -> list[Inspection]:
        return sorted(self.found.values(), key=lambda one: -one.created_ns)

    def get(self, ref: str) -> StandInContainer:
        for one in self.found.values():
            if ref == one.config.name or one.id.startswith(ref):
                return StandInContainer(self, one)
        raise NoSuchContainer(f"there is no container {ref!r}")

    def _create(
        self,
        image: str | None,
        command: list[str] | None,
        options: dict[str, object],
        *,
        checked: bool = False,
    ) -> object:
        return self.create(image, command, **options)

    def create(self, image: str | None, command: list[str] | None, **options: object) -> object:
        self.asked.append(("create", image, command, options))
        kept = {name: bool(options.get(name)) for name in ("interactive", "tty")}
        one = inspection(str(options.get("name") or "new"), Status.CREATED, **kept)
        self.found[one.config.name] = one
        return StandInContainer(self, one)

    def exit_of(self, ident: str) -> ExitInfo | None:
        return self.kept.get(ident)

    def prune(self) -> list[str]:
        self.asked.append(("prune",))
        return [one.id for one in self.found.values() if one.status is Status.EXITED]


class StandInAttachment:
    """The part of `Attachment` that the command line uses; it ends when it is closed."""

    def __init__(self, container: StandInContainer, output: Iterator[tuple[str, bytes]]) -> None:
        self._container = container
        self._output = output
        self._closed = threading.Event()
        self._endless = container._engine.endless
        self.dropped = container._engine.dropped_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        yield from self._output
        if self._endless:
            assert self._closed.wait(20)

    def write(self, data: bytes) -> None:
        self._container._ask("write", data)

    def close_stdin(self) -> None:
        self._container._ask("close_stdin")
        self._closed.set()  # a program that reads its input to the end

    def resize(self, rows: int, columns: int) -> None:
        self._container._ask("resize", rows, columns)

    def close(self) -> None:
        self._closed.set()


class StandInContainer:
    """The part of `Container` that the command line uses."""

    def __init__(self, engine: StandIn, one: Inspection) -> None:
        self._engine = engine
        self._one = one
        self.id = one.id
        self.name = one.config.name

    def _ask(self, *what: object) -> None:
        self._engine.asked.append((what[0], self.name, *what[1:]))

    def start(self, **_: object) -> None:
        self._ask("start")
        if self._engine.failure is not None:
            raise self._engine.failure

    def attended(self) -> StandInContainer:
        return self

    def __enter__(self) -> None:
        self._ask("attend")

    def __exit__(self, *_: object) -> None:
        self._ask("leave")

    def output(self) -> Iterator[tuple[str, bytes]]:
        for record in self._engine.records:
            yield record.stream, record.data
        if self._engine.until is not None:
            assert self._engine.until.wait(20)

    def attach(self, *, start: bool = False, stdin: bool = False, **how: object) -> object:
        if start:
            self.start()
        self._ask("attach", stdin, how)
        return StandInAttachment(self, self.output())

    def stop(self, timeout: float | None = None) -> ExitInfo | None:
        self._ask("stop", timeout)
        return None

    def drops(self, signal: int) -> bool:
        return signal in self._engine.dropped

    def kill(self, signal: int) -> None:
        if self._one.status is not Status.RUNNING and self._engine.until is None:
            raise WrongState(self.name, "kill", self._one.status.value, ["running"])
        self._ask("kill", signal)
        if self._engine.until is not None:
            self._engine.until.set()

    def pause(self) -> None:
        self._ask("pause")

    def unpause(self) -> None:
        self._ask("unpause")

    def update(self, **limits: object) -> None:
        self._ask("update", limits)

    def restart(self, timeout: float | None = None) -> None:
        self._ask("restart", timeout)

    def cleanup(self) -> None:
        self._ask("cleanup")

    def rename(self, name: str) -> None:
        self._ask("rename", name)

    def remove(
        self,
        *,
        force: bool = False,
        timeout: float | None = None,
        missing_ok: bool = False,
        depend: bool = False,
    ) -> None:
        if self._one.status is Status.RUNNING and not force:
            raise WrongState(self.name, "remove", "running", ["exited"])
        self._ask("remove", force, timeout, *(("depend",) if depend else ()))
        del self._engine.found[self.name]

    def wait(self, timeout: float | None = None, *, condition: str = "exited") -> ExitInfo:
        if condition not in ("exited", "next_exit", "removed"):
            raise InvalidArgument(f"there is no condition {condition!r}")
        self._ask("wait", condition)
        return self._one.exit or self._engine.exit

    def inspect(self) -> Inspection:
        return self._one

    def logs(self, **how: object) -> list[LogRecord]:
        self._ask("logs", how)
        return self._engine.records_of.get(self.name, self._engine.records)
