"""Start conmon for a second process in a container, and hear from it how that went.

What differs from a container's own conmon (`monitor.launch`), on conmon 2.1.6 with crun 1.8.1 and
runc 1.1.5, measured: it runs `RUNTIME exec --detach --process FILE …` and stays as the parent of
what that leaves. The sync pipe then carries the pid, later the exit code; both can come at once.
The exit file is named after the container, so each session needs a directory of its own for it. A
program that could not be run leaves no exit file; with a terminal crun's words do not even come
through the sync pipe, which just ends: they are in the runtime's log.
"""

from __future__ import annotations

import contextlib

from longshore._value import Value
from longshore.monitor.launch import Handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager


class SessionLaunch(Value):
    """What conmon is told of one exec session. Paths are the host's."""

    container_id: str
    session_id: str
    name: str  # of the container
    runtime: str  # path of the binary
    runtime_args: tuple[str, ...]  # before the verb
    exec_args: tuple[str, ...] = ()  # behind the verb, before the container's id
    process: str  # the file that describes the process
    bundle: str  # its own: the attach socket and the fifos are made there
    pidfile: str
    conmon_pidfile: str
    log: str  # DRIVER:PATH
    exit_dir: str
    terminal: bool = False
    stdin: bool = False
    exit_command: tuple[str, ...] = ()
    log_level: str = "warning"

    def argv(self, conmon: str) -> list[str]:
        """Return conmon's command line. Value and option are one word where a value is free."""
        command, *command_args = self.exit_command or ("",)
        return [
            conmon,
            *("--api-version", "1"),
            *("-c", self.container_id),
            *("-u", self.session_id),
            f"--name={self.name}",
            *("-r", self.runtime),
            *(f"--runtime-arg={arg}" for arg in self.runtime_args),
            *("-b", self.bundle),
            *("-p", self.pidfile),
            *("-P", self.conmon_pidfile),
            *("-l", self.log),
            *("--exit-dir", self.exit_dir),
            "--full-attach",
            *(["-t"] if self.terminal else ["-i"] if self.stdin else []),
            "--no-sync-log",
            *("--log-level", self.log_level),
            *(["--syslog"] if self.log_level == "debug" else []),
            *([f"--exit-command={command}"] if command else []),
            *(f"--exit-command-arg={arg}" for arg in command_args),
            "--exec",
            *("--exec-process-spec", self.process),
            *(f"--runtime-opt={arg}" for arg in self.exec_args),
        ]


class SessionHandshake(Handshake):
    """One conmon of a session from its spawn to its first word; used as `Handshake` is.

    `container_pid` returns the pid of the session's own process.
    """

    __slots__ = ()
    _aim = "run a process in container {}"
    _done = "started"
    _awaited = "the process's pid"

    def __init__(
        self,
        conmon: str,
        launch: SessionLaunch,
        *,
        env: Mapping[str, str] | None = None,
        preserved: int = 0,
        spawning: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        entering: Sequence[str] = (),
    ) -> None:
        """``preserved`` descriptors, from 3 on, are for the process: it has the same numbers."""
        fds = tuple(range(3, 3 + preserved))
        super().__init__(
            conmon, launch, env=env, keep_fds=fds, spawning=spawning, entering=entering
        )
