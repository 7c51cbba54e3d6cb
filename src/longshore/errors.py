"""Every exception of Longshore: what happened, to whom, and what to try.

``str(error)`` is the sentence; ``error.hint``, when there is one, says what to try;
``error.exit_code`` is what the command line ends with. All of them survive pickling, so they can
cross a process pool.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from longshore.models import ExitInfo, RunResult

__all__ = [
    "Busy",
    "CommandFailed",
    "ContainerFailed",
    "HasDependents",
    "HostUnsupported",
    "InvalidArgument",
    "LongshoreError",
    "MonitorFailed",
    "MonitorGone",
    "NameInUse",
    "NoSuchContainer",
    "NoSuchExec",
    "NoSuchImage",
    "NoSuchPath",
    "OperationTimeout",
    "ProgramNotExecutable",
    "ProgramNotFound",
    "RecordCorrupt",
    "RuntimeFailed",
    "StoreError",
    "WrongState",
]

_SHOWN_OUTPUT = 2000  # characters of a program's words in a message; the attribute has them all


def _rebuild(cls: type[LongshoreError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class LongshoreError(Exception):
    """Base of all errors. ``hint`` is one line that says what to try, or None."""

    exit_code: int = 125
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class InvalidArgument(LongshoreError, ValueError):
    """A value that makes no sense, found before anything was touched."""


class NoSuchContainer(LongshoreError, LookupError):
    """No container has this name, id or beginning of an id."""


class NoSuchExec(LongshoreError, LookupError):
    """No exec session has this id."""


class NoSuchImage(LongshoreError, LookupError):
    """No image has this name."""


class NoSuchPath(LongshoreError, FileNotFoundError):
    """Nothing has this path, in a container or on the host."""


class NameInUse(LongshoreError):
    """The name belongs to another container."""


class HasDependents(LongshoreError):
    """Other containers use a container's namespaces; ``dependents`` are their names."""

    def __init__(self, subject: str, dependents: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(
            f"container {subject} has dependent containers, which must be removed before it: "
            f"{', '.join(dependents)}",
            hint=hint or f"`longshore rm --depend {subject}` removes them too",
        )
        self.subject = subject
        self.dependents = tuple(dependents)


class WrongState(LongshoreError):
    """An operation that the container's status does not permit.

    ``permitted`` are the statuses from which ``op`` is possible.
    """

    def __init__(
        self,
        subject: str,
        op: str,
        actual: str,
        permitted: Sequence[str],
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(
            f"cannot {op} container {subject}: it is {actual}, "
            f"and has to be {' or '.join(permitted) or 'something else'}",
            hint=hint,
        )
        self.subject = subject
        self.op = op
        self.actual = actual
        self.permitted = tuple(permitted)


class OperationTimeout(LongshoreError, TimeoutError):
    """The time that the caller gave is over; nothing was undone or killed because of it."""


class HostUnsupported(LongshoreError):
    """This host lacks something that the request needs."""

    def __init__(self, requirement: str, found: str, *, hint: str | None = None) -> None:
        super().__init__(f"{requirement}; found: {found}", hint=hint)
        self.requirement = requirement
        self.found = found


class Busy(LongshoreError):
    """Another operation holds this container. ``holder`` names its process and operation."""

    def __init__(self, subject: str, holder: str, since: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"container {subject} is busy: held by {holder} since {since}",
            hint=hint or "wait for it, or end that process; the lock goes with it",
        )
        self.subject = subject
        self.holder = holder
        self.since = since


class CommandFailed(LongshoreError):
    """A program that Longshore ran did not succeed.

    ``argv``, ``returncode``, ``stdout`` and ``stderr`` are whole; the message is trimmed.
    """

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str] = (),
        returncode: int | None = None,
        stdout: str = "",
        stderr: str = "",
        hint: str | None = None,
    ) -> None:
        words = message if len(message) <= _SHOWN_OUTPUT else message[:_SHOWN_OUTPUT] + " […]"
        super().__init__(words, hint=hint)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class RuntimeFailed(CommandFailed):
    """The OCI runtime refused; the message carries its own words."""


class ProgramNotFound(RuntimeFailed):
    """The program to run does not exist (in the container, or conmon or the runtime itself)."""

    exit_code = 127


class ProgramNotExecutable(RuntimeFailed):
    """The program to run exists and cannot be executed."""

    exit_code = 126


class MonitorFailed(CommandFailed):
    """conmon could not do its part; the message carries its own words."""


class MonitorGone(MonitorFailed):
    """conmon ended before it had said whether the container was created."""


class StoreError(LongshoreError):
    """What is on disk could not be read or written."""


class RecordCorrupt(StoreError):
    """One container's record cannot be understood; other containers are not touched by it."""

    def __init__(self, path: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"the record {path} is damaged: {why}",
            hint=hint
            or "`longshore rm --force` removes the container; its files can be saved first",
        )
        self.path = path
        self.why = why


class ContainerFailed(LongshoreError):
    """A command in a container ended badly, and the caller had asked for ``check=True``.

    ``result`` has both outputs and the `ExitInfo`.
    """

    def __init__(self, message: str, result: RunResult, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result

    @property
    def stdout(self) -> bytes:
        """What it printed, as `subprocess.CalledProcessError` has it."""
        return self.result.stdout

    @property
    def stderr(self) -> bytes:
        """What it printed on standard error."""
        return self.result.stderr

    @property
    def returncode(self) -> int:
        """Its exit code."""
        return self.result.exit.code

    @property
    def exit(self) -> ExitInfo:
        """How it ended."""
        return self.result.exit
