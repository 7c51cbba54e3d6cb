"""A conmon that does what a script says. It speaks the pipes of the real one (conmon(8)).

    python fake_conmon.py SCRIPT [conmon's own arguments]

SCRIPT is a JSON file with a list of steps, each a list of a word and its arguments:

    start              wait for the byte on _OCI_STARTPIPE; an end without one ends this program
    fork               go on in a child and a session of its own; the first process ends at once
    pidfile            write the pid into the file of -P
    send TEXT          write on _OCI_SYNCPIPE
    close              close _OCI_SYNCPIPE
    say TEXT           write on stderr
    container          start a process that stands for init, write the file of -p, send its pid
    end_container      kill it
    log STREAM TEXT    append lines to the log of -l, as k8s-file
    exit_file CODE     write the exit file into --exit-dir
    hang               wait until killed
    die SIGNAL         die of a signal
    exit CODE          end

Beside SCRIPT, a line of JSON in SCRIPT.journal tells argv, environment, open descriptors and pids.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import time
from datetime import UTC, datetime


def option(argv: list[str], name: str, default: str = "") -> str:
    """Return the value behind an option, or joined to it by "="."""
    for at, word in enumerate(argv):
        if word == name and at + 1 < len(argv):
            return argv[at + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return default


def note(script: str, **facts: object) -> None:
    """Add a line to the journal; several processes may do so at a time."""
    fd = os.open(f"{script}.journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, json.dumps(facts).encode() + b"\n")
    os.close(fd)


def descriptors() -> dict[int, str]:
    """Return what is open, but the listing itself."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def stand_in() -> int:
    """Start a process that lives until it is killed, holding nothing of ours."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.closerange(3, 1024)
        os.execv("/bin/sleep", ["sleep", "1000"])
    return pid


def main(script: str, argv: list[str]) -> int:
    """Do the steps."""
    sync = int(os.environ.get("_OCI_SYNCPIPE", "-1"))
    start = int(os.environ.get("_OCI_STARTPIPE", "-1"))
    with open(script, encoding="utf-8") as file:
        steps = json.load(file)
    for fd in (sync, start):
        if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.set_inheritable(fd, False)
    note(
        script,
        argv=argv,
        env=dict(os.environ),
        fds=descriptors(),
        cwd=os.getcwd(),
        pid=os.getpid(),
        group=os.getpgid(0),
    )
    container = 0
    for word, *rest in steps:
        if word == "start":
            if not os.read(start, 1):
                return 1
        elif word == "fork":
            if os.fork():
                os._exit(0)
            os.setsid()
            note(script, monitor=os.getpid())
        elif word == "pidfile":
            with open(option(argv, "-P"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        elif word == "send":
            os.write(sync, rest[0].encode())
        elif word == "close":
            os.close(sync)
        elif word == "say":
            os.write(2, rest[0].encode())
        elif word == "container":
            container = stand_in()
            note(script, container=container)
            with open(option(argv, "-p"), "w", encoding="ascii") as file:
                file.write(str(container))
            os.write(sync, b'{"data": %d}\n' % container)
        elif word == "end_container":
            os.kill(container, signal.SIGKILL)
            os.waitpid(container, 0)
        elif word == "log":
            clock = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.{time.time_ns() % 10**9:09d}+00:00"
            with open(option(argv, "-l").partition(":")[2], "a", encoding="utf-8") as file:
                file.writelines(f"{clock} {rest[0]} F {line}\n" for line in rest[1].splitlines())
        elif word == "exit_file":
            path = os.path.join(option(argv, "--exit-dir"), option(argv, "-c"))
            with open(path + ".tmp", "w", encoding="ascii") as file:
                file.write(str(rest[0]))
            os.rename(path + ".tmp", path)
        elif word == "hang":
            signal.pause()
        elif word == "die":
            os.kill(os.getpid(), rest[0])
        elif word == "exit":
            return int(rest[0])
        else:
            raise ValueError(f"no such step: {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
