"""Completion as a person meets it: real shells, the Tab key, and what is in the line afterwards."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostkit import needs, which

# Tab completes; Ctrl-T writes the line to a file and empties it.
SETTINGS = {
    "bash": """
        source {script}
        bind 'set show-all-if-ambiguous on' 'set page-completions off'
        bind -x '"\\C-t": printf "%s\\n" "$READLINE_LINE" >{line}; READLINE_LINE='
    """,
    "zsh": """
        unsetopt prompt_cr prompt_sp
        LISTMAX=10000
        fpath=({home}/completions $fpath)
        autoload -Uz compinit
        compinit -u -D
        line() {{ print -r -- "$BUFFER" >{line}; BUFFER= }}
        zle -N line
        bindkey '^T' line
    """,
}
START = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
SHELLS = ("bash", "zsh", "fish")


class Terminal:
    """An interactive shell on a terminal of its own, which has learned to complete."""

    def __init__(self, shell: str, home: Path, script: str) -> None:
        program = which(shell)
        needs(shell, program)
        assert program is not None
        self._line = home / "line"
        self._env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "TERM": "dumb",
            "INPUTRC": "/dev/null",
        }
        functions = home / "completions"
        functions.mkdir()
        file = functions / "_longshore"
        file.write_text(script)
        self._fish = [program, "--no-config", "-c", f"source {file}; complete -C $argv[1]", "--"]
        self._fd = -1
        if shell == "fish":  # it has a command that does what the key does
            return
        self._fd, inside = pty.openpty()
        # setsid makes the terminal its controlling one, without which there is no job control
        argv = ["setsid", "--ctty", program, *START[shell]]
        self._shell = subprocess.Popen(
            argv, cwd=home, env=self._env, stdin=inside, stdout=inside, stderr=inside
        )
        os.close(inside)
        words = {"script": file, "line": self._line, "home": home}
        for line in SETTINGS[shell].format_map(words).strip().splitlines():
            os.write(self._fd, line.strip().encode() + b"\n")
        assert self.line("echo settled") == "echo settled"

    def line(self, typed: str) -> str:
        """Return what a line becomes by the Tab key."""
        if self._fd < 0:
            found = self._candidates(typed)
            return f"{typed.rpartition(' ')[0]} {found[0]}" if len(found) == 1 else typed.rstrip()
        os.write(self._fd, typed.encode() + b"\t")
        return self._taken()

    def lists(self, typed: str, *words: str) -> None:
        """Assert that the Tab key shows all of these words (and leaves the line as it is)."""
        if self._fd < 0:
            assert set(words) <= set(self._candidates(typed))
            return
        os.write(self._fd, typed.encode() + b"\t")
        self._read_until(lambda text: set(words) <= set(text.replace(typed, "", 1).split()))
        assert self._taken() == typed

    def _taken(self) -> str:
        self._line.unlink(missing_ok=True)
        os.write(self._fd, b"\x14")
        self._read_until(lambda _: self._line.exists() and self._line.read_text().endswith("\n"))
        return self._line.read_text().rstrip()

    def _candidates(self, typed: str) -> list[str]:
        done = subprocess.run(
            [*self._fish, typed], env=self._env, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    def _read_until(self, enough: Callable[[str], bool]) -> None:
        text = ""
        deadline = time.monotonic() + 20
        while not enough(text):
            assert time.monotonic() < deadline, f"the shell did not answer: {text!r}"
            if select.select([self._fd], [], [], 0.01)[0]:
                text += os.read(self._fd, 65536).decode("utf-8", "replace")

    def close(self) -> None:
        """End it."""
        if self._fd >= 0:
            self._shell.kill()
            self._shell.wait()
            os.close(self._fd)


def longshore(*args: object) -> str:
    program = Path(sys.executable).with_name("longshore")
    argv = [str(word) for word in (program, *args)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Terminal]:
    """A shell with the script that `longshore completion` prints for it."""
    home = short_tmp / "home"
    (home / "tree").mkdir(parents=True)
    for file in ("a file", "text"):
        (home / file).touch()
    terminal = Terminal(request.param, home, longshore("completion", request.param))
    yield terminal
    terminal.close()


def test_commands_and_flags(terminal: Terminal) -> None:
    assert terminal.line("longshore sto") == "longshore stop"
    terminal.lists("longshore st", "start", "stop")
    assert terminal.line("longshore container exi") == "longshore container exists"
    assert terminal.line("longshore help doc") == "longshore help doctor"
    assert terminal.line("longshore run --read-only-t") == "longshore run --read-only-tmpfs"
    terminal.lists("longshore run --cpus", "--cpus", "--cpuset-cpus", "--cpuset-mems")
    assert terminal.line("longshore completion f") == "longshore completion fish"
    assert terminal.line("longshore nope ") == "longshore nope"


def test_values_of_flags(terminal: Terminal) -> None:
    assert terminal.line("longshore --log-level d") == "longshore --log-level debug"
    assert terminal.line("longshore --log-level=d") == "longshore --log-level=debug"
    # a value that goes on gets no blank behind it
    assert terminal.line("longshore ps --filter st") == "longshore ps --filter status="
    assert terminal.line("longshore ps --filter=st") == "longshore ps --filter=status="


def test_paths(terminal: Terminal) -> None:
    for given in ("longshore run --env-file ~/a", "longshore run --env-file=~/a"):
        # a blank in a name is kept together, by whatever the shell has for that
        assert terminal.line(given).replace("\\", "") == given + " file"
    for given in ("longshore run --rootfs ~/t", "longshore run --rootfs=~/t"):
        assert terminal.line(given) == given + "ree/"  # and not the file beside it
    assert terminal.line('longshore completion -f "/etc/hostn') in (
        'longshore completion -f "/etc/hostname"',
        "longshore completion -f /etc/hostname",
    )


def test_containers(terminal: Terminal, dirs: tuple[Path, Path], busybox_rootfs: Path) -> None:
    where = ("--root", dirs[0], "--runroot", dirs[1])
    for name in ("alpha", "alfred", "beta"):
        longshore(*where, "create", "--name", name, "--rootfs", busybox_rootfs, "true")
    typed = "longshore --root {1} --runroot={3}".format(*where)
    terminal.lists(f"{typed} rm al", "alpha", "alfred")
    assert terminal.line(f"{typed} rm be") == f"{typed} rm beta"
    assert terminal.line(f"{typed} rm alpha al") == f"{typed} rm alpha alfred"
    assert terminal.line(f"{typed} pause be") == f"{typed} pause be"  # it does not run
