"""Start conmon and hear from it how the container's creation went.

conmon outlives us: it forks twice, so neither it nor the container's init is our child. Facts:
conmon(8) and `reference` measurements on conmon 2.1.6 and 2.1.13. The sync pipe carries one line of
JSON, the start pipe holds conmon back until it has been put into its cgroup.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from longshore._value import Value
from longshore.errors import MonitorFailed, MonitorGone, OperationTimeout
from longshore.linux.procs import (
    clean_env,
    memory_file,
    poll_until,
    read_memory_file,
    spawn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen
    from typing import Self


class Launch(Value):
    """What conmon is told. It learns the runtime's path and flags, and not what they mean."""

    container_id: str
    name: str
    runtime: str  # path of the binary
    runtime_args: tuple[str, ...]  # before the verb
    bundle: str
    pidfile: str
    conmon_pidfile: str
    log: str  # DRIVER:PATH
    exit_dir: str
    persist_dir: str = ""
    socket_dir: str = ""  # with an empty one the attach socket is in the bundle
    terminal: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    systemd_cgroup: bool = False
    log_size_max: int = -1
    log_tag: str = ""
    no_pivot: bool = False
    exit_command: tuple[str, ...] = ()
    log_level: str = "warning"
    syslog: bool = False
    sync_log: bool = True
    restore: str = ""
    restore_args: tuple[str, ...] = ()
    timeout: int = 0  # seconds; conmon then kills the container, whoever else is alive

    def argv(self, conmon: str) -> list[str]:
        """Return conmon's command line. Value and option are one word where a value is free."""
        command, *command_args = self.exit_command or ("",)
        return [
            conmon,
            *("--api-version", "1"),
            *("-c", self.container_id),
            *("-u", self.container_id),
            f"--name={self.name}",
            *("-r", self.runtime),
            *(f"--runtime-arg={arg}" for arg in self.runtime_args),
            *("-b", self.bundle),
            *("-p", self.pidfile),
            *("-P", self.conmon_pidfile),
            *("-l", self.log),
            *("--exit-dir", self.exit_dir),
            *(["--persist-dir", self.persist_dir] if self.persist_dir else []),
            *(["--socket-dir-path", self.socket_dir] if self.socket_dir else ["--full-attach"]),
            *(["-t"] if self.terminal else ["-i"] if self.stdin else []),
            *(["--leave-stdin-open"] if self.leave_stdin_open else []),
            *(["-s"] if self.systemd_cgroup else []),
            *(["--log-size-max", str(self.log_size_max)] if self.log_size_max >= 0 else []),
            *([f"--log-tag={self.log_tag}"] if self.log_tag else []),
            *(["--no-pivot"] if self.no_pivot else []),
            *(["--no-sync-log"] if not self.sync_log else []),
            *("--log-level", self.log_level),
            *(["-T", str(self.timeout)] if self.timeout > 0 else []),
            *(["--syslog"] if self.syslog else []),
            *([f"--exit-command={command}"] if command else []),
            *(f"--exit-command-arg={arg}" for arg in command_args),
            *(["--restore", self.restore] if self.restore else []),
            *(f"--restore-arg={arg}" for arg in self.restore_args),
        ]


class CreationRefused(MonitorFailed):
    """conmon did its part, and passes on why the runtime did not create the container."""


class Handshake:
    """One conmon from its spawn to its first word; a context manager.

    Order: spawn (by the constructor), place ``pid`` into a cgroup, `release`, `container_pid`.
    Leaving the context closes every descriptor; unless `container_pid` succeeded it also ends
    conmon, so that nothing of ours is left running.
    """

    __slots__ = ("_answered", "_cleanup", "_launch", "_messages", "_process", "_start", "_sync")

    def __init__(
        self,
        conmon: str,
        launch: Launch,
        *,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
    ) -> None:
        """``keep_fds`` stay open in conmon for as long as it lives, under the same numbers.

        Raises ProgramNotFound or ProgramNotExecutable for conmon itself.
        """
        self._launch = launch
        self._answered = False
        with contextlib.ExitStack() as stack:
            self._sync, child_sync = os.pipe()
            stack.callback(os.close, self._sync)
            try:
                child_start, self._start = os.pipe()
                try:
                    # conmon's own words before it has turned to its log; a file in memory, because
                    # the monitor that stays would hold a pipe open
                    self._messages = memory_file("conmon-stderr")
                    stack.callback(os.close, self._messages)
                    stack.callback(self._close_start)
                    self._process: Popen[bytes] = spawn(
                        launch.argv(conmon),
                        env=clean_env(
                            {
                                **(env or {}),
                                "_OCI_SYNCPIPE": str(child_sync),
                                "_OCI_STARTPIPE": str(child_start),
                            }
                        ),
                        stderr=self._messages,
                        cwd=launch.bundle,
                        pass_fds=(child_sync, child_start, *keep_fds),
                        new_group=True,
                    )
                finally:
                    os.close(child_start)
            finally:
                os.close(child_sync)
            self._cleanup = stack.pop_all()

    @property
    def pid(self) -> int:
        """The pid of the conmon that was spawned; after its fork another one stays."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._answered and self._process.poll() is None:
                self._process.kill()
        finally:
            self._cleanup.close()  # the start pipe too: without it conmon would wait for ever
            self._process.wait()

    def release(self) -> None:
        """Let conmon go on to fork and to run the runtime."""
        with contextlib.suppress(BrokenPipeError):  # it died: the sync pipe tells
            os.write(self._start, b"\0")
        self._close_start()

    def container_pid(self, timeout: float) -> int:
        """Return the pid of the container's init, as soon as the runtime has created it.

        ``timeout`` is in seconds. MonitorFailed carries the runtime's words when the creation
        failed; MonitorGone: conmon ended without a word; OperationTimeout: the time was over.
        """
        line = self._read_line(time.monotonic() + timeout, timeout)
        try:
            answer = json.loads(line)
            pid = int(answer["data"] if "data" in answer else answer["pid"])
            message = str(answer.get("message", ""))
        except (ValueError, KeyError, TypeError, OverflowError) as err:
            raise MonitorFailed(
                f"conmon's answer for container {self._subject} is not what was agreed: {line!r}",
                stderr=self._words(),
                hint="is this conmon at least 2.0? `conmon --version`",
            ) from err
        if pid <= 0:
            raise CreationRefused(message.strip() or self._words(), stderr=self._words())
        self._answered = True
        return pid

    @property
    def _subject(self) -> str:
        return self._launch.container_id[:12]

    def _words(self) -> str:
        return read_memory_file(self._messages).decode("utf-8", "replace").strip()

    def _read_line(self, deadline: float, timeout: float) -> bytes:
        data = bytearray()
        while b"\n" not in data:
            if not poll_until([self._sync], deadline):
                raise OperationTimeout(
                    f"container {self._subject} was not created within {timeout:g} s",
                    hint="a hook or a hanging mount may hold the runtime up: docs/debugging.md",
                )
            chunk = os.read(self._sync, 65536)
            if not chunk:
                raise MonitorGone(
                    f"conmon ended before it had created container {self._subject}: "
                    f"{self._words() or data.decode('utf-8', 'replace') or 'it said nothing'}",
                    stderr=self._words(),
                    hint="run it by hand as `docs/debugging.md` shows",
                )
            data += chunk
            if len(data) > 1 << 20:
                break  # no answer is that long: let the parser refuse it
        return bytes(data.partition(b"\n")[0])

    def _close_start(self) -> None:
        if self._start >= 0:
            os.close(self._start)
            self._start = -1
