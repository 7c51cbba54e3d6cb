"""What is done inside a running container: second processes, streams, files, what they use.

The life of a container is `engine.container`; this is the half of its handle that looks inside.
"""

from __future__ import annotations

from longshore.engine.trace import UNTRACED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import IO, Literal, Unpack, overload

    from longshore.engine.attachment import Attachment
    from longshore.engine.machinery import Machinery
    from longshore.engine.process import Process
    from longshore.engine.trace import Trace
    from longshore.models import ContainerId, ProcessInfo, RunResult, Stats
    from longshore.options.execs import ExecOptions


class Inside:
    """The methods of `Container` that need it to run; a base class, not for use by itself."""

    __slots__ = ()

    if TYPE_CHECKING:
        _machinery: Machinery
        id: ContainerId

        def _start(
            self,
            *,
            console_size: tuple[int, int] | None,
            trace: Trace,
            created: Callable[[], None] | None = None,
        ) -> bool: ...

    def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float | None = None,
        check: bool = False,
        max_output: int | None = None,
        **options: Unpack[ExecOptions],
    ) -> RunResult:
        """Run a command in it to its end, and return both outputs, exactly, and the `ExitInfo`.

        RUNNING → RUNNING. ``input`` becomes its standard input. After ``timeout`` seconds it is
        killed with all that it has begun; the result then has the output so far and the reason
        TIMEOUT. With ``max_output`` each stream keeps so many bytes at most, and what came after
        them is counted. With ``check``, anything but exit code 0 raises ContainerFailed, which
        carries the result. Processes that it leaves running go on, and are not waited for. With
        ``tty`` all that comes on its terminal is its standard output.

        WrongState at once when the container is paused, or does not run; ProgramNotFound,
        ProgramNotExecutable and RuntimeFailed when the command could not be run.
        """
        from longshore.engine import execs

        return execs.execute(
            self._machinery,
            self.id,
            command,
            options,
            data=input,
            timeout=timeout,
            check=check,
            max_output=max_output,
        )

    if TYPE_CHECKING:

        @overload
        def popen(
            self,
            command: Sequence[str],
            *,
            stdin: bool | int = False,
            stdout: bool | int = True,
            stderr: bool | int | Literal["stdout"] = True,
            text: Literal[False] = False,
            bufsize: int = -1,
            detach: bool = False,
            **options: Unpack[ExecOptions],
        ) -> Process[bytes]: ...

        @overload
        def popen(
            self,
            command: Sequence[str],
            *,
            stdin: bool | int = False,
            stdout: bool | int = True,
            stderr: bool | int | Literal["stdout"] = True,
            text: Literal[True],
            encoding: str = "utf-8",
            errors: str = "strict",
            bufsize: int = -1,
            detach: bool = False,
            **options: Unpack[ExecOptions],
        ) -> Process[str]: ...

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: bool | int = False,
        stdout: bool | int = True,
        stderr: bool | int | Literal["stdout"] = True,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        bufsize: int = -1,
        detach: bool = False,
        **options: Unpack[ExecOptions],
    ) -> Process[bytes] | Process[str]:
        """Begin to run a command in it and return its live handle. RUNNING → RUNNING.

        Each stream is True (a pipe), False (/dev/null) or a descriptor that the command gets;
        ``stderr="stdout"`` lets both come on stdout. ``text`` makes them streams of str;
        ``encoding``, ``errors`` and ``bufsize`` are those of `open`. WrongState at once; that the
        command cannot be run shows in `Process.wait`.

        With ``detach`` or ``tty`` it becomes a session under a monitor of its own: it outlives this
        process, its ``id`` finds it again (`get_exec`), and its output is kept, so that nobody has
        to read it. Streams are then True or False, and what cannot be run is raised here.
        """
        from longshore.engine import execs

        return execs.begin(
            self._machinery,
            self.id,
            command,
            options,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=(encoding, errors) if text else None,
            bufsize=bufsize,
            detach=detach,
        )

    def execs(self) -> list[Process[bytes]]:
        """Return its exec sessions, the oldest first: those that run and the last 100 that ended.

        Takes no lock.
        """
        from longshore.engine import sessionprocess

        return sessionprocess.every(self._machinery, self.id)

    if TYPE_CHECKING:

        @overload
        def get_exec(self, ref: str, *, text: Literal[False] = False) -> Process[bytes]: ...

        @overload
        def get_exec(
            self, ref: str, *, text: Literal[True], encoding: str = "utf-8", errors: str = "strict"
        ) -> Process[str]: ...

    def get_exec(
        self, ref: str, *, text: bool = False, encoding: str = "utf-8", errors: str = "strict"
    ) -> Process[bytes] | Process[str]:
        """Find an exec session by its id or the beginning of it, whoever has started it.

        Its output can be read from the beginning, its input written (by one at a time, without a
        terminal: who leaves after writing ends it), and it can be waited for, killed and resized.
        NoSuchExec.
        """
        from longshore.engine import sessionprocess

        return sessionprocess.find(
            self._machinery, self.id, ref, text=(encoding, errors) if text else None
        )

    def attach(
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

        RUNNING, INITIALIZED or PAUSED; with ``start`` it is started as `start` does, and nothing
        that it prints is missed. ``logs`` begins with all that is in its log. ``stdin`` is for a
        container that was created with ``interactive=True``.

        Output is read from the log, so who reads slowly, or never, is nothing to the container. If
        it keeps none, up to ``buffer`` bytes wait for the reader. What then? ``when_full="drop"``
        throws away what is oldest, and counts it (`Attachment.dropped`); "block" lets the container
        wait when it prints more. Neither delays its end. So it is with ``start`` for a log that is
        rotated, of which a slow reader would miss something.
        """
        from longshore.engine import attachment

        def starter(*, created: Callable[[], None]) -> None:
            self._start(console_size=console_size, trace=trace, created=created)

        wanted = (("stdout", stdout), ("stderr", stderr))
        return attachment.attach(
            self._machinery,
            self.id,
            stdin=stdin,
            streams=frozenset(name for name, asked in wanted if asked),
            logs=logs,
            when_full=when_full,
            buffer=buffer,
            start=starter if start else None,
        )

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; its program is told by SIGWINCH.

        RUNNING, INITIALIZED or PAUSED. InvalidArgument when it has none, MonitorGone when nobody
        looks after it any more.
        """
        from longshore.engine import attachment

        attachment.resize(self._machinery, self.id, rows, columns)

    def top(self) -> list[ProcessInfo]:
        """Return every process of it, those of execs too, by pid. RUNNING or PAUSED.

        WrongState otherwise. Read from /proc: nothing is run inside, and nothing is locked.
        """
        from longshore.engine import top

        return top.top(self._machinery, self.id)

    def stats(self) -> Stats:
        """Measure what it uses at this moment. RUNNING or PAUSED; takes no lock.

        WrongState otherwise. For many containers at once there is `Engine.stats`.
        """
        from longshore.engine import stats

        return stats.stats(self._machinery, self.id)

    def copy_in(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        target: str | os.PathLike[str],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of the host into it, running or not. Its status stays.

        Where things go is as with ``podman cp``: into a directory that is there by their name,
        else to the path itself, whose parent has to exist; ``source/.`` is what is in a directory.
        ``source`` may be an open binary file: a tar archive, compressed or not, is unpacked.

        New files belong to the user that the container runs as, or with ``keep_owner`` to whom
        they belonged. Modes, times, holes, hard links and user attributes are kept; devices and
        sockets are left out, with a warning. ``overwrite`` lets a file replace a directory and the
        reverse. NoSuchPath when one of the paths is not there; InvalidArgument when they do not go
        together; LongshoreError with the kernel's reason. A container that does not run is locked
        meanwhile, and what it has left of a run is cleaned up: STOPPED → EXITED.
        """
        from longshore.engine import filecopy

        filecopy.copy_in(
            self._machinery,
            self.id,
            source,
            target,
            keep_owner=keep_owner,
            overwrite=overwrite,
        )

    def copy_out(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str] | IO[bytes],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of it to the host, as `copy_in` does the other way.

        No path of the container leads out of it. New files belong to the caller, and have lost
        setuid, setgid and capabilities; ``keep_owner`` keeps all that. ``target`` may be a file
        that is open for writing: it gets a tar archive, with the container's owners in it.
        Of the whole root, dev, proc and sys are left out.
        """
        from longshore.engine import filecopy

        filecopy.copy_out(
            self._machinery,
            self.id,
            source,
            target,
            keep_owner=keep_owner,
            overwrite=overwrite,
        )

    def copy_to(
        self,
        source: str | os.PathLike[str],
        other: Inside,
        target: str | os.PathLike[str],
        *,
        keep_owner: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Copy a file or directory of it into another container (or itself), as `copy_in` does.

        New files belong to the user that the other one runs as, but with ``keep_owner``.
        """
        from longshore.engine import filecopy

        filecopy.copy_between(
            self._machinery,
            self.id,
            source,
            (other._machinery, other.id),
            target,
            keep_owner=keep_owner,
            overwrite=overwrite,
        )

    def read_file(self, path: str | os.PathLike[str]) -> bytes:
        """Return the bytes of a regular file in it, whether it runs or not.

        NoSuchPath when it is not there; InvalidArgument when it is no regular file.
        """
        from longshore.engine import filecopy

        return filecopy.read(self._machinery, self.id, path)

    def write_file(
        self,
        path: str | os.PathLike[str],
        data: bytes,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Put a file into it in one step: its programs see the old one or the new one, whole.

        ``mode`` and ``user`` (``NAME|UID[:GROUP|GID]``) are by default those of the file that is
        replaced; for a new one 0o644 and the user that the container runs as. A file that is a
        mount point, as /etc/hosts is, cannot be replaced: its content is written anew.
        NoSuchPath when its directory is not there.
        """
        from longshore.engine import filecopy

        filecopy.write(self._machinery, self.id, path, data, mode=mode, user=user)
