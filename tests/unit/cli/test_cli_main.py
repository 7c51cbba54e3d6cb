"""The dispatcher: what it finds, what it refuses, what it ends with, and what it imports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from cli_standin import inspection

from longshore import __version__, _log
from longshore.cli import GROUPS, VERBS, load, main
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from conftest import Shell

ENTRIES = {
    **VERBS,
    **{f"{group} {verb}": e for group, (_, verbs) in GROUPS.items() for verb, e in verbs.items()},
}


def test_version(shell: Shell) -> None:
    assert shell("--version").out == f"longshore version {__version__}\n"
    assert shell("-v").out == f"longshore version {__version__}\n"


def test_help_of_the_program_names_every_command(shell: Shell) -> None:
    done = shell("--help")
    assert done.code == 0
    assert done.err == ""
    for verb in (*VERBS, *GROUPS):
        assert f"\n  {verb} " in done.out
    assert "      --runroot DIR " in done.out
    assert shell("-h").out == shell("help").out == done.out


@pytest.mark.parametrize("verb", ENTRIES)
def test_help_of_every_command(shell: Shell, verb: str) -> None:
    done = shell(*verb.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(ENTRIES[verb][2] + "\n")
    assert f"\nUsage:\n  longshore {verb} " in done.out
    command = load(ENTRIES[verb])
    for flag in command.flags:
        assert (re.search(rf" --{flag.name}[ \[]", done.out) is None) is flag.hidden
    assert max(map(len, done.out.splitlines())) < 140
    assert shell("help", *verb.split()).out == done.out or " " in verb


def test_the_shape_of_help(shell: Shell) -> None:
    assert shell("kill", "--help").out == (
        "Send a signal to running containers\n"
        "\n"
        "Description:\n"
        "  Sends a signal, SIGKILL unless another is named, to the first process of containers.\n"
        "\n"
        "Usage:\n"
        "  longshore kill [options] CONTAINER [CONTAINER...]\n"
        "\n"
        "Examples:\n"
        "  longshore kill box\n"
        "  longshore kill -s HUP box\n"
        "\n"
        "Options:\n"
        "  -a, --all             Take every running container\n"
        "      --cidfile FILE    Take the container whose id is in this file\n"
        "  -l, --latest          Take the container that was made last\n"
        '  -s, --signal string   Signal to send, by name or number (default "KILL")\n'
    )


def test_flags_of_every_command_are_sound() -> None:
    for verb, entry in ENTRIES.items():
        flags = load(entry).flags
        names = [flag.name for flag in flags]
        shorts = [flag.short for flag in flags if flag.short]
        assert len(names) == len(set(names)), verb
        assert len(shorts) == len(set(shorts)), verb
        assert not set(names) & {"help"}, verb


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (["foo"], "Error: unknown command: foo\nhint: see 'longshore --help'\n"),
        (["psx"], "Error: unknown command: psx\nhint: did you mean 'ps'? see 'longshore --help'\n"),
        (["build", "a"], "Error: unknown command: build\n"),
        (["container", "stp"], "unknown command: container stp\nhint: did you mean 'stop'?"),
        (["--rot", "x", "ps"], "Error: unknown flag: --rot\nhint: did you mean --root?"),
        (["ps", "--al"], "Error: unknown flag: --al\nhint: did you mean --all? see 'longshore ps"),
        (["bogus"], "Error: unknown command: bogus\nhint: see 'longshore --help'\n"),
        (["ls"], "unknown command: ls\nhint: did you mean 'ps'?"),
        (["lgos", "a"], "did you mean 'logs'?"),
        (["insp", "a"], "did you mean 'inspect'?"),
        (["x" * 100_000], "hint: see 'longshore --help'\n"),
        (["run", "--bogus"], "unknown flag: --bogus\nhint: see 'longshore run --help'\n"),
        (["run", "--replace", "--rootfs", "/:O", "true"], "Error: --replace: no --name says which"),
        (["run", "--memry=1g"], "did you mean --memory?"),
        (["run", "--mem=1g"], "did you mean --memory?"),
        (["run", "--annotation", "", "--rootfs", "/:O", "true"], "Error: --annotation is empty\n"),
        (["run", "--device=", "--rootfs", "/:O", "true"], "Error: --device is empty\n"),
        (["ps", "x"], "Error: 'ps' takes no arguments\n"),
        (["rename", "x"], "Error: 'rename' takes 2 arguments, not 1\n"),
        (["stop"], "Error: you must give at least one name or id\n"),
        (["stop", "-a", "x"], "Error: --all and names cannot be used together\n"),
        (["ps", "--filter", "foo=1"], 'Error: unknown filter "foo"\nhint: the filters are '),
        (["ps", "--format", "{{.Foo}}"], "can't evaluate field Foo"),
        (["ps", "--sort", "age"], 'invalid value "age" for --sort: it is one of command,'),
        (["--log-level", "loud", "ps"], 'invalid value "loud" for --log-level'),
        (["inspect", "--type", "image", "x"], "it is one of all, container"),
        (["inspect", "nosuch"], "Error: there is no container 'nosuch'\n"),
        (["kill", "-s", "FOO", "a"], "FOO"),
        (["start", "-a", "a", "b"], "Error: one container at a time can be started and attached"),
        (["attach", "-l", "a"], "Error: --latest and names cannot be used together\n"),
        (["attach", "--detach-keys", "x,nokey", "a"], "there is no key 'nokey'"),
        (["completion", "tcsh"], "there is no completion for tcsh"),
        (["wait", "--condition", "healthy", "a"], "there is no condition 'healthy'"),
    ],
)
def test_what_is_refused(shell: Shell, words: list[str], err: str) -> None:
    shell.engine.found["a"] = inspection("a")
    done = shell(*words)
    assert done.code == 125
    assert err in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [[], ["container"], ["system"]])
def test_no_command(shell: Shell, words: list[str]) -> None:
    done = shell(*words)
    assert done.code == 125
    assert "Available Commands:" in done.out
    assert done.err.startswith("Error: missing command")


def test_global_flags_work_on_both_sides(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from longshore.cli import app

    seen: list[tuple[str | None, str | None]] = []

    def make(options: app.Parsed) -> object:
        seen.append((options.maybe("root"), options.maybe("runroot")))
        return shell.engine

    monkeypatch.setattr(app, "_make_engine", make)
    shell("--root", "/a", "ps", "--runroot=/b")
    shell("ps", "--root", "/c")
    assert seen == [("/a", "/b"), ("/c", None)]


def test_errors_are_safe_to_show(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    error = LongshoreError("bad \x1b[31m\udcff", hint="try")
    error.add_note("more")

    def fail() -> None:
        raise error

    monkeypatch.setattr(shell.engine, "inspect_all", fail)
    assert shell("ps").err == "Error: bad \\x1b[31m\\udcff\nhint: try\nnote: more\n"
    monkeypatch.setenv("LONGSHORE_DEBUG", "1")
    assert "Traceback" in shell("ps").err
    monkeypatch.delenv("LONGSHORE_DEBUG")
    assert "Traceback" in shell("--log-level", "debug", "ps").err


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("trace", ["debug", "warning"]),
        ("debug", ["debug", "warning"]),
        ("info", ["warning"]),
        ("warn", ["warning"]),
        ("warning", ["warning"]),
        ("error", []),
        ("fatal", []),
        ("panic", []),
    ],
)
def test_what_is_said_beside_the_work(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, level: str, shown: list[str]
) -> None:
    def speak() -> list[object]:
        _log.debug("how\nit is\x1b done")
        _log.warn("how\nit is\x1b done")
        return []

    monkeypatch.setattr(shell.engine, "inspect_all", speak)
    lines = [f"longshore: {word}: how it is\\x1b done" for word in shown]
    # before or behind the command, as podman has its global flags
    for words in (["--log-level", level, "ps", "-q"], ["ps", "-q", "--log-level", level]):
        assert shell(*words).err.splitlines() == lines
    _log.warn("not to the command line, which has ended")


def test_only_its_own_errors_are_caught(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shell.engine, "inspect_all", fail)
    with pytest.raises(ZeroDivisionError):
        shell("ps")


def test_ctrl_c_is_silent(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.engine, "inspect_all", interrupt)
    done = shell("ps")
    assert (done.code, done.out, done.err) == (130, "", "")


def python(code: str, *argv: str, **how: object) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
        **how,  # type: ignore[call-overload]  # only `input`
    )


def test_a_broken_pipe_is_quiet() -> None:
    code = "import sys; from longshore.cli import main; sys.argv = ['longshore', '--help']; main()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_streams_that_are_closed() -> None:
    code = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    close = "import os; [os.close(fd) for fd in (0, 1, 2)]; " + code
    done = subprocess.run(
        [sys.executable, "-c", close, "-m", "longshore", "--help"], timeout=60, check=False
    )
    assert done.returncode == 0


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "longshore", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"longshore version {__version__}\n")


# What a command imports is what it costs. Measured with CPython 3.11; the room is for other
# versions of Python, whose own start imports a few more or less.
COSTLY = {
    "argparse",
    "ctypes",
    "dataclasses",
    "datetime",
    "inspect",
    "logging",
    "pathlib",
    "shutil",
    "tempfile",
    "tomllib",
    "typing",
}
REPORT = """
import json, os, sys
before = set(sys.modules)
from longshore import cli
if sys.argv[1:2] == ["ps"]:
    from longshore import config
    config._read_all = lambda files: {}  # as when the settings are cached
out, sys.stdout = sys.stdout, open(os.devnull, "w")
code = cli.main(sys.argv[1:])
json.dump([code, sorted(set(sys.modules) - before)], out)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    root = tmp_path_factory.mktemp("root")
    where = ["--root", str(root / "root"), "--runroot", str(root / "run")]
    found: dict[str, list[str]] = {}
    for words in (["--help"], ["--version"], ["ps", *where], ["run", "--help"], ["rm", "--help"]):
        done = python(REPORT, *words)
        assert done.returncode == 0, done.stderr
        code, modules = json.loads(done.stdout)
        assert code == 0
        found[" ".join(words[:2]) if words[0] in ("run", "rm") else words[0]] = modules
    yield found


@pytest.mark.parametrize(
    ("words", "most"), [("--version", 8), ("--help", 9), ("rm --help", 45), ("run --help", 45)]
)
def test_budget_of_modules(imported: dict[str, list[str]], words: str, most: int) -> None:
    assert len(imported[words]) <= most, imported[words]
    assert not COSTLY & set(imported[words])


def test_budget_of_ps(imported: dict[str, list[str]]) -> None:
    modules = imported["ps"]
    assert not COSTLY & set(modules)
    own = {name for name in modules if name.startswith("longshore.cli")}
    assert own == {f"longshore.cli{m}" for m in ("", ".app", ".flags", ".ps", ".table")}
    assert len(modules) <= 100, modules


def test_modules_stay_readable() -> None:
    folder = os.path.dirname(sys.modules["longshore.cli"].__file__ or "")
    for name in os.listdir(folder):
        if name.endswith(".py"):
            with open(f"{folder}/{name}", encoding="utf-8") as file:
                assert sum(1 for _ in file) < 500, name


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_start_in_order(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, handlers: None
) -> None:
    """The first one raises, those behind it do not cut short what is then taken back."""
    from longshore.cli import creation
    from longshore.cli.run import in_order

    taken_back: list[int] = []

    def slow(*_: object, **__: object) -> None:
        with in_order():
            try:
                os.kill(os.getpid(), number)
            finally:
                for other in (signal.SIGTERM, signal.SIGHUP):
                    os.kill(os.getpid(), other)
                taken_back.append(number)

    monkeypatch.setattr(creation, "make", slow)
    assert main(["run", "--rootfs", "/:O", "true"]) == code
    os.kill(os.getpid(), number)  # it ends, and is not ended
    assert taken_back == [number]


def test_signals_are_as_before_when_a_start_is_over(handlers: None) -> None:
    from longshore.cli.run import in_order

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with in_order():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
