"""The command line: find the command that was asked for, import only that, end with its code.

Nothing is imported here that ``--version`` does not need. Two kinds of failure become messages:
`LongshoreError` and Ctrl-C; whatever else is raised is a fault of Longshore's and shows itself.
"""

from __future__ import annotations

import gc
import os
import sys

from longshore.errors import InvalidArgument, LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.cli.app import App
    from longshore.cli.flags import Command

__all__ = ["GROUPS", "VERBS", "load", "main"]

_BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE ended
_SIGINT = 2

# verb: (module under longshore.cli, its Command, one line of help)
_CONTAINER: Mapping[str, tuple[str, str, str]] = {
    "attach": ("attach", "COMMAND", "Show what a running container prints, and type to it"),
    "cleanup": ("cleanup", "COMMAND", "Take back what ended containers have left behind"),
    "cp": ("cp", "COMMAND", "Copy files into containers, out of them and between them"),
    "create": ("create", "COMMAND", "Make a container and do not start it"),
    "exec": ("exec", "COMMAND", "Run a second program in a running container"),
    "exists": ("exists", "COMMAND", "Say by the exit code whether a container exists"),
    "inspect": ("inspect", "CONTAINER", "Show everything that is known about containers"),
    "kill": ("kill", "COMMAND", "Send a signal to running containers"),
    "list": ("ps", "COMMAND", "List containers"),
    "logs": ("logs", "COMMAND", "Show what containers have printed"),
    "ls": ("ps", "COMMAND", "List containers"),
    "pause": ("pause", "PAUSE", "Freeze every process of running containers"),
    "prune": ("prune", "CONTAINER", "Remove every container that does not run"),
    "ps": ("ps", "COMMAND", "List containers"),
    "rename": ("rename", "COMMAND", "Give a container another name"),
    "restart": ("restart", "COMMAND", "Stop containers and start them again"),
    "rm": ("rm", "COMMAND", "Remove containers"),
    "run": ("run", "COMMAND", "Make a container, run it, and end with its exit code"),
    "start": ("start", "COMMAND", "Start containers that exist"),
    "stats": ("stats", "COMMAND", "Show what running containers use"),
    "stop": ("stop", "COMMAND", "Stop running containers"),
    "top": ("top", "COMMAND", "List the processes of a container"),
    "unpause": ("pause", "UNPAUSE", "Let paused containers go on"),
    "update": ("update", "COMMAND", "Change the limits of a container"),
    "wait": ("wait", "COMMAND", "Wait for containers to end, and print their exit codes"),
}
_NESTED_ONLY = ("cleanup", "exists", "list", "ls", "prune")  # only under `container`, as podman's
VERBS: Mapping[str, tuple[str, str, str]] = {
    **{verb: entry for verb, entry in _CONTAINER.items() if verb not in _NESTED_ONLY},
    "inspect": ("inspect", "COMMAND", _CONTAINER["inspect"][2]),
    "completion": ("completion", "COMMAND", "Print a completion script for a shell"),
    "doctor": ("doctor", "COMMAND", "Look at this host and say what is missing, and what mends it"),
    "events": ("events", "COMMAND", "Show what happens to containers, as it happens"),
    "info": ("info", "COMMAND", "Show this host and the settings in use"),
    "unshare": ("unshare", "COMMAND", "Run a program in your containers' user namespace"),
    "version": ("version", "COMMAND", "Show the versions of Longshore and of what it drives"),
}
GROUPS: Mapping[str, tuple[str, Mapping[str, tuple[str, str, str]]]] = {
    "container": ("Work with containers", _CONTAINER),
    "generate": (
        "Make files for other programs",
        {"systemd": ("generate", "SYSTEMD", "Print the unit of a service that runs a container")},
    ),
    "system": (
        "Work with everything that Longshore keeps",
        {
            "events": VERBS["events"],
            "info": VERBS["info"],
            "prune": ("prune", "SYSTEM", "Remove what is not in use"),
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Called without ``argv``, as a program, it ends the process itself: the interpreter's own way
    out costs milliseconds, and there is nothing left for it to do.
    """
    if argv is not None:
        return _guarded(list(argv), "longshore")
    # Imports make nothing but what stays: collecting among it costs a command 2 ms.
    gc.set_threshold(50_000)
    _open_missing()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="surrogateescape")  # names may hold any byte
    code = _guarded(sys.argv[1:], sys.argv[0])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or _BROKEN_PIPE
    os._exit(code)


def _open_missing() -> None:
    # A descriptor that our starter has closed would become some file of ours, which output would
    # then be written to.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number: this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _guarded(words: list[str], program: str) -> int:
    from longshore import _log
    from longshore.cli.app import App

    app = App([program, *words])
    before = _log.listen(app)
    try:
        try:
            code = _dispatch(app, words)
            sys.stdout.flush()
        except LongshoreError as err:
            app.report(err)
            code = err.exit_code
        except KeyboardInterrupt as err:
            if app.debug:
                raise
            code = 128 + getattr(err, "number", _SIGINT)
    except BrokenPipeError:
        if app.debug:
            raise
        _silence_stdout()
        code = _BROKEN_PIPE
    except OSError as err:
        if app.debug or err.errno not in _full():
            raise
        if err.filename is not None:
            full = LongshoreError(
                f"cannot write {err.filename}: {err.strerror}",
                hint="make room there (`longshore system prune`), or name another --root",
            )
        else:
            _silence_stdout()
            full = LongshoreError(
                f"cannot write: {err.strerror}", hint="standard output goes where there is no room"
            )
        app.report(full)
        code = full.exit_code
    finally:
        _log.listen(before)
    return code


def _full() -> tuple[int, ...]:
    import errno

    return (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _silence_stdout() -> None:
    # What is still buffered would raise once more when the stream is closed.
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def _dispatch(app: App, words: list[str]) -> int:
    from longshore.cli.app import GLOBALS
    from longshore.cli.flags import parse

    if words[:1] == ["__complete"]:
        from longshore.cli.completing import answer

        return answer(app, words[1:])
    parsed = parse(words, GLOBALS, trailing=True)
    app.options = parsed
    if parsed.on("version"):
        from longshore import __version__

        print(f"longshore version {__version__}")
        return 0
    rest = parsed.args
    if rest[:1] == ["help"]:
        parsed.helped = True
        rest = rest[1:]
    if parsed.helped and not rest:
        print(_program_help(), end="")
        return 0
    if not rest:
        print(_program_help(), end="")
        raise InvalidArgument("missing command", hint="see 'longshore --help'")
    verb, rest = rest[0], rest[1:]
    entry = VERBS.get(verb)
    if verb in GROUPS:
        summary, verbs = GROUPS[verb]
        if not rest or rest[0] in ("--help", "-h") or parsed.helped:
            from longshore.cli.help import group_help

            lines = {name: line for name, (_, _, line) in verbs.items()}
            print(group_help(f"longshore {verb} [command]", summary, lines), end="")
            if rest or parsed.helped:
                return 0
            raise InvalidArgument(
                f"missing command: '{verb}' needs one", hint=f"see 'longshore {verb} --help'"
            )
        entry = verbs.get(rest[0])
        if entry is None:
            raise _unknown(rest[0], verbs, verb)
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    if entry is None:
        raise _unknown(verb, {**VERBS, **GROUPS}, "")
    return _run(app, verb, entry, ["--help"] if parsed.helped else rest)


def _run(app: App, verb: str, entry: tuple[str, str, str], words: list[str]) -> int:
    from longshore.cli.app import GLOBALS
    from longshore.cli.flags import parse

    command = load(entry)
    parsed = parse(
        words,
        command.flags,
        verb=verb,
        trailing=command.trailing,
        inherited=GLOBALS,
        into=app.options,
    )
    if parsed.helped:
        from longshore.cli.help import command_help

        print(command_help(verb, entry[2], command), end="")
        return 0
    command.check_count(verb, len(parsed.args))
    return command.run(app, parsed)


def load(entry: tuple[str, str, str]) -> Command:
    """Import one command's module and return its `Command`."""
    from importlib import import_module

    command: Command = getattr(import_module(f"longshore.cli.{entry[0]}"), entry[1])
    return command


def _program_help() -> str:
    from longshore.cli.app import GLOBALS
    from longshore.cli.help import group_help

    lines = {name: entry[2] for name, entry in VERBS.items()}
    lines |= {name: summary for name, (summary, _) in GROUPS.items()}
    return group_help(
        "longshore [options] [command]", "Run OCI containers, with no daemon", lines, GLOBALS
    )


def _unknown(word: str, known: Mapping[str, object], group: str) -> InvalidArgument:
    from longshore.cli.help import nearest

    guess = nearest(word, known)
    pointer = f"see 'longshore {group} --help'" if group else "see 'longshore --help'"
    return InvalidArgument(
        f"unknown command: {f'{group} {word}' if group else word}",
        hint=f"did you mean '{guess}'? {pointer}" if guess else pointer,
    )
