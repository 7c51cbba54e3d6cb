"""``longshore exec``: run a second program in a container, with this terminal or without one."""

from __future__ import annotations

import os
import signal
import stat
import sys

from longshore.cli import targets
from longshore.cli.flags import EACH, LIST, SWITCH, TEXT, UINT, Command, Flag
from longshore.cli.signals import Taking
from longshore.errors import InvalidArgument
from longshore.linux import grace
from longshore.linux.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.engine.process import Process
    from longshore.models import ExitInfo
    from longshore.options.execs import ExecOptions

_CHUNK = 1 << 16
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PATIENCE = 2  # signals; with one more its whole tree is killed


def run(app: App, parsed: Parsed) -> int:
    """Run a program in a container, and end with its code."""
    preserved = _preserved(parsed)  # before anything of ours can take these numbers
    grace.hasten()
    container, command = _container(app, parsed)
    options = _options(parsed)
    if preserved:
        options["preserve_fds"] = preserved
    interactive = parsed.on("interactive")
    if parsed.on("detach"):
        options["tty"] = parsed.on("tty")
        process = container.popen(command, detach=True, stdin=interactive, **options)
        print(process.id)
        return 0
    if parsed.on("tty"):
        return _conversed(app, container, command, options, parsed)
    return _attached(app, container, command, options, interactive=interactive)


def _container(app: App, parsed: Parsed) -> tuple[Container, list[str]]:
    words = parsed.args
    if parsed.on("latest"):
        ref: str = targets.newest(app.engine.inspect_all()).id
    elif words:
        ref, words = words[0], words[1:]
    else:
        raise InvalidArgument("'exec' takes a container", hint="usage: longshore exec " + _USAGE)
    if not words:
        raise InvalidArgument(
            "'exec' takes a command to run", hint="for example: longshore exec box ps"
        )
    return app.engine.get(ref), words


def _preserved(parsed: Parsed) -> list[int]:
    count = parsed.integer("preserve-fds") or 0
    fds = [*range(3, 3 + count)]
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError as err:
            raise InvalidArgument(
                f"--preserve-fds {count}: descriptor {fd} is not open",
                hint=f"give it one: longshore exec --preserve-fds {count} … {fd}<FILE",
            ) from err
    return fds


def _options(parsed: Parsed) -> ExecOptions:
    options: ExecOptions = {}
    env: list[str] = []
    for path in parsed.many("env-file"):
        env += _environment(path)
    env += parsed.many("env")
    if env:
        options["env"] = env
    if parsed.given("cap-add"):
        options["cap_add"] = parsed.many("cap-add")
    if parsed.on("privileged"):
        options["privileged"] = True
    if parsed.given("user"):
        options["user"] = parsed.text("user")
    if parsed.given("workdir"):
        options["workdir"] = parsed.text("workdir")
    return options


def _environment(path: str) -> list[str]:
    from longshore.options.parse import parse_env_file

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            found = parse_env_file(file.read(), what=path)
    except OSError as err:
        raise InvalidArgument(f"cannot read the env file {path}: {err.strerror}") from err
    return [f"{name}={value}" for name, value in found.items()]


def _attached(
    app: App, container: Container, command: list[str], options: ExecOptions, *, interactive: bool
) -> int:
    source = _input() if interactive else False
    one = _same_file(1, 2)
    process = container.popen(command, stdin=source, stderr="stdout" if one else True, **options)
    if source is not False and source != 0:
        os.close(source)
    with _Signals(process):
        sys.stdout.flush()
        info = process.copy_to(1, 2)
    return code_of(app, info)


def _conversed(
    app: App, container: Container, command: list[str], options: ExecOptions, parsed: Parsed
) -> int:
    from longshore.cli.terminal import converse, parse_detach_keys
    from longshore.engine.sessionprocess import SessionProcess
    from longshore.linux import ttys

    text = parsed.maybe("detach-keys")
    keys = parse_detach_keys(app.engine.settings.detach_keys if text is None else text)
    stdin = parsed.on("interactive")
    size = ttys.size((0, 1, 2))
    options |= {"tty": True, "console_size": size}
    process = container.popen(command, stdin=stdin, **options)
    assert isinstance(process, SessionProcess)
    with process.attach(stdin=stdin) as streams:
        if converse(streams, _Signals(process), tty=True, stdin=stdin, keys=keys, known=size):
            return 0
    return code_of(app, process.wait())


def code_of(app: App, info: ExitInfo) -> int:
    """Return an exec's exit code as a process can have it; an unknown one is reported."""
    if info.code >= 0:
        return info.code
    from longshore.errors import LongshoreError

    why = info.message or info.reason.value
    app.report(LongshoreError(f"the exit code of the command is not known: {why}"))
    return LongshoreError.exit_code


def _same_file(first: int, second: int) -> bool:
    """Whether what is written to both lands in one place, where the order between them shows."""
    one, other = os.fstat(first), os.fstat(second)
    return (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev)


def _input() -> int:
    """Return the descriptor that the program gets as its standard input.

    Of our own only a pipe is handed on as it is: then nothing is read that the program does not
    read. What is in a container could write to a file that it is to read, and to our terminal as if
    somebody typed. Those are copied.
    """
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        return 0
    import _thread

    reader, writer = os.pipe()
    _thread.start_new_thread(_pump, (writer,))
    return reader


def _pump(writer: int) -> None:
    """Copy standard input to a pipe; nobody waits for it."""
    try:
        while data := os.read(0, _CHUNK):
            write_all(writer, data)
    except OSError:  # EPIPE: it reads no more; EIO: our terminal is gone
        pass
    finally:
        os.close(writer)


class _Signals:
    """While it is entered, signals that would end us go to the program instead.

    The first ones; then it is killed, with all that it has begun.
    """

    def __init__(self, process: Process[Any]) -> None:
        self.numbers: tuple[signal.Signals, ...] = _SIGNALS
        self.last_words: Callable[[], None] = _nothing  # of who ends this process; nobody does
        self._process = process
        self._count = 0
        self._taking = Taking(self.numbers, self._take)

    def __enter__(self) -> Self:
        self._taking.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._taking.__exit__()

    def _take(self, number: int) -> None:
        import _thread

        # In a thread of its own: the program may not have begun yet.
        self._count += 1
        if self._count > _PATIENCE:
            _thread.start_new_thread(self._process.kill, ())
        else:
            _thread.start_new_thread(self._process.send_signal, (number,))


def _nothing() -> None:
    return


_USAGE = "[options] CONTAINER COMMAND [ARG...]"
COMMAND = Command(
    run,
    usage=_USAGE,
    about="""
Runs a second program in a container that runs. The exit code is the program's own; 125 is a
failure of Longshore's, 126 a command that cannot be executed, and 127 one that does not exist.

Without -t and -d the program ends with this command: Ctrl-C and SIGTERM are passed on to it, and
the third one kills it with all that it has begun. With -d it goes on by itself; what it prints is
kept, and its id is printed.""",
    examples=(
        "exec box ps ax",
        "exec -i box tar -C /srv -x < tree.tar",
        "exec -it -u root -w /etc box sh",
        "exec -d box sh -c 'sleep 10; reload'",
    ),
    flags=(
        Flag("cap-add", "", LIST, "Add capabilities", metavar="CAP"),
        Flag("detach", "d", SWITCH, "Leave the command running and print its id"),
        Flag(
            "detach-keys",
            "",
            TEXT,
            "Keys that leave the command running; none: one cannot (by default ctrl-p,ctrl-q)",
            metavar="KEYS",
        ),
        Flag("env", "e", EACH, "Set environment variables; NAME alone takes the caller's"),
        Flag(
            "env-file",
            "",
            LIST,
            "Read environment variables from a file",
            metavar="FILE",
            completes="file",
        ),
        Flag("interactive", "i", SWITCH, "Pass standard input on to the command"),
        targets.LATEST,
        Flag("preserve-fds", "", UINT, "Pass descriptors 3, 4, … on, as many as this", default="0"),
        Flag("privileged", "", SWITCH, "Give the command all capabilities"),
        Flag("tty", "t", SWITCH, "Give the command a terminal"),
        Flag(
            "user", "u", TEXT, "User, and group, inside the container", metavar="NAME|UID[:GROUP]"
        ),
        Flag("workdir", "w", TEXT, "Directory to run the command in", metavar="PATH"),
    ),
    most=None,
    trailing=True,
    completes="running",
)
