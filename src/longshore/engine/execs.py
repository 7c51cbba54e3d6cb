"""Run a command in a container: to its end (`execute`), or as a live process (`begin`)."""

from __future__ import annotations

import time

# What is not needed before the runtime is spawned is imported while that works.
from longshore.engine.execution import launch
from longshore.errors import InvalidArgument
from longshore.linux.procs import DEVNULL, PIPE, STDOUT
from longshore.models import RunResult
from longshore.options.execs import normalize_exec
from longshore.options.parse import integer, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from longshore.engine.machinery import Machinery
    from longshore.engine.process import Process
    from longshore.options.execs import ExecConfig, ExecOptions

_MOST = (1 << 63) - 1


def execute(
    machinery: Machinery,
    container_id: str,
    command: Sequence[str],
    options: ExecOptions,
    *,
    data: bytes | None = None,
    timeout: float | None = None,
    check: bool = False,
    max_output: int | None = None,
) -> RunResult:
    """Run a command to its end; see `Container.exec`. An exception of any kind kills its tree."""
    job = Job(
        machinery,
        container_id,
        command,
        options,
        data=data,
        timeout=timeout,
        max_output=max_output,
    )
    if job.tty:
        from longshore.engine.terminalexec import TerminalExec

        return TerminalExec(job).run(check=check)
    running = Execution(job)
    try:
        if not running.capture.run(running.deadline):
            running.time_out()
        return running.finish(check=check)
    except BaseException:
        running.abandon()
        raise


class Job:
    """A command to be run to its end in a container: what goes into it, and its limits.

    ``timeout`` is in seconds, ``max_output`` in bytes. InvalidArgument for what cannot be meant.
    """

    __slots__ = (
        "command", "container_id", "data", "machinery", "max_output", "options", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        machinery: Machinery,
        container_id: str,
        command: Sequence[str],
        options: ExecOptions,
        *,
        data: bytes | None,
        timeout: float | None,
        max_output: int | None,
    ) -> None:
        _require_bytes(data)
        self.machinery = machinery
        self.container_id = container_id
        self.command = command
        self.options = options
        self.data = data
        self.max_output = (
            None if max_output is None else integer(max_output, "max_output", 0, _MOST)
        )
        self.timeout = None if timeout is None else seconds(timeout, "timeout")

    @property
    def tty(self) -> bool:
        """Whether it is to have a terminal: straight through the runtime there is none."""
        return bool(self.options.get("tty"))


class Execution:
    """A command on its way to its end: ``capture`` until ``deadline``, `time_out`, `finish`.

    Or `abandon` at any point. Everything but the capturing is short.
    """

    __slots__ = ("_program", "_way", "capture", "deadline")

    def __init__(self, job: Job) -> None:
        self.deadline = None if job.timeout is None else time.monotonic() + job.timeout
        config = _normalized(job.command, job.options, stdin=job.data is not None)
        self._program = config.command[0]
        stdin = DEVNULL if job.data is None else PIPE
        self._way = launch(job.machinery, job.container_id, config, stdin=stdin)
        try:
            from longshore.engine.capture import Capture

            self.capture = Capture(self._way, job.data or b"", limit=job.max_output)
        except BaseException:
            self.abandon()
            raise

    def time_out(self) -> None:
        """Kill it with all that it has begun: its time is over."""
        self._way.kill("timeout", drain=self.capture.run)
        self.capture.run()

    def finish(self, *, check: bool) -> RunResult:
        """Return what came of it; it has ended."""
        info = self._way.exit()
        self._way.close()
        if self._way.error is not None:
            raise self._way.error
        result = RunResult(
            stdout=self.capture.stdout.data,
            stderr=self.capture.stderr.data,
            exit=info,
            stdout_dropped=self.capture.stdout.dropped,
            stderr_dropped=self.capture.stderr.dropped,
        )
        if check and not info.ok:
            from longshore.engine.reasons import failed

            raise failed(result, self._program)
        return result

    def abandon(self) -> None:
        """Kill it with all that it has begun, and leave nothing; done already is fine."""
        if self._way.fileno() >= 0:
            try:
                self._way.kill()
                self._way.exit()
            finally:
                self._way.close()


def begin(
    machinery: Machinery,
    container_id: str,
    command: Sequence[str],
    options: ExecOptions,
    *,
    stdin: bool | int = False,
    stdout: bool | int = True,
    stderr: bool | int | str = True,
    text: tuple[str, str] | None = None,
    bufsize: int = -1,
    detach: bool = False,
    awaited: bool = False,
) -> Process[Any]:
    """Begin to run a command; see `Container.popen`. ``text`` is (encoding, errors).

    ``awaited`` is for a session: see `sessionstart.start`.
    """
    if detach or options.get("tty"):
        from longshore.engine import sessionprocess

        config = normalize_exec(command, options, stdin=stdin is not False)
        return sessionprocess.begin(
            machinery,
            container_id,
            config,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            bufsize=bufsize,
            awaited=awaited,
        )
    ends = (
        _end("stdin", stdin),
        _end("stdout", stdout),
        STDOUT if stderr == "stdout" else _end("stderr", stderr),
    )
    config = _normalized(command, options, stdin=stdin is not False)
    way = launch(
        machinery, container_id, config, stdin=ends[0], stdout=ends[1], stderr=ends[2], live=True
    )
    try:
        from longshore.engine.process import Process

        return Process(way, config.command, merged=ends[2] == STDOUT, text=text, bufsize=bufsize)
    except BaseException:
        way.kill()
        way.exit()
        way.close()
        raise


def _normalized(command: Sequence[str], options: ExecOptions, *, stdin: bool) -> ExecConfig:
    config = normalize_exec(command, options, stdin=stdin)
    assert not config.tty  # what is run straight through the runtime has no terminal
    return config


def _require_bytes(data: object) -> None:
    if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgument(f"input: {data!r} is not bytes", hint="text.encode()")


def _end(name: str, value: object) -> int:
    if value is True:
        return PIPE
    if value is False:
        return DEVNULL
    if isinstance(value, int) and value >= 0:
        return value
    raise InvalidArgument(
        f"{name}: {value!r} is not True, False or a descriptor",
        hint=f"{name}=file.fileno() for a file"
        + (', or "stdout" to have both on one' if name == "stderr" else ""),
    )
