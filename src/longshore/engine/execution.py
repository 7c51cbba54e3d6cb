"""A second process straight through the runtime: nothing stands between it and the caller.

The runtime's call is our own child, the streams are pipes that the runtime hands on, and the whole
process is described by a file (`oci.process`). No lock is taken and no record is written. What
processes belong to it is `trees`'s, and that is also how it is ended when its owner is gone.

crun gives its own descriptors to the program. runc stays in between in a foreground exec: it copies
from pipes of its own, and returns only when nobody holds these any more (runc 1.1.5, measured).
"""

from __future__ import annotations

import json
import os
import signal
import time
from _thread import RLock

from longshore.engine import events
from longshore.engine.observe import look
from longshore.engine.reasons import decide, start_failed
from longshore.engine.roots import place, user_of
from longshore.engine.trees import Gate, Tree, container_ooms, end_orphans
from longshore.errors import InvalidArgument, LongshoreError, NoSuchContainer, WrongState
from longshore.lifecycle import Op, require
from longshore.linux.processes import identify, is_ending, open_pidfd, parent_of
from longshore.linux.procs import (
    DEVNULL,
    PIPE,
    STDOUT,
    clean_env,
    inherits_nothing,
    poll_until,
    read_memory_file,
    reap,
    spawn,
    spawn_numbered,
)
from longshore.models import ExitInfo, ExitReason
from longshore.runtime.driver import EXEC
from longshore.runtime.failures import has_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from longshore.engine.machinery import Machinery
    from longshore.oci.schema import Process as ProcessSpec
    from longshore.options.execs import ExecConfig
    from longshore.runtime import Runtime
    from longshore.store import Record

_SIGKILL = 9
# seconds; a runtime whose program has been killed ends at once, unless it has none yet
_RUNTIME_END = 0.05
_LOOK, _LOOKS = 0.01, 20  # seconds, times; see `Direct.is_genuine`


def describe(machinery: Machinery, record: Record, config: ExecConfig, init: int) -> ProcessSpec:
    """Return the process that is asked for, from the container's own spec."""
    from longshore.oci.process import exec_process

    try:
        with open(machinery.paths(record.id).config, "rb") as file:
            spec = json.load(file)
    except (OSError, ValueError) as err:
        _refuse_ended(machinery, record.id, err)
        raise LongshoreError(
            f"cannot run a process in container {record.name}: reading its config.json: {err}"
        ) from err
    user = None
    if config.user:
        # as it is seen from inside, whatever is mounted over its files
        user = user_of(machinery, root_of(machinery, record, init), config.user)
    mask = 0
    if config.privileged or config.cap_add:
        from longshore.oci.context import bounding_mask

        mask = bounding_mask()
    return exec_process(spec, config, user, bounding_mask=mask)


def root_of(machinery: Machinery, record: Record, init: int) -> str:
    """Return the path of a running container's root; a sandbox's is seen without its volumes."""
    if record.run is not None and record.run.sandboxed:
        return place(machinery, record)
    return f"/proc/{init}/root"


def launch(
    machinery: Machinery,
    container_id: str,
    config: ExecConfig,
    *,
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
    live: bool = False,
) -> Direct:
    """Begin to run a process; it has not begun yet when this returns. RUNNING → RUNNING.

    ``live``: its end is its program's, also with a runtime that stays in between.
    Each stream is a descriptor, or PIPE, DEVNULL, or (``stderr``) STDOUT. WrongState when the
    container does not run; what the runtime refuses shows at the end.
    """
    record = machinery.store.peek(container_id)
    sight = look(machinery, record)
    require(Op.EXEC, sight.status, record.name)
    runtime = machinery.runtime_of(record)
    assert runtime is not None and sight.init is not None  # it runs
    end_orphans(machinery, record)
    process = describe(machinery, record, config, sight.init.pid)
    confined = bool(record.run and record.run.cgroup) and runtime.confines()
    try:
        tree = Tree.begin(machinery, record, confined=confined)
    except OSError as err:
        _refuse_ended(machinery, container_id, err)
        raise LongshoreError(
            f"cannot run a process in container {record.name}: {err.filename}: {err.strerror}"
        ) from err
    if not confined:
        from longshore.engine.marked import MARKER

        process["env"] = [*process["env"], f"{MARKER}={tree.name}"]
    reaped = live and tree.inside is None and runtime.copies_streams()
    ends = (stdin, stdout, stderr)
    return Direct(machinery, record, runtime, tree, config, process, ends, reaped=reaped)


def _refuse_ended(machinery: Machinery, container_id: str, error: Exception) -> None:
    """Raise WrongState, or NoSuchContainer, if that is why something failed."""
    try:
        record = machinery.store.peek(container_id)
        require(Op.EXEC, look(machinery, record).status, record.name)
    except (WrongState, NoSuchContainer) as wrong:
        raise wrong from error


class Direct:
    """One exec; what a `Process` and a `Capture` stand on. Safe from any thread.

    ``stdin``, ``stdout`` and ``stderr`` are our ends of its pipes, or −1. `fileno` is readable when
    it has ended; `exit` says how, and takes away what it leaves: it has to be called. `close`
    comes last.
    """

    __slots__ = (
        "_container", "_described", "_gate", "_info", "_intent", "_lock", "_log", "_machinery",
        "_oom_before", "_pidfd", "_popen", "_process", "_program", "_reaped", "_record",
        "_runtime", "_runtime_pid", "_signal", "_started_ns", "_tree", "error", "stderr", "stdin",
        "stdout", "words",
    )  # fmt: skip

    def __init__(
        self,
        machinery: Machinery,
        record: Record,
        runtime: Runtime,
        tree: Tree,
        config: ExecConfig,
        process: ProcessSpec,
        streams: tuple[int, int, int],
        *,
        reaped: bool,
    ) -> None:
        """Start the runtime; ``reaped``: under a parent of its own (`reaping`), which then stands
        in its place. Whatever fails leaves nothing."""
        self._machinery = machinery
        self._record = record
        self._runtime = runtime
        self._tree = tree
        self._process = process
        self._program = config.command[0]
        self._container = os.path.dirname(tree.cgroup.path)
        self._reaped = reaped
        self._intent = ""
        self._signal = 0
        self._info: ExitInfo | None = None
        self._lock = RLock()
        self.error: LongshoreError | None = None  # why it has never begun
        self.words = b""  # what came on its stderr, if that was little and all
        self.stdin = self.stdout = self.stderr = -1
        self._log = self._described = self._pidfd = -1
        self._popen: Popen[bytes] | None = None
        self._runtime_pid = 0
        self._gate: Gate | None = None
        try:
            self._oom_before = container_ooms(self._machinery, self._container)
            self._spawn(config, process, streams)
            self._pidfd = os.pidfd_open(self._runtime_pid)
            events.emit_exec(machinery, "exec", record, tree.name)
        except BaseException:
            self._take_back()
            raise

    def _take_back(self) -> None:
        if self._runtime_pid:  # nobody has reaped it, so the number is its own
            os.killpg(self._runtime_pid, signal.SIGKILL)
            os.waitpid(self._runtime_pid, 0)
            if self._popen is not None:
                self._popen.returncode = -_SIGKILL
        if self._gate is not None:
            self._gate.close()
        self.close()
        self._tree.end()
        self._tree.remove()

    def _spawn(
        self, config: ExecConfig, process: ProcessSpec, streams: tuple[int, int, int]
    ) -> None:
        theirs: list[int] = []
        try:
            described, self._described = self._tree.file("described", json.dumps(process).encode())
            log, self._log = self._tree.file("log")
            stdin = self._end("stdin", streams[0], theirs)
            stdout = self._end("stdout", streams[1], theirs)
            stderr = stdout if streams[2] == STDOUT else self._end("stderr", streams[2], theirs)
            args = self._runtime.process_args(
                self._record.id,
                described,
                pid_file=self._tree.path,
                cgroup=self._tree.name if self._tree.confined else "",
                preserve_fds=len(config.preserve_fds),
                inner_pid_file="" if self._tree.inside is None else self._tree.inside.pid_file,
                detach=self._reaped,
            )
            argv = self._runtime.argv(args, log)
            if self._reaped:
                from longshore.engine import reaping

                argv = reaping.command(
                    self._machinery, argv, self._tree.path, preserved=len(config.preserve_fds)
                )
            gate = self._gate = Gate.of(self._machinery, self._record, self._tree)
            argv = argv if gate is None else gate.before(argv)
            env = clean_env()
            self._started_ns = time.time_ns()
            # As conmon is spawned: runc puts pipes of its own between, with its own label.
            with self._machinery.spawning():
                if config.preserve_fds or inherits_nothing():
                    self._runtime_pid = spawn_numbered(
                        argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr,
                        fds=config.preserve_fds,
                    )  # fmt: skip
                else:
                    self._popen = spawn(
                        argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr, new_session=True
                    )
                    self._runtime_pid = self._popen.pid
            if gate is not None:
                gate.pass_through(self._runtime_pid)
        finally:
            for fd in theirs:
                os.close(fd)

    def _end(self, name: str, kind: int, theirs: list[int]) -> int:
        """Return the runtime's end of a stream; the other end of a new pipe becomes ours."""
        if kind != PIPE:
            return kind
        reader, writer = os.pipe()
        if self._machinery.selinux is not None:
            # as one of conmon's: the container may open it, /dev/stdout say, and not only use it
            selinux = self._machinery.selinux
            selinux.label_pipe(writer, selinux.without_categories())
        own, other = (writer, reader) if name == "stdin" else (reader, writer)
        setattr(self, name, own)
        theirs.append(other)
        return other

    # while it runs

    def fileno(self) -> int:
        """Return a descriptor that is readable when it has ended."""
        return self._pidfd

    def ended(self, deadline: float | None = None) -> bool:
        """Whether it has ended, or does so until a `time.monotonic` moment."""
        if self._info is not None:
            return True
        return bool(poll_until([self._pidfd], time.monotonic() if deadline is None else deadline))

    def pid(self) -> int | None:
        """Return the pid of its program on this host; None before it is made and after its end."""
        pid = self._tree.program() if self._info is None else None
        if pid is None or (self._tree.inside is not None and pid == self._runtime_pid):
            return pid  # of a sandbox's program only the client is here
        while (parent := parent_of(pid)) and parent != self._runtime_pid:
            if parent_of(parent, ending=True) == self._runtime_pid:
                return pid  # `reaping`: the runtime has not left yet
            if parent_of(pid) == parent:
                return None  # another's; else it has left between the two looks
        return pid if parent else None

    def open_program(self) -> int | None:
        """Return a pidfd of its program; −1 when that has ended, None when it is not made yet."""
        if self._info is None and self._tree.program() is None:
            return None
        pid = self.pid()
        fd = open_pidfd(identify(pid)) if pid is not None else None
        if fd is None:
            return -1
        if self.pid() == pid:  # else the number was another's when it was opened
            return fd
        os.close(fd)
        return -1

    def await_program(self) -> bool:
        """Wait until its program is made (True), or it has ended (False)."""
        from longshore.linux.inotify import IN_CLOSE_WRITE, IN_MOVED_TO, Watch, poll

        if self._tree.program() is not None:
            return True
        with Watch() as watch:
            try:
                watch.add(os.path.dirname(self._tree.path), IN_CLOSE_WRITE | IN_MOVED_TO)
            except FileNotFoundError:
                return False
            while not self.ended() and self._tree.program() is None:
                poll([watch.fileno(), self._pidfd], None)
                watch.take()
        return self._tree.program() is not None

    def send(self, number: int) -> None:
        """Send a signal to its program as soon as that is made; one that has ended is fine.

        SIGKILL is for all of its processes: see `kill`.
        """
        if number == _SIGKILL:
            self.kill()
            return
        begun = self.await_program()
        if self._tree.inside is not None:
            if begun and not self.ended():
                self._intend(number)
                self._tree.inside.send(number)
            return
        fd = self.open_program() if begun else None
        if fd is None or fd < 0:
            return
        try:
            self._intend(number)
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def _intend(self, number: int) -> None:
        if self._intent in ("", "kill"):
            self._intent, self._signal = "kill", number

    def kill(self, intent: str = "kill", *, drain: Callable[[float], bool] | None = None) -> None:
        """Kill all of its processes and wait until they are gone. ``intent``: kill or timeout.

        ``drain`` reads its streams until it has ended, or a `time.monotonic` moment.
        """
        if self._info is not None:
            return
        self._intent, self._signal = intent, _SIGKILL
        try:
            self._tree.end()
        finally:
            if not (drain or self.ended)(time.monotonic() + _RUNTIME_END):
                # It was still on its way. What it has begun waits for it, and ends without it.
                with self._lock:
                    if self._info is None:  # not reaped yet: the number is its own
                        os.killpg(self._runtime_pid, signal.SIGKILL)
                self.ended(time.monotonic() + self._machinery.settings.kill_timeout)
        self._tree.end()

    def resize(self, rows: int, columns: int) -> None:  # noqa: ARG002 - others have one
        """Refuse: what goes straight through the runtime has no terminal."""
        raise InvalidArgument(
            f"cannot resize {self._program}: it has no terminal", hint="tty=True gives it one"
        )

    def is_genuine(self, words: bytes) -> bool:
        """Whether the first that came on its stderr is its program's, and not the runtime's.

        Who cannot tell yet waits a moment: a runtime that fails ends at once.
        """
        from longshore.engine.between import has_begun

        self.words = words
        for _ in range(_LOOKS):
            if has_error(read_memory_file(self._log).decode("utf-8", "replace")):
                return False
            if has_begun(self._tree, self._runtime.path):
                return True
            if self.ended(time.monotonic() + _LOOK):
                self.exit()
                return self.error is None
        return True

    def free_runtime(self) -> None:
        """Make a runtime that copies streams give up those that outlive its program.

        To be called when nobody reads them any more.
        """
        from longshore.engine.between import free_copier

        free_copier(self._tree, self._runtime_pid)

    # after its end

    def exit(self) -> ExitInfo:
        """Return how it ended; `fileno` is readable. What it leaves is taken away the first time.

        What it has left running is the container's from then on, unless it was killed. ``error`` is
        set when its program was never executed.
        """
        with self._lock:
            if self._info is None:
                self._info = self._settle()
                name, code = self._tree.name, self._info.code
                events.emit_exec(self._machinery, "exec_died", self._record, name, exit_code=code)
            return self._info

    def _settle(self) -> ExitInfo:
        code = reap(self._pidfd)
        finished = time.time_ns()
        trouble = ""
        if self._popen is not None:
            self._popen.returncode = code or 0  # it is reaped: nothing to warn of
        killed = self._signal == _SIGKILL
        if killed and code is not None and self._tree.program() is None:
            code = -_SIGKILL  # what the runtime says of it is only that its own work was cut short
        try:
            self.error = self._failure(code) if code is not None else None
            if self.error is not None or killed:
                self._tree.end()
        except (LongshoreError, OSError) as err:
            trouble = str(err)
        usage, oom_kills = self._tree.usage()
        if not self._tree.remove():
            self._tree.give_to_container()
            self._tree.remove()
        if self.error is not None:
            return start_failed(self.error.exit_code, str(self.error))
        if code is None:
            reason, number, trouble = ExitReason.MONITOR_LOST, None, "its exit code was taken"
            code = -1
        else:
            code = code if code >= 0 else 128 - code
            if oom_kills is None:
                now = container_ooms(self._machinery, self._container)
                oom_kills = (now or 0) - (self._oom_before or 0)
            reason, number = decide(
                code,
                intent=self._intent,
                intent_signal=self._signal,
                oom_kills=oom_kills,
                timed_out=False,
            )
        assert self._record.run is not None
        by_others = reason is ExitReason.SIGNALED and number == _SIGKILL
        if by_others and is_ending(self._record.run.init):
            reason, trouble = ExitReason.KILLED, "its container ended"
        return ExitInfo(
            code=code,
            reason=reason,
            signal=number,
            oom_killed=bool(oom_kills),
            started_ns=self._started_ns,
            finished_ns=finished,
            usage=usage,
            message=trouble,
        )

    def _failure(self, code: int) -> LongshoreError | None:
        """Return why its program was never executed; None when it was."""
        name = self._record.name
        log = f"/proc/self/fd/{self._log}"
        error, program = self._runtime.exec_failed(
            name, self._program, code, log=log, words=self.words
        )
        if error is None and program:
            from longshore.oci.programs import could_run

            assert self._record.run is not None and self._record.run.init is not None
            root = root_of(self._machinery, self._record, self._record.run.init.pid)
            if not could_run(root, self._process, program):
                words = self.words.decode("utf-8", "replace")
                error = self._runtime.failed(words, EXEC, name, log=None, program=self._program)
        if error is None:
            return None
        try:
            _refuse_ended(self._machinery, self._record.id, error)
        except LongshoreError as wrong:
            return wrong
        return error

    def close(self) -> None:
        """Close every descriptor. One that has not ended is to be killed before."""
        for name in ("stdin", "stdout", "stderr", "_log", "_described", "_pidfd"):
            fd: int = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)
