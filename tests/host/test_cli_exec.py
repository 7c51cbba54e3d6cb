"""`longshore exec`, the real command: its streams, its codes, its signals, its terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostlife import SLEEP, eventually, started
from longshore import Container, Engine
from longshore.models import ExitReason
from terminals import Terminal

Cli = hostkit.Cli


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    busybox_rootfs.chmod(0o755)
    made = started(engine, busybox_rootfs, SLEEP, name="box", init=False)
    yield made
    made.remove(force=True, missing_ok=True)


@pytest.fixture
def longshore(dirs: tuple[Path, Path]) -> list[str]:
    """The beginning of a command line."""
    program = str(Path(sys.executable).with_name("longshore"))
    return [program, "--root", str(dirs[0]), "--runroot", str(dirs[1])]


def nothing_runs(box: Container) -> bool:
    """Whether the container's pid 1 is alone, and no exec's files are left."""
    listed = box.exec(["ps", "-o", "args"]).text.splitlines()[1:]
    live = [one for one in listed if "ps -o" not in one and not one.startswith("[")]  # zombies
    names = os.listdir(box._machinery.paths(box.id).run)
    return live == ["sleep 1000"] and not any(name.startswith("exec-") for name in names)


def begun(longshore: list[str], *words: str, **options: Any) -> subprocess.Popen[bytes]:
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
    return subprocess.Popen([*longshore, "exec", *words], **options)


# --- streams and codes -----------------------------------------------------------------------


def test_streams_and_code(box: Container, cli: Cli) -> None:
    done = cli("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = cli("container", "exec", box.id[:8], "true")
    assert (done.stdout, done.stderr) == ("", "")
    assert cli("exec", "-l", "echo", "hi").stdout == "hi\n"
    assert cli("exec", "box", "sh", "-c", "kill -TERM $$", code=143).stderr == ""
    assert nothing_runs(box)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["box", "/nope"], 127, "cannot run a process in container box: "),
        (["box", "nope"], 127, "nope"),
        (["box", "/etc/passwd"], 126, "passwd"),
        (["-t", "box", "/nope"], 127, "nope"),
        (["-d", "box", "/etc/passwd"], 126, "passwd"),
        (["-w", "/nodir", "box", "true"], 125, "/nodir"),
        (["-u", "nobody-is-this", "box", "true"], 125, "user: there is no"),
        (["nosuch", "true"], 125, "there is no container"),
        (["box"], 125, "takes a command"),
        ([], 125, "takes a container"),
        (["--preserve-fds", "1", "box", "true"], 125, "descriptor 3 is not open"),
        (["--env-file", "/nope", "box", "true"], 125, "env file /nope"),
        (["-e", "=x", "box", "true"], 125, "env"),
        (["-t", "--detach-keys", "ctrl-", "box", "true"], 125, "detach keys"),
    ],
)
def test_failures(box: Container, cli: Cli, words: list[str], code: int, said: str) -> None:
    done = cli("exec", *words, code=code)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert done.stderr.count("Error: ") == 1  # and the runtime's own words are not there twice
    assert box.execs() == []


def test_a_paused_or_stopped_container(box: Container, cli: Cli) -> None:
    box.pause()
    assert "unpause" in cli("exec", "box", "true", code=125).stderr
    box.stop(0)
    for flags in ([], ["-d"], ["-t"]):
        done = cli("exec", *flags, "box", "true", code=125)
        assert "it is" in done.stderr and "has to be running" in done.stderr


def test_options_reach_the_program(box: Container, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FROM_FILE=f\nBOTH=file\nCALLERS\n")
    script = "echo $FROM_FILE $BOTH $CALLERS $ONE; pwd; id -u; id -g; grep CapEff /proc/self/status"
    words = ["--env-file", str(file), "-e", "BOTH=flag", "-e", "ONE=1", "-w", "/var", "-u", "user"]
    env = {**os.environ, "CALLERS": "mine"}
    shown = cli("exec", *words, "box", "sh", "-c", script, env=env).stdout.splitlines()
    assert shown[:4] == ["f flag mine 1", "/var", "1000", "1000"]
    assert int(shown[4].split()[1], 16) == 0
    plain = cli("exec", "box", "grep", "CapEff", "/proc/self/status").stdout
    more = cli("exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status").stdout
    added = cli(
        "exec", "--cap-add", "SYS_TIME", "box", "grep", "CapEff", "/proc/self/status"
    ).stdout
    masks = [int(text.split()[1], 16) for text in (plain, added, more)]
    assert masks[0] | 1 << 25 == masks[1]
    assert masks[1] & masks[2] == masks[1] and masks[1] != masks[2]


def test_preserved_descriptors(box: Container, longshore: list[str], short_tmp: Path) -> None:
    (short_tmp / "three").write_text("three")
    (short_tmp / "four").write_text("four")
    script = 'exec "$@" 3<three 4<four'
    for flags in ([], ["-t"]):
        words = ["exec", *flags, "--preserve-fds", "2", "box", "sh", "-c", "cat <&3; cat <&4"]
        done = subprocess.run(
            ["sh", "-c", script, "sh", *longshore, *words],
            cwd=short_tmp,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        assert done.stdout == b"threefour"


def test_standard_input(box: Container, cli: Cli, longshore: list[str], short_tmp: Path) -> None:
    assert cli("exec", "box", "cat", input="not passed on").stdout == ""
    assert cli("exec", "-i", "box", "cat", input="by a pipe").stdout == "by a pipe"
    assert cli("exec", "-i", "box", "cat").stdout == ""  # /dev/null
    file = short_tmp / "input"
    file.write_bytes(os.urandom(3 << 20))
    with file.open("rb") as source:
        done = subprocess.run(
            [*longshore, "exec", "-i", "box", "cat"],
            stdin=source,
            stdout=subprocess.PIPE,
            check=True,
        )
    assert done.stdout == file.read_bytes()
    # what does not read all of it ends all the same
    data = b"x" * (1 << 20)
    done = subprocess.run(
        [*longshore, "exec", "-i", "box", "head", "-c", "3"],
        input=data,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"xxx"


def test_the_callers_files_do_not_go_inside(
    box: Container, longshore: list[str], short_tmp: Path
) -> None:
    """A program in a container could open them anew, and read or write what it likes."""
    source, target = short_tmp / "source", short_tmp / "target"
    source.write_text("secret")
    script = "readlink /proc/$$/fd/0; readlink /proc/$$/fd/1"
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run(
            [*longshore, "exec", "-i", "box", "sh", "-c", script],
            stdin=stdin,
            stdout=stdout,
            check=True,
        )
    assert [line.split(":")[0] for line in target.read_text().split()] == ["pipe", "pipe"]


def test_one_file_for_both_streams_keeps_their_order(
    box: Container, longshore: list[str], runtime: str
) -> None:
    script = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done"
    done = subprocess.run(
        [*longshore, "exec", "box", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 10
    if runtime == "crun":  # runc copies each stream by itself
        assert lines == [f"{s} {n}" for n in range(1, 6) for s in ("out", "err")]


def test_a_reader_that_leaves_ends_the_program(box: Container, longshore: list[str]) -> None:
    command = begun(longshore, "box", "yes")
    assert command.stdout is not None
    assert command.stdout.read(4) == b"y\ny\n"
    command.stdout.close()
    assert command.wait(20) == 128 + signal.SIGPIPE
    assert nothing_runs(box)


def test_what_it_leaves_running_holds_nobody_up(box: Container, longshore: list[str]) -> None:
    """As with podman, and unlike with a shell: `$(longshore exec box start-a-daemon)` returns."""
    before = time.monotonic()
    done = subprocess.run(
        [*longshore, "exec", "box", "sh", "-c", "sleep 1001 & echo hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"hi\n"
    assert time.monotonic() - before < 20
    assert "sleep 1001" in box.exec(["ps", "-o", "args"]).text


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program(
    box: Container, longshore: list[str], number: signal.Signals
) -> None:
    command = begun(longshore, "box", "sh", "-c", "echo ready; exec sleep 1001")
    assert command.stdout is not None and command.stdout.readline() == b"ready\n"
    command.send_signal(number)
    assert command.wait(20) == 128 + number
    command.stdout.close()
    assert nothing_runs(box)


def test_the_third_signal_kills_all_of_it(box: Container, longshore: list[str]) -> None:
    script = "trap 'echo INT' INT; trap '' TERM; setsid sleep 1001 & echo ready; "
    script += "while :; do sleep 0.1; done"
    command = begun(longshore, "box", "sh", "-c", script)
    assert command.stdout is not None and command.stdout.readline() == b"ready\n"
    for _ in range(2):
        command.send_signal(signal.SIGINT)
        assert command.stdout.readline() == b"INT\n"
        assert command.poll() is None
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 137
    command.stdout.close()
    assert nothing_runs(box)


def test_a_killed_command_leaves_nothing_to_the_next(box: Container, longshore: list[str]) -> None:
    command = begun(longshore, "box", "sh", "-c", "echo ready; sleep 1001 & exec sleep 1002")
    assert command.stdout is not None and command.stdout.readline() == b"ready\n"
    command.kill()
    command.wait(10)
    command.stdout.close()
    # Looking is an exec by itself, which ends what the dead owner left; what it cannot end yet is
    # left to the next one.
    eventually(lambda: nothing_runs(box))


# --- detached --------------------------------------------------------------------------------


def test_detached(box: Container, cli: Cli) -> None:
    session = cli("exec", "-d", "box", "sh", "-c", "echo kept; exit 4").stdout.strip()
    process = box.get_exec(session)
    assert process.wait(10).code == 4
    assert process.communicate() == (b"kept\n", b"")
    with_input = cli("exec", "-d", "-i", "box", "cat").stdout.strip()
    assert box.get_exec(with_input).communicate(b"later") == (b"later", b"")
    terminal = cli("exec", "-dt", "box", "tty").stdout.strip()
    out = box.get_exec(terminal).communicate()[0]
    assert out is not None and out.startswith(b"/dev/")
    assert len(box.execs()) == 3


# --- a terminal ------------------------------------------------------------------------------


def test_a_conversation(box: Container, longshore: list[str]) -> None:
    words = [*longshore, "exec", "-it", "-e", "PS1=prompt:", "box", "sh"]
    with Terminal(words, rows=31, columns=71) as terminal:
        terminal.expect(b"prompt:")
        assert terminal.is_raw()
        terminal.type(b"stty size\r")
        terminal.expect(b"31 71", b"prompt:")
        terminal.resize(32, 72)
        # it comes when it comes; and what is typed is shown, too: that is not to be taken for it
        terminal.type(b"until stty size | grep -q 32.72; do sleep 0.05; done; stty size\r")
        terminal.expect(b"32 72", b"prompt:")
        terminal.type(b"echo a$((1+1))b\r")
        terminal.expect(b"a2b", b"prompt:")
        terminal.type(b"cat\r")
        eventually(lambda: ("cat",) in [process.command for process in box.top()])
        terminal.type(b"\x03")  # Ctrl-C is the container's
        terminal.expect(b"prompt:")
        terminal.type(b"exit 7\r")
        assert terminal.end() == 7
        assert terminal.is_restored()
    (process,) = box.execs()
    assert process.poll() is not None


def test_detach_keys_leave_it_running(box: Container, longshore: list[str]) -> None:
    script = "echo ready; read x; echo got $x; exec sleep 1001"
    with Terminal([*longshore, "exec", "-it", "box", "sh", "-c", script]) as terminal:
        terminal.expect(b"ready")
        terminal.type(b"\x10\x11")
        assert terminal.end() == 0
        assert terminal.is_restored()
    (process,) = box.execs()
    assert process.poll() is None
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"word\n")
    seen = b""
    while b"got word" not in seen:
        seen += process.stdout.read1()  # type: ignore[attr-defined]
    process.kill()
    assert process.wait(10).reason is ExitReason.KILLED


def test_other_detach_keys_and_a_lone_prefix(box: Container, longshore: list[str]) -> None:
    words = [*longshore, "exec", "-it", "--detach-keys", "a,b", "box", "cat"]
    with Terminal(words) as terminal:
        terminal.expect()
        eventually(terminal.is_raw)
        terminal.type(b"a")  # goes on after half a second
        terminal.expect(b"a", patience=5)
        terminal.type(b"ab")
        assert terminal.end() == 0
        assert terminal.is_restored()
    for process in box.execs():
        process.kill()


def test_a_window_that_closes_ends_the_program(box: Container, longshore: list[str]) -> None:
    command = [*longshore, "exec", "-it", "box", "sh", "-c", "echo ready; exec sleep 1001"]
    with Terminal(command) as terminal:
        terminal.expect(b"ready")
        terminal.hang_up()
        os.kill(terminal.process.pid, signal.SIGHUP)
        terminal.process.wait(20)
    eventually(lambda: nothing_runs(box))


def test_a_killed_command_leaves_a_session(box: Container, longshore: list[str]) -> None:
    command = [*longshore, "exec", "-it", "box", "sh", "-c", "echo ready; read x; exit 5"]
    with Terminal(command) as terminal:
        terminal.expect(b"ready")
        terminal.process.kill()
        terminal.process.wait(10)
    (process,) = box.execs()
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.write(b"x\n")
    assert process.wait(10).code == 5


def test_a_terminal_without_input(box: Container, longshore: list[str]) -> None:
    with Terminal([*longshore, "exec", "-t", "box", "sh", "-c", "stty size; exit 3"]) as terminal:
        terminal.expect(b"24 80")
        assert terminal.end() == 3
        assert terminal.is_restored()


def test_no_terminal_here_and_one_there(box: Container, longshore: list[str]) -> None:
    done = subprocess.run(
        [*longshore, "exec", "-it", "box", "sh", "-c", "read x; echo got $x; tty"],
        input=b"word\n",
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    lines = done.stdout.split()
    assert b"got" in lines and any(line.startswith(b"/dev/") for line in lines)


def test_a_terminal_of_ours_does_not_go_inside(box: Container, longshore: list[str]) -> None:
    """It could be made to type for us (TIOCSTI); without -t its bytes are passed on."""
    script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; read x; echo got $x"
    with Terminal([*longshore, "exec", "-i", "box", "sh", "-c", script]) as terminal:
        terminal.expect(b"pipe:", b"pipe:", b"pipe:")
        assert not terminal.is_raw()
        terminal.type(b"word\n")
        terminal.expect(b"got word")
        assert terminal.end() == 0
