"""The one door for running other programs.

Standard input is /dev/null unless bytes are given, the environment is an allow-list built by
`clean_env`, and outputs go to memory files instead of pipes: a program can never block on us, a
grandchild that keeps the descriptors can never hold us up, and whatever the program itself wrote is
there when it has ended.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from longshore._value import Value
from longshore.errors import OperationTimeout, ProgramNotExecutable, ProgramNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

# What other programs may know of our environment, and why. Everything else stays with us: a
# variable of the caller must not change what a runtime or conmon does.
_PASSED_ON = (
    "PATH",  # runtimes find newuidmap, criu and hooks by it
    "HOME",  # runc and crun resolve rootless state below it
    "XDG_RUNTIME_DIR",  # rootless state, the user's D-Bus
    "DBUS_SESSION_BUS_ADDRESS",  # the systemd cgroup manager of a user
    "TMPDIR",  # CRIU and runc write temporary files
    "LANG",  # so that messages are in the language of the caller's terminal
    "LISTEN_FDNAMES",  # names of activation sockets
    "_CONTAINERS_USERNS_CONFIGURED",  # the markers of a user namespace that is already set up
    "_CONTAINERS_ROOTLESS_UID",
    "_CONTAINERS_ROOTLESS_GID",
)
# poll(2) takes milliseconds in an int: wait for long times in pieces of this many seconds.
_LONGEST_POLL = 1e6
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


PIPE, STDOUT, DEVNULL = -1, -2, -3  # subprocess's, without importing it
# What keeps this process from starting any other, and says nothing about the program
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


class Completed(Value):
    """A program that has ended: its return code (−n for signal n) and both outputs."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> str:
        """What it said on stderr, as text without surrounding blanks."""
        return self.stderr.decode("utf-8", "replace").strip()


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a program: the allow-list above, then ``extra``."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env.setdefault("PATH", _DEFAULT_PATH)
    if extra:
        env.update(extra)
    return env


def memory_file(name: str, data: bytes = b"") -> int:
    """Return a descriptor of an anonymous file in memory, at its beginning."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    if data:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_memory_file(fd: int) -> bytes:
    """Return everything in a memory file, wherever its offset is."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    new_group: bool = False,
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program; the caller reaps it. ``pass_fds`` keep their numbers.

    ``new_session`` also leaves the caller's terminal: no signal of its keys comes, and reading
    from it does not stop the program. Raises ProgramNotFound or ProgramNotExecutable when it cannot
    be executed, and OSError when this process has no descriptors or memory left.
    """
    import subprocess  # 5 ms that commands which only read need not spend

    try:
        return subprocess.Popen(
            argv,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            pass_fds=pass_fds,
            process_group=0 if new_group else None,
            start_new_session=new_session,
        )
    except FileNotFoundError as err:
        if cwd is not None and not os.path.isdir(cwd):
            raise
        raise ProgramNotFound(
            f"cannot run {argv[0]}: there is no such program",
            argv=argv,
            hint=f"install it, or say where it is ({os.path.basename(argv[0])})",
        ) from err
    except PermissionError as err:
        raise ProgramNotExecutable(
            f"cannot run {argv[0]}: it is not executable", argv=argv
        ) from err
    except OSError as err:  # ENOEXEC and its like
        if err.errno in _OURS:
            raise
        raise ProgramNotExecutable(
            f"cannot run {argv[0]}: {err.strerror or err}", argv=argv
        ) from err


def spawn_numbered(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    fds: Sequence[int],
) -> int:
    """Start a program in a session of its own, in which ``fds`` are 3, 4, … in this order.

    Returns its pid; the caller reaps it. `subprocess` can keep the numbers of descriptors, and
    cannot change them. The first three may be DEVNULL. What can be inherited is not closed here.
    """
    import fcntl

    free = 3 + len(fds)  # from here on no copy is in the way of another
    copies: list[int] = []
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    try:
        for number, fd in enumerate((stdin, stdout, stderr, *fds)):
            if fd == DEVNULL:
                actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
                continue
            copies.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, free))
            actions.append((os.POSIX_SPAWN_DUP2, copies[-1], number))
        return os.posix_spawn(
            argv[0],
            list(argv),
            env,
            file_actions=actions,
            setsid=True,
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
        )
    except FileNotFoundError as err:
        raise ProgramNotFound(f"cannot run {argv[0]}: there is no such program", argv=argv) from err
    except PermissionError as err:
        raise ProgramNotExecutable(
            f"cannot run {argv[0]}: it is not executable", argv=argv
        ) from err
    finally:
        for fd in copies:
            os.close(fd)


def inherits_nothing() -> bool:
    """Whether a program started now would get no descriptor of ours but the first three.

    `spawn_numbered` is then as good as `spawn`, without the 5 ms that importing `subprocess` costs.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                return False
        except OSError:
            continue  # the one that has just listed them
    return True


def reap(pidfd: int) -> int | None:
    """Return the code (−n for signal n) of our child that has ended; None when it was reaped.

    Another part of this program can have done that, or the kernel, where SIGCHLD is ignored.
    """
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return None
    assert result is not None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


class Call:
    """A program that was started to be run to its end: `finish` says what came of it."""

    __slots__ = ("_argv", "_err", "_out", "_process")

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._argv = tuple(argv)
        self._out = self._err = -1
        try:
            self._out = memory_file("stdout")
            self._err = memory_file("stderr")
            self._process = spawn(
                argv,
                env=clean_env() if env is None else env,
                stdout=self._out,
                stderr=self._err,
                cwd=cwd,
                pass_fds=pass_fds,
                new_group=True,
            )
        except BaseException:
            self._close()
            raise

    def finish(self, timeout: float | None = None) -> Completed:
        """Wait for its end and return both outputs whole; see `run`."""
        try:
            returncode = self._wait(timeout)
            return Completed(
                argv=self._argv,
                returncode=returncode,
                stdout=read_memory_file(self._out),
                stderr=read_memory_file(self._err),
            )
        finally:
            self._close()

    def _wait(self, timeout: float | None) -> int:
        process = self._process
        try:
            if timeout is not None and not wait_child(process, time.monotonic() + timeout):
                raise OperationTimeout(
                    f"{os.path.basename(self._argv[0])} did not end within {timeout:g} s "
                    "and was killed"
                )
            return process.wait()
        except BaseException:  # the time is over, or somebody pressed Ctrl-C
            if process.returncode is None:
                # It is not reaped yet, so its group id cannot be another's.
                os.killpg(process.pid, 9)
                process.wait()
            raise

    def _close(self) -> None:
        for fd in (self._out, self._err):
            if fd >= 0:
                os.close(fd)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return both outputs whole.

    ``timeout`` is in seconds; when it is over, the program (its own process group) is killed and
    OperationTimeout is raised. There is no timeout by default.
    """
    return Call(argv, env=env, cwd=cwd, pass_fds=pass_fds).finish(timeout)


def wait_child(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until our own child has ended (True) or the deadline has come (False)."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:  # a host that ignores SIGCHLD: the kernel reaped it
        return True
    try:
        return poll_until([fd], deadline) != []
    finally:
        os.close(fd)


def poll_until(fds: Sequence[int], deadline: float | None) -> list[int]:
    """Wait until one of the descriptors is readable or hung up; return those that are.

    ``deadline`` is a `time.monotonic` moment, or None for no end; an empty list means it came.
    """
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        # poll(2) counts whole milliseconds: round up, or the last one is spent spinning
        left = None if left is None else min(left, _LONGEST_POLL)
        ready = poller.poll(None if left is None else int(left * 1000) + (left > 0))
        if ready or (deadline is not None and time.monotonic() >= deadline):
            return [fd for fd, _ in ready]
