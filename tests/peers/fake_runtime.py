"""An OCI runtime that does what a script says.

    python fake_runtime.py SCRIPT [the runtime's own arguments]

SCRIPT is a JSON file with an object: for a verb (or "*") what it does, all of it optional:

    stdout, stderr   text to print
    log              an object or text to append to the file of --log, as JSON
    hang             true: wait until killed
    exit             the exit code
    container        create: false makes no process; otherwise one is started whose pid goes into
                     the file of --pid-file, and which runs "run" (argv) when start comes, or sleeps
    run              what the container's process executes after `start`

Without a word about them, create, start, kill, state and delete behave like a small runtime: they
keep the pid in SCRIPT.ID. Each call adds a line of JSON to SCRIPT.journal: verb, argv, environment
and descriptors.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_conmon import descriptors, note, option

VERBS = {
    "create", "start", "state", "kill", "delete", "pause", "resume", "exec", "checkpoint",
    "restore", "run", "features", "list", "events", "update", "ps", "spec",
}  # fmt: skip


def container(command: list[str], gate: str) -> int:
    """Start a process that waits for `start` and then executes a command, in its own session."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(gate, 0o600)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.closerange(3, 1024)
        with open(gate, "rb"):
            pass  # as a runtime's exec fifo: opened by `start`
        os.execvp(command[0], command)
    return pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def pid_of(state: str) -> int:
    """Return the pid that create kept, or end as a runtime does for an unknown container."""
    try:
        with open(state, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        os.write(2, b"container does not exist\n")
        sys.exit(1)


def behave(verb: str, argv: list[str], state: str, plan: dict[str, object]) -> None:
    """Be a small runtime."""
    gate = state + ".gate"
    if verb == "create":
        command = plan.get("run") or ["sleep", "1000"]
        assert isinstance(command, list)
        pid = container(command, gate)
        for path in (state, option(argv, "--pid-file")):
            with open(path, "w", encoding="ascii") as file:
                file.write(str(pid))
    elif verb == "start":
        pid_of(state)
        with open(gate, "wb"):
            pass
        os.unlink(gate)
    elif verb == "state":
        pid = pid_of(state)
        status = "stopped" if not alive(pid) else "created" if os.path.exists(gate) else "running"
        print(json.dumps({"status": status, "pid": pid, "bundle": option(argv, "--bundle")}))
    elif verb == "kill":
        os.kill(pid_of(state), int(argv[-1]))
    elif verb == "delete":
        pid = pid_of(state)
        if "--force" in argv and alive(pid):
            os.kill(pid, signal.SIGKILL)
        for path in (state, gate):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def main(script: str, argv: list[str]) -> int:
    """Find the verb and do what is asked of it."""
    verb = next((word for word in argv if word in VERBS), "*")
    with open(script, encoding="utf-8") as file:
        plans = json.load(file)
    plan = plans.get(verb, plans.get("*", {}))
    note(script, verb=verb, argv=argv, env=dict(os.environ), fds=descriptors(), pid=os.getpid())
    if "log" in plan:
        entry = plan["log"]
        text = entry if isinstance(entry, str) else json.dumps(entry)
        with open(option(argv, "--log"), "a", encoding="utf-8") as file:
            file.write(text + "\n")
    for name, fd in (("stdout", 1), ("stderr", 2)):
        os.write(fd, plan.get(name, "").encode())
    if plan.get("hang"):
        signal.pause()
    code = int(plan.get("exit", 0))
    if "--version" in argv or verb == "*":
        if "stdout" not in plan:
            print("fake_runtime 1.0")
    elif code == 0 and plan.get("container", True) and "stdout" not in plan:
        words = [word for word in argv[argv.index(verb) + 1 :] if not word.startswith("-")]
        container_id = words[0] if verb == "kill" else argv[-1]
        behave(verb, argv, f"{script}.{container_id}", plans.get("create", plan))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
