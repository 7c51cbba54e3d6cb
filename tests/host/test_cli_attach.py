"""`run -it`, `start -a` and `attach` as a user has them: in a real terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli
from hostlife import eventually, make, printed, ready, started
from longshore import Engine, Status
from longshore.cli.terminal import LONE_PREFIX
from terminals import ENDING, Terminal

# Says its size, at first and when it changes, and answers lines; `exit N` ends it.
ANSWERS = """
trap 'echo size $(stty size)' WINCH
trap 'echo INT' INT
trap 'echo QUIT' QUIT
echo begun $(stty size)
while :; do
    read line || continue
    echo "got [$line]"
    case $line in exit*) exit ${line#exit };; esac
done
"""
DETACH = b"\x10\x11"

Open = Callable[..., Terminal]


@pytest.fixture
def longshore(dirs: tuple[Path, Path], runtime: str) -> list[str]:
    """The command, in the directories of the test."""
    program = str(Path(sys.executable).with_name("longshore"))
    return [program, "--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]


@pytest.fixture
def opened(longshore: list[str]) -> Open:
    """Open a terminal with a `longshore` command in it."""
    return lambda *words, **how: Terminal([*longshore, *words], **how)


def run_it(rootfs: Path, *flags: str, script: str = ANSWERS) -> list[str]:
    return ["run", "-it", *flags, "--name", "box", "--rootfs", str(rootfs), "sh", "-c", script]


def answering(engine: Engine, rootfs: Path, **options: Any) -> Any:
    """A container with a terminal that answers, and is detached from."""
    options = {"tty": True, "interactive": True, "name": "box", **options}
    box = started(engine, rootfs, ANSWERS, **options)
    eventually(lambda: b"begun" in printed(box))
    return box


def attached(terminal: Terminal) -> Terminal:
    """Wait until an `attach` is there: it tells the program its size."""
    terminal.expect(b"size 24 80\r\n")
    assert terminal.is_raw()
    return terminal


def press_one_by_one(terminal: Terminal, keys: bytes) -> None:
    """Press keys with a pause in between, and again if that got so long that they are sent on."""
    while True:
        began = time.monotonic()
        for number, key in enumerate(keys):
            time.sleep(0.1 if number else 0)
            terminal.type(bytes([key]))
        if time.monotonic() - began < LONE_PREFIX:
            return


# --- run -----------------------------------------------------------------------------------------


def test_a_session(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    with opened(*run_it(busybox_rootfs, "--rm"), rows=33, columns=101) as terminal:
        terminal.expect(b"begun 33 101\r\n")
        assert terminal.is_raw()
        terminal.type(b"hello\r")
        terminal.expect(b"hello\r\ngot [hello]\r\n")  # one echo: the container's
        terminal.resize(40, 120)
        terminal.expect(b"size 40 120\r\n")
        terminal.type(b"\x03")  # keys that are signals are the container's
        terminal.expect(b"INT\r\n")
        terminal.type(b"\x1c")
        terminal.expect(b"QUIT\r\n")
        terminal.type(b"exit 5\r")
        assert terminal.end() == 5
        assert terminal.is_restored()
    assert engine.list(all=True) == []


def test_detach_and_attach_again(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    with opened(*run_it(busybox_rootfs)) as terminal:
        terminal.expect(b"begun 24 80\r\n")
        terminal.type(DETACH)
        assert terminal.end() == 0
        assert terminal.is_restored()
        assert terminal.rest(0.1) == b""  # not even its id
    box = engine.get("box")
    assert box.status is Status.RUNNING
    with opened("attach", "box", rows=50, columns=132) as terminal:
        terminal.expect(b"size 50 132\r\n")
        terminal.type(b"again\r")
        terminal.expect(b"got [again]\r\n")
        assert b"begun" not in terminal.seen  # from now on
        press_one_by_one(terminal, DETACH)
        assert terminal.end() == 0
        assert terminal.is_restored()
    with opened("attach", "--latest") as terminal:
        attached(terminal).type(b"exit 6\r")
        assert terminal.end() == 6
        assert terminal.is_restored()
    box.remove()


def test_what_is_left_is_cleaned_up_without_us(
    opened: Open, busybox_rootfs: Path, engine: Engine
) -> None:
    """The lease of an attached run goes with the detach; conmon's exit command does its work."""
    with opened(*run_it(busybox_rootfs, "--rm")) as terminal:
        terminal.expect(b"begun")
        terminal.type(DETACH)
        assert terminal.end() == 0
    box = engine.get("box")
    box.kill()
    began = time.monotonic()
    assert box.wait(10, condition="removed").code == 137
    assert time.monotonic() - began < 10


def test_keys_of_ones_own(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    with opened(*run_it(busybox_rootfs, "--detach-keys", "ctrl-x,x")) as terminal:
        terminal.expect(b"begun")
        terminal.type(DETACH)
        terminal.type(b"\x15still\r")  # Ctrl-U: what was typed before goes
        terminal.expect(b"got [still]")
        terminal.type(b"\x18x")
        assert terminal.end() == 0
    with opened("attach", "--detach-keys", "", "box") as terminal:
        attached(terminal).type(b"\x18x" + DETACH + b"\x15exit 3\r")
        assert terminal.end() == 3
    engine.get("box").remove()


def test_keys_of_the_settings(
    opened: Open, busybox_rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "containers.conf"
    conf.write_text('[engine]\ndetach_keys = "ctrl-t,q"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    with opened(*run_it(busybox_rootfs)) as terminal:
        terminal.expect(b"begun")
        terminal.type(b"\x14q")
        assert terminal.end() == 0


def test_a_lone_prefix_is_sent_on(opened: Open, busybox_rootfs: Path) -> None:
    # echo as it is, so that the key can be seen when it arrives
    script = "stty raw -echo; echo begun; cat"
    with opened(*run_it(busybox_rootfs, "--rm", script=script)) as terminal:
        terminal.expect(b"begun")
        terminal.rest(0.2)
        began = time.monotonic()
        terminal.type(b"\x10")
        terminal.expect(b"\x10")
        assert time.monotonic() - began >= LONE_PREFIX  # after a while
        terminal.type(b"\x11")
        terminal.expect(b"\x11")
        took = [LONE_PREFIX]
        while min(took) >= LONE_PREFIX and len(took) <= 10:  # times; the machine may be busy
            began = time.monotonic()
            terminal.type(b"\x10")
            time.sleep(0.05)
            terminal.type(b"a")
            terminal.expect(b"\x10a")  # or with the next key
            took.append(time.monotonic() - began)
        assert min(took) < LONE_PREFIX
        terminal.type(b"\x10\x10\x11")
        assert terminal.end() == 0
        assert terminal.rest(0.1) in (b"", b"\x10")
    # it was detached from; the fixture ends it


def test_every_byte_arrives(opened: Open, busybox_rootfs: Path) -> None:
    """Both ways, as it is: an editor's escapes, and what a cooked terminal would change."""
    script = "stty raw -echo; echo begun; exec cat"
    typed = bytes(b for b in range(256) if b != 0x10) + b"\x1b[A\x1bOP\r\n\r\n\xff\x00\x10\x10."
    with opened(*run_it(busybox_rootfs, "--rm", script=script)) as terminal:
        terminal.expect(b"begun\n")
        terminal.type(typed)
        terminal.expect(typed)
        terminal.type(DETACH)
        assert terminal.end() == 0


def test_a_start_that_fails_leaves_the_terminal_alone(
    opened: Open, busybox_rootfs: Path, engine: Engine
) -> None:
    words = ["run", "--rm", "-it", "--rootfs", str(busybox_rootfs), "/no/such"]
    with opened(*words) as terminal:
        assert terminal.end() == 127
        assert terminal.is_restored()
        assert b"no such" in terminal.seen.lower()
    assert engine.list(all=True) == []


# --- ways to leave -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("proxy", ["--sig-proxy=false", "--sig-proxy=true"])
def test_a_signal_ends_an_attach(
    opened: Open, busybox_rootfs: Path, engine: Engine, number: signal.Signals, proxy: str
) -> None:
    """Passed on or not: a container that cannot receive it must not keep us here."""
    script = "echo ready; exec cat"  # as pid 1 it receives no signal at all
    box = ready(started(engine, busybox_rootfs, script, tty=True, interactive=True, name="box"))
    with opened("attach", proxy, "box") as terminal:
        eventually(terminal.is_raw)
        terminal.signal(number)
        assert terminal.end() == -number
        assert terminal.is_restored()
    assert box.status is Status.RUNNING
    box.remove(force=True)


def test_a_signal_is_passed_on(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    script = f"trap 'echo TERM; exit 9' TERM; {ANSWERS}"
    box = started(engine, busybox_rootfs, script, tty=True, interactive=True, name="box")
    eventually(lambda: b"begun" in printed(box))
    with opened("attach", "box") as terminal:
        attached(terminal).signal(signal.SIGTERM)
        terminal.expect(b"TERM")
        assert terminal.end() == 9
        assert terminal.is_restored()
    box.remove()


def test_a_signal_ends_a_run(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    """What nobody in there takes ends the container: this is its owner."""
    with opened(*run_it(busybox_rootfs, "--rm")) as terminal:
        terminal.expect(b"begun")
        terminal.signal(signal.SIGTERM)
        assert terminal.end() == 137
        assert terminal.is_restored()
    assert engine.list(all=True) == []


def test_the_end_of_the_container(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    box = answering(engine, busybox_rootfs)
    with opened("attach", "box") as terminal:
        attached(terminal)
        box.kill()
        assert terminal.end() == 137
        assert terminal.is_restored()
    box.remove()


def test_the_window_is_closed(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    """SIGHUP, and a terminal that is gone: an attach ends, a run's container is told."""
    box = answering(engine, busybox_rootfs)
    with opened("attach", "box") as terminal:
        attached(terminal).hang_up()
        terminal.process.wait(20)
    assert box.status is Status.RUNNING
    box.remove(force=True)
    with opened(*run_it(busybox_rootfs, "--rm")) as terminal:
        terminal.expect(b"begun")
        terminal.hang_up()
        terminal.process.wait(20)
    eventually(lambda: engine.list(all=True) == [])


def test_stopped_and_taken_up_again(opened: Open, busybox_rootfs: Path, engine: Engine) -> None:
    """By SIGSTOP, of which we hear nothing: a shell puts its terminal right by itself."""
    box = answering(engine, busybox_rootfs)
    with opened("attach", "box") as terminal:
        attached(terminal).signal(signal.SIGSTOP)
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.restore()
        terminal.resize(30, 90)
        terminal.signal(signal.SIGCONT)
        terminal.expect(b"size 30 90")
        assert terminal.is_raw()
        terminal.type(DETACH)
        assert terminal.end() == 0
        assert terminal.is_restored()
    box.remove(force=True)


def test_stopped_by_a_shell(longshore: list[str], busybox_rootfs: Path, engine: Engine) -> None:
    box = answering(engine, busybox_rootfs)
    with Terminal(["sh", "-im"], env={**os.environ, "PS1": "$ ", "ENV": ""}) as terminal:
        for _ in range(2):
            terminal.type(f"{' '.join(longshore)} attach box\n".encode())
            terminal.expect(b"size 24 80\r\n")
            assert terminal.is_raw()
            (pid,) = terminal.children()
            os.kill(pid, signal.SIGTSTP)
            terminal.expect(b"Stopped", b"$ ")
            assert not terminal.is_raw()
            terminal.type(b"fg\n")
            eventually(terminal.is_raw)
            terminal.type(b"hello\r")
            terminal.expect(b"got [hello]")
            terminal.type(DETACH)
            terminal.expect(b"$ ")
            assert not terminal.is_raw()
        terminal.type(b"exit\n")
        terminal.end()
    box.remove(force=True)


def test_an_output_that_nobody_reads_any_more(
    longshore: list[str], busybox_rootfs: Path, engine: Engine
) -> None:
    """`run … | head`: the command ends, as by SIGPIPE, and the container goes on."""
    words = ["run", "--rm", "--name", "box", "--rootfs", str(busybox_rootfs)]
    for flags in ([], ["-t"], ["--log-driver", "none"]):
        argv = [*longshore, *words, *flags, "sh", "-c", "yes | head -n 100000; exec sleep 1000"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(2)[:1] == b"y"
            process.stdout.close()
            assert process.wait(20) == 141
            assert process.stderr.read() == b""
        box = engine.get("box")
        assert box.status is Status.RUNNING
        box.kill()
        box.wait(20, condition="removed")


# --- flags ---------------------------------------------------------------------------------------


def test_without_interactive_keys_are_ours(opened: Open, busybox_rootfs: Path) -> None:
    """-t alone: the program has a terminal, and Ctrl-C is a signal, which is passed on."""
    script = "trap 'echo INT; exit 4' INT; stty size; while :; do sleep 0.05; done"
    words = ["run", "--rm", "-t", "--rootfs", str(busybox_rootfs), "sh", "-c", script]
    with opened(*words, rows=20, columns=70) as terminal:
        terminal.expect(b"20 70\r\n")
        assert not terminal.is_raw()
        terminal.type(b"\x03")
        terminal.expect(b"INT\r\n")
        assert terminal.end() == 4
        assert terminal.is_restored()


def test_input_without_a_terminal_of_its_own(opened: Open, busybox_rootfs: Path) -> None:
    """-i alone, typed in a terminal: lines, Ctrl-D is the end, and the detach keys work."""
    words = ["run", "--rm", "-i", "--rootfs", str(busybox_rootfs), "sh", "-c", "cat; echo over"]
    with opened(*words) as terminal:
        terminal.type(b"line\n")
        terminal.expect(b"line\r\nline\r\n")
        assert not terminal.is_raw()
        terminal.type(b"\x04")
        terminal.expect(b"over")
        assert terminal.end() == 0
    with opened(*words[:2], "--detach-keys", "a,b", *words[2:]) as terminal:
        terminal.type(b"line\n")
        terminal.expect(b"line\r\nline\r\n")
        terminal.type(b"ab\n")
        assert terminal.end() == 0


def test_start_attached(opened: Open, cli: Cli, busybox_rootfs: Path, engine: Engine) -> None:
    box = make(engine, busybox_rootfs, ANSWERS, tty=True, interactive=True, name="box")
    for number in (3, 4):
        with opened("start", "-ai", "box", rows=20, columns=60 + number) as terminal:
            terminal.expect(b"begun 20 %d\r\n" % (60 + number))
            terminal.type(b"exit %d\r" % number)
            assert terminal.end() == number
            assert terminal.seen.count(b"begun") == 1  # not what it printed the last time
    with opened("start", "--attach", "--detach-keys", "x", "-i", "box") as terminal:
        terminal.expect(b"begun")
        terminal.type(b"x")
        assert terminal.end() == 0
    box.remove(force=True)
    plain = make(engine, busybox_rootfs, "echo out; echo err >&2; exit 3", name="plain")
    for _ in range(2):
        done = cli("start", "-a", "plain", code=3)
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert cli("start", "-a", "plain", "box", code=125).stderr.startswith("Error: one container")
    plain.remove()


def test_attach_without_a_terminal(cli: Cli, busybox_rootfs: Path, engine: Engine) -> None:
    script = "echo ready; read go; echo out; echo err >&2; cat; exit 5"
    box = make(engine, busybox_rootfs, script, interactive=True, name="box")
    box.start()
    ready(box)
    done = cli("attach", "box", input="go\nrest", code=5)
    assert (done.stdout, done.stderr) == ("out\nrest", "err\n")
    assert "start --attach" in cli("attach", "box", code=125).stderr
    assert "nobody" in cli("attach", "nobody", code=125).stderr
    box.remove()


def test_no_stdin(longshore: list[str], busybox_rootfs: Path, engine: Engine) -> None:
    box = make(engine, busybox_rootfs, "echo ready; cat; exit 5", interactive=True, name="box")
    with box.attach(start=True, stdin=True) as owner:
        ready(box)
        argv = [*longshore, "attach", "--no-stdin", "box"]
        with (
            engine.events(actions=["attach"]) as events,
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            next(events)
            owner.write(b"typed\n")
            assert process.stdout.readline() == b"typed\n"
            process.send_signal(signal.SIGKILL)
        owner.write(b"still there\n")  # its input has not ended with the reader
        eventually(lambda: printed(box).endswith(b"still there\n"))
        assert box.status is Status.RUNNING
    assert box.wait(10).code == 5
    box.remove()


def test_a_terminal_that_is_none(cli: Cli, busybox_rootfs: Path) -> None:
    words = ["--rm", "--rootfs", str(busybox_rootfs), "sh", "-c"]
    done = cli("run", "-t", *words, "test -t 0 && test -t 1 && echo err >&2")
    assert (done.stdout, done.stderr) == ("err\n", "")  # a terminal has one stream
    done = cli("run", "-it", *words, "stty -echo; read x; echo got $x; cat", input="abc\n")
    assert done.stdout.endswith("got abc\n")
    assert "standard input is no terminal" in done.stderr


def test_no_log(cli: Cli, busybox_rootfs: Path) -> None:
    words = ["run", "--rm", "--log-driver", "none", "--rootfs", str(busybox_rootfs)]
    done = cli(*words, "sh", "-c", "echo out; echo err >&2; exit 4", code=4)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    whole = "".join(f"{number}\n" for number in range(1, 50001))
    assert cli(*words, "seq", "1", "50000").stdout == whole


def test_a_log_that_is_rotated(cli: Cli, busybox_rootfs: Path) -> None:
    words = ["run", "--rm", "--log-opt", "max-size=10k", "--rootfs", str(busybox_rootfs)]
    whole = "".join(f"{number}\n" for number in range(1, 50001))
    assert cli(*words, "seq", "1", "50000").stdout == whole


def test_a_log_that_others_wrote_to(cli: Cli, busybox_rootfs: Path, tmp_path: Path) -> None:
    log = ["--log-opt", f"path={tmp_path}/shared.log"]
    for word in ("one", "two"):
        done = cli("run", "--rm", *log, "--rootfs", str(busybox_rootfs), "echo", word)
        assert done.stdout == f"{word}\n"
