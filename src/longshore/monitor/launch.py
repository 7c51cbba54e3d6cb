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

from longshore import _log
from longshore._value import Value
from longshore.errors import HostUnsupported, MonitorFailed, MonitorGone, OperationTimeout
from longshore.linux.procs import (
    clean_env,
    memory_file,
    poll_until,
    read_memory_file,
    spawn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from subprocess import Popen
    from typing import Protocol, Self

    class Telling(Protocol):
        """What a `Handshake` needs to know of what conmon is told."""

        @property
        def name(self) -> str: ...
        @property
        def runtime(self) -> str: ...
        @property
        def bundle(self) -> str: ...
        @property
        def terminal(self) -> bool: ...
        def argv(self, conmon: str) -> list[str]: ...


# env(1): conmon gives its own environment to the runtime, and cannot be told to leave anything out.
_ENV = "/usr/bin/env"
_LONGEST = 107  # sun_path of unix(7)
_LONGEST_TMPDIR = _LONGEST - len("/conmon-term.XXXXXX")
_FIRST_ACTIVATED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
NOTIFY_FILE = "notify/notify.sock"  # in the bundle (conn_sock.c)
_DETAILS = ("[conmon:d]", "[conmon:i]")  # how conmon begins a line of debug or info on stderr


class Inherited(Value):
    """What of our own process goes on to conmon and its container (S7).

    Activation sockets, as sd_listen_fds(3) defines them: LISTEN_FDS descriptors from 3 on, if
    LISTEN_PID is this process. They keep their numbers in conmon, which gives them to the runtime's
    create, which gives them to the container's init (conmon 2.1.6, crun 1.8.1, runc 1.1.5,
    measured). Whoever has taken them over unsets the variables, and no container gets them.

    NOTIFY_SOCKET goes to conmon, and never to the runtime. `create` would not wait for it, but give
    the container a directory in its root and the address of a socket at which `start` alone
    listens, and `start` would wait for READY=1 or the container's end (both runtimes, measured),
    while the container's lock is held. conmon can stand between instead (``relay``): it listens in
    the bundle, at `NOTIFY_FILE`, and passes READY=1 and WATCHDOG=1 on (conn_sock.c of 2.1.6);
    2.1.12 also STATUS, ERRNO, RELOADING and STOPPING, and none MAINPID (measured).
    """

    env: Mapping[str, str] = {}  # of conmon
    sockets: tuple[int, ...] = ()  # 3, 4, …; open in this process
    container_env: tuple[str, ...] = ()  # NAME=value; crun 1.8 leaves it to config.json
    hidden_env: tuple[str, ...] = ()  # names in ``env`` that are not for the runtime
    relay: str = ""  # the socket that conmon passes the program's words on to


def inherited(*, notifies: bool = True, relays: bool = False) -> Inherited:
    """Look at our own environment. Activation sockets that are not open are a warning.

    ``notifies``: NOTIFY_SOCKET is for conmon; ``relays``: and, by it, for the container's program.
    HostUnsupported for one that conmon cannot relay to.
    """
    env: dict[str, str] = {}
    notify = os.environ.get("NOTIFY_SOCKET", "") if notifies else ""
    if notify and relays and not (notify.startswith("/") and len(os.fsencode(notify)) <= _LONGEST):
        raise HostUnsupported(
            "conmon passes its program's READY on to a socket that has a path",
            f"NOTIFY_SOCKET={notify}",
            hint="--sdnotify=conmon says READY at its start instead, --sdnotify=ignore nothing",
        )
    if notify:
        env["NOTIFY_SOCKET"] = notify
    sockets = _activation_sockets()
    container_env: list[str] = []
    if sockets:
        # 1 is the container's init; conmon sets LISTEN_PID to the runtime's pid for the runtime.
        words = {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": "1"}
        env |= words
        names = os.environ.get("LISTEN_FDNAMES", "")
        container_env = [f"{n}={v}" for n, v in (*words.items(), ("LISTEN_FDNAMES", names)) if v]
    return Inherited(
        env=env,
        sockets=sockets,
        container_env=tuple(container_env),
        hidden_env=("NOTIFY_SOCKET",) if notify else (),
        relay=notify if relays else "",
    )


def _activation_sockets() -> tuple[int, ...]:
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return ()  # nothing, or for another process
    sockets: list[int] = []
    for number in range(_FIRST_ACTIVATED, _FIRST_ACTIVATED + int(count)):
        try:
            os.fstat(number)
        except OSError:
            _log.warn(
                f"LISTEN_FDS is {count}, and descriptor {number} is not open: the container gets "
                "no activation sockets"
            )
            return ()
        sockets.append(number)
    return tuple(sockets)


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
    socket_dir: str = ""  # with an empty one the attach socket is in the bundle
    terminal: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    systemd_cgroup: bool = False
    log_size_max: int = -1
    log_old_files: int = 0  # conmon itself keeps as many (--log-rotate, from 2.2), or none
    no_pivot: bool = False
    exit_command: tuple[str, ...] = ()
    log_level: str = "warning"  # conmon's default; "debug" also writes to syslog
    sync_log: bool = True
    activated: bool = False  # it is given activation sockets; see `Inherited`
    hidden_env: tuple[str, ...] = ()  # variables of conmon's that the runtime must not see
    relay: str = ""  # a socket that it passes READY=1 on to; see `Inherited`
    restore: str = ""
    restore_args: tuple[str, ...] = ()
    timeout: int = 0  # seconds; conmon then kills the container, whoever else is alive

    def argv(self, conmon: str) -> list[str]:
        """Return conmon's command line. Value and option are one word where a value is free."""
        command, *command_args = self.exit_command or ("",)
        runtime, *runtime_args = self.runtime, *self.runtime_args
        if self.hidden_env:
            hiding = [word for name in self.hidden_env for word in ("-u", name)]
            runtime, runtime_args = _ENV, [*hiding, runtime, *runtime_args]
        return [
            conmon,
            *("--api-version", "1"),
            *("-c", self.container_id),
            *("-u", self.container_id),
            f"--name={self.name}",
            *("-r", runtime),
            *(f"--runtime-arg={arg}" for arg in runtime_args),
            *("-b", self.bundle),
            *("-p", self.pidfile),
            *("-P", self.conmon_pidfile),
            *("-l", self.log),
            *("--exit-dir", self.exit_dir),
            *(["--socket-dir-path", self.socket_dir] if self.socket_dir else ["--full-attach"]),
            *(["-t"] if self.terminal else ["-i"] if self.stdin else []),
            *(["--leave-stdin-open"] if self.leave_stdin_open else []),
            *(["-s"] if self.systemd_cgroup else []),
            *(["--log-size-max", str(self.log_size_max)] if self.log_size_max >= 0 else []),
            *(
                ["--log-rotate", "--log-max-files", str(self.log_old_files)]
                if self.log_old_files > 0
                else []
            ),
            *(["--no-pivot"] if self.no_pivot else []),
            *(["--no-sync-log"] if not self.sync_log else []),
            *("--log-level", self.log_level),
            *(["--syslog"] if self.log_level == "debug" else []),
            # Older than --full-attach: no conmon that we can use lacks it.
            *(["--replace-listen-pid"] if self.activated else []),
            *([f"--sdnotify-socket={self.relay}"] if self.relay else []),
            *(["-T", str(self.timeout)] if self.timeout > 0 else []),
            *([f"--exit-command={command}"] if command else []),
            *(f"--exit-command-arg={arg}" for arg in command_args),
            *(["--restore", self.restore] if self.restore else []),
            *(f"--restore-arg={arg}" for arg in self.restore_args),
        ]


def _short_tmpdir() -> dict[str, str]:
    """Return where conmon may make the socket through which it receives a terminal.

    In TMPDIR, it thinks, and fails where that is too long for the path of a socket, or not there.
    """
    directory = os.environ.get("TMPDIR", "/tmp")
    usable = os.access(directory, os.W_OK | os.X_OK)
    return {} if usable and len(os.fsencode(directory)) < _LONGEST_TMPDIR else {"TMPDIR": "/tmp"}


class CreationRefused(MonitorFailed):
    """conmon did its part, and passes on why the runtime did not create the container."""


class Handshake:
    """One conmon from its spawn to its first word; a context manager. Errors name the container.

    Order: spawn (by the constructor), place ``pid`` into a cgroup, `release`, `container_pid`.
    Leaving the context closes every descriptor; unless `container_pid` succeeded it also ends
    conmon, so that nothing of ours is left running.
    """

    __slots__ = (
        "_answered", "_argv", "_cleanup", "_launch", "_messages", "_process", "_start", "_sync",
    )  # fmt: skip
    _aim = "create container {}"
    _done = "created"
    _awaited = "the container's pid"

    def __init__(
        self,
        conmon: str,
        launch: Telling,
        *,
        env: Mapping[str, str] | None = None,
        keep_fds: Sequence[int] = (),
        spawning: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        entering: Sequence[str] = (),
    ) -> None:
        """``keep_fds`` stay open in conmon for as long as it lives, under the same numbers.

        ``entering`` are the words of a program that executes it in its own place.
        conmon is spawned in a context of ``spawning``, by this thread: S11. Raises ProgramNotFound
        or ProgramNotExecutable for conmon itself.
        """
        self._launch = launch
        self._answered = False
        self._argv = [*entering, *launch.argv(conmon)]
        if _log.is_debugging():
            import shlex

            _log.debug(f"container {launch.name}: {shlex.join(self._argv)}")
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
                    own_env = clean_env(
                        {
                            **(_short_tmpdir() if launch.terminal else {}),
                            **(env or {}),
                            "_OCI_SYNCPIPE": str(child_sync),
                            "_OCI_STARTPIPE": str(child_start),
                        }
                    )
                    with spawning():
                        self._process: Popen[bytes] = spawn(
                            self._argv,
                            env=own_env,
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
                f"{self._cannot}: conmon's answer is not what was agreed: {line!r}",
                argv=self._argv,
                stderr=self._words(),
                hint="is this conmon at least 2.0? `conmon --version`",
            ) from err
        if pid <= 0:
            words = self._words()
            raise CreationRefused(message.strip() or words, argv=self._argv, stderr=words)
        self._answered = True
        return pid

    @property
    def _cannot(self) -> str:
        return f"cannot {self._aim.format(self._launch.name)}"

    def _words(self) -> str:
        text = read_memory_file(self._messages).decode("utf-8", "replace")
        return "\n".join(
            line for line in text.splitlines() if not line.startswith(_DETAILS)
        ).strip()

    def _read_line(self, deadline: float, timeout: float) -> bytes:
        data = bytearray()
        while b"\n" not in data:
            if not poll_until([self._sync], deadline):
                raise OperationTimeout(
                    f"{self._cannot}: it was not {self._done} within {timeout:g} s",
                    hint="a hook or a hanging mount may hold the runtime up: docs/debugging.md",
                )
            chunk = os.read(self._sync, 65536)
            if not chunk:
                raise self._gone(data.decode("utf-8", "replace"))
            data += chunk
            if len(data) > 1 << 20:
                break  # no answer is that long: let the parser refuse it
        return bytes(data.partition(b"\n")[0])

    def _gone(self, told: str) -> MonitorGone:
        words, runtime = self._words() or told, self._launch.runtime
        hint = "run it by hand as `docs/debugging.md` shows"
        if not words:
            words = f"neither it nor the runtime {runtime} said why"
            hint = f"is {runtime} an OCI runtime? {hint}"
        return MonitorGone(
            f"{self._cannot}: conmon ended before it had told {self._awaited}: {words}",
            argv=self._argv,
            stderr=self._words(),
            hint=hint,
        )

    def _close_start(self) -> None:
        if self._start >= 0:
            os.close(self._start)
            self._start = -1
