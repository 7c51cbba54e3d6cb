"""An OCI runtime that does what a script says, and is a small real one where the script is silent.

    python fake_runtime.py SCRIPT [the runtime's own arguments]

SCRIPT is a JSON file with an object: for a verb (or "*") what it does, all of it optional:

    stdout, stderr   text to print
    log              an object or text to append to the file of --log, as JSON
    hang             true: wait until killed
    exit             the exit code
    run              create: what runs after `start`, on the host, instead of the bundle's program

A verb that is given neither "stdout" nor an exit code but 0 is done. State is kept below --root.
For root a container is a pid namespace and a chroot, and no more: there are no mounts, no cgroup
and no capabilities. What it does do, it does as crun and runc do: one suite,
tests/contract/test_runtime_contract.py, holds all of them to it. Each call adds a line of JSON to
SCRIPT.journal: verb, argv, environment and descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import select
import shutil
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_conmon import descriptors, note, option

VERBS = {
    "create", "start", "state", "kill", "delete", "pause", "resume", "exec", "checkpoint",
    "restore", "run", "features", "list", "events", "update", "ps", "spec",
}  # fmt: skip
CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """What the runtime says instead of doing it."""


def started(pid: int) -> str:
    """Return when a process was started, "" when it has ended; a zombie has."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class Container:
    """What is kept of one container, in a directory of its own below --root."""

    def __init__(self, root: str, container_id: str) -> None:
        self.id = container_id
        self.directory = Path(root, container_id)
        self.gate = self.directory / "gate"  # opened by `start`, as a runtime's exec fifo
        self.kept: dict[str, Any] = {}

    def load(self) -> Container:
        """Read it, or refuse."""
        try:
            self.kept = json.loads((self.directory / "state.json").read_text())
        except FileNotFoundError:
            raise Refusal("container does not exist") from None
        return self

    def save(self, **changed: Any) -> None:
        """Keep it."""
        self.kept |= changed
        (self.directory / "state.json").write_text(json.dumps(self.kept))

    @property
    def pid(self) -> int:
        """Of its first process."""
        return int(self.kept["pid"])

    @property
    def status(self) -> str:
        """As the runtime-spec spells it, and "paused"."""
        if not self.kept["started"] or started(self.pid) != self.kept["started"]:
            return "stopped"
        if self.gate.exists():
            return "created"
        return "paused" if self.kept.get("paused") else "running"

    def must_be(self, verb: str, *statuses: str) -> None:
        """Refuse to do something to a container that is not in one of these statuses."""
        if self.status not in statuses:
            raise Refusal(f"cannot {verb} a container that is {self.status}")

    def processes(self) -> list[int]:
        """Return the pids of all that is in its namespace."""
        space = f"/proc/{self.pid}/ns/pid"
        if not os.path.exists(space) or os.path.samefile(space, "/proc/self/ns/pid"):
            return [self.pid]
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.path.samefile(space, f"/proc/{name}/ns/pid"):
                    found.append(int(name))
        return found

    def signal(self, number: int, *, everyone: bool = False) -> None:
        """Send a signal to its first process, or to all."""
        for pid in self.processes() if everyone else [self.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            except OSError as error:
                raise Refusal(f"cannot send signal {number}: {error.strerror}") from error

    def create(self, bundle: str, command: list[str] | None) -> None:
        """Make a process that waits for `start`."""
        if self.directory.exists():
            raise Refusal(f"container {self.id} already exists")
        try:
            config = json.loads(Path(bundle, "config.json").read_text())
            process, root = config["process"], os.path.join(bundle, config["root"]["path"])
        except (OSError, ValueError, KeyError) as error:
            if command is None:
                raise Refusal(f"cannot load config.json: {error}") from error
            process, root = {"cwd": "/"}, "/"
        if command is not None:
            process = process | {"args": command, "env": [f"PATH={os.environ['PATH']}"], "user": {}}
            root = "/"
        program = find(process, root)
        if os.geteuid() == 0 and _libc.unshare(CLONE_NEWPID) != 0:
            raise Refusal("there is no pid namespace to be had")
        self.directory.mkdir(parents=True)
        os.mkfifo(self.gate, 0o600)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.closerange(3, 1024)
            with open(self.gate, "rb"):
                pass
            become(process, root, program)
        self.save(pid=pid, started=started(pid), bundle=os.path.abspath(bundle), root=root)
        self.save(process=process)

    def start(self) -> None:
        """Let the process become the container's program."""
        self.must_be("start", "created")
        with open(self.gate, "wb"):
            pass
        self.gate.unlink()

    def delete(self, *, force: bool) -> None:
        """Kill what has to be killed and forget it."""
        if not force:
            self.must_be("delete", "created", "stopped")
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(self.pid)
            if self.status != "stopped":
                os.kill(self.pid, signal.SIGKILL)
                poller = select.poll()
                poller.register(fd, select.POLLIN)
                poller.poll()
        shutil.rmtree(self.directory)

    def exec(self, argv: list[str], words: list[str]) -> int:
        """Run a second process to its end and return its exit code."""
        self.must_be("exec in", "created", "running")
        given = [word.partition("=")[2] for word in argv if word.startswith("--env=")]
        uid, _, gid = option(argv, "--user", "0").partition(":")
        process = self.kept["process"] | {
            "args": words,
            "cwd": option(argv, "--cwd", "/"),
            "env": [*self.kept["process"]["env"], *given],
            "user": {"uid": int(uid), "gid": int(gid or 0)},
        }
        program = find(process, self.kept["root"])
        with open(f"/proc/{self.pid}/ns/pid", "rb") as space:
            if os.geteuid() == 0 and _libc.setns(space.fileno(), CLONE_NEWPID) != 0:
                raise Refusal("cannot enter the pid namespace")
        pid = os.fork()
        if pid == 0:
            become(process, self.kept["root"], program)
        Path(option(argv, "--pid-file")).write_text(str(pid))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if code >= 0 else 128 - code


def find(process: dict[str, Any], root: str) -> str:
    """Return the program that a process is to execute, or refuse as crun does."""
    name = process["args"][0]
    paths = dict(word.split("=", 1) for word in process["env"]).get("PATH", "/bin:/usr/bin")
    for directory in [""] if "/" in name else paths.split(":"):
        found = os.path.join(directory, name)
        # An absolute link leads somewhere that only a process in the root would find.
        if os.path.islink(root + found) or os.access(root + found, os.X_OK):
            return found
        if os.path.exists(root + found):
            raise Refusal("open executable: Permission denied")
    raise Refusal(f"executable file `{name}` not found in $PATH: No such file or directory")


def become(process: dict[str, Any], root: str, program: str) -> NoReturn:
    """Turn this process into the one that is described."""
    try:
        if os.geteuid() == 0 and root != "/":
            null = f"{root}/dev/null"
            if os.path.isdir(f"{root}/dev") and not os.path.exists(null):
                os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
                os.chmod(null, 0o666)
            os.chroot(root)
        os.chdir(process["cwd"])
        if os.geteuid() == 0:
            user = process.get("user", {})
            os.setgid(user.get("gid", 0))
            os.setuid(user.get("uid", 0))
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        env = dict(word.split("=", 1) for word in process["env"])
        os.execve(program, process["args"], env)
    except OSError as error:
        print(f"exec container process `{program}`: {error.strerror}", file=sys.stderr)
    os._exit(1)


def behave(verb: str, argv: list[str], root: str, command: list[str] | None) -> int:
    """Be a small runtime; return the exit code."""
    words = list(itertools.dropwhile(lambda word: word.startswith("-"), argv))
    if verb == "create":
        container = Container(root, argv[-1])
        container.create(option(argv, "--bundle", "."), command)
        Path(option(argv, "--pid-file", os.devnull)).write_text(str(container.pid))
        return 0
    container = Container(root, words[0])
    if verb == "delete" and "--force" in argv and not container.directory.exists():
        return 0
    container.load()
    if verb == "start":
        container.start()
    elif verb == "state":
        pid = 0 if container.status == "stopped" else container.pid
        answer = {"ociVersion": "1.0.2", "id": container.id, "status": container.status}
        print(json.dumps({**answer, "pid": pid, "bundle": container.kept["bundle"]}))
    elif verb == "kill":
        everyone = "--all" in argv
        if not everyone or container.status != "stopped":
            container.must_be("kill", "created", "running", "paused")
            container.signal(int(words[1]), everyone=everyone)
    elif verb == "delete":
        container.delete(force="--force" in argv)
    elif verb == "pause":
        container.must_be("pause", "running")
        container.save(paused=True)
        container.signal(signal.SIGSTOP, everyone=True)
    elif verb == "resume":
        container.must_be("resume", "paused")
        container.signal(signal.SIGCONT, everyone=True)
        container.save(paused=False)
    elif verb == "exec":
        return container.exec(argv, words[1:])
    return 0


def split(argv: list[str]) -> tuple[str, list[str]]:
    """Return the verb and what is behind it."""
    at = 0
    while at < len(argv):
        if argv[at] in VERBS:
            return argv[at], argv[at + 1 :]
        at += 2 if argv[at] in ("--root", "--log", "--log-format") else 1
    return "*", argv


def write_log(argv: list[str], entry: object) -> None:
    """Append an entry to the file of --log, when there is one."""
    if path := option(argv, "--log"):
        with open(path, "a", encoding="utf-8") as file:
            file.write((entry if isinstance(entry, str) else json.dumps(entry)) + "\n")


def main(script: str, argv: list[str]) -> int:
    """Find the verb and do what is asked of it."""
    verb, rest = split(argv)
    with open(script, encoding="utf-8") as file:
        plans = json.load(file)
    plan = plans.get(verb, plans.get("*", {}))
    note(script, verb=verb, argv=argv, env=dict(os.environ), fds=descriptors(), pid=os.getpid())
    if "log" in plan:
        write_log(argv, plan["log"])
    for name, fd in (("stdout", 1), ("stderr", 2)):
        os.write(fd, plan.get(name, "").encode())
    if plan.get("hang"):
        signal.pause()
    code = int(plan.get("exit", 0))
    if code != 0 or "stdout" in plan:
        return code
    if "--version" in argv or verb == "*":
        print("fake_runtime 1.0")
        return 0
    try:
        return behave(verb, rest, option(argv, "--root", f"{script}.state"), plan.get("run"))
    except Refusal as refusal:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_log(argv, {"level": "error", "msg": str(refusal), "time": now})
        print(refusal, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
