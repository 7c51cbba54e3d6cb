"""What a runtime's driver relies on: one suite over every runtime that works here, and the fake.

Whatever is asserted here may be taken for granted by the engine; where runtimes differ, nothing is
asserted, and the engine may not care. The fake is a runtime like the others, so tests that use it
elsewhere say something about real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hostkit import (
    ROOT,
    SANDBOX_FLAGS,
    kind_of,
    make_busybox_rootfs,
    needs,
    on_test_host,
    other_runtimes,
    runtime_path,
    working_runtimes,
)
from hostlife import await_end, eventually
from longshore.errors import ProgramNotExecutable, ProgramNotFound, RuntimeFailed
from longshore.runtime import Runtime, RuntimeState
from peers import fake_runtime

pytestmark = pytest.mark.host

BOX, OTHER = "box", "other"
SLEEP = "echo ready; exec sleep 1000"  # as pid 1 it catches nothing
TRAPS = "trap 'exit 5' TERM; trap 'echo got it' USR1; echo ready; while :; do sleep 1 & wait; done"
TICKS = "trap 'exit 5' TERM; echo ready; while :; do echo .; sleep 0.01; done"
TREE = "sleep 1000 & setsid sh -c 'sleep 1000 & wait' & sleep 0.1; echo ready; wait"
KILLED = 128 + signal.SIGKILL
PARENT = str(ROOT / "tests/peers/parent.py")
# In what gVisor (runsc 20240729) is not what the engine takes for granted. The first two would
# leave processes or look at the host's own; each of the others fails when the difference goes.
NEVER_WITH: Mapping[str, Mapping[str, str]] = {
    "runsc": {
        "test_an_id_is_taken_once": "a second create of an id loses track of the first sandbox",
        "test_everyone_is_killed": "no process of a container is one of the host's",
    }
}
DIFFERS: Mapping[str, Mapping[str, str]] = {
    "runsc": {
        "test_the_process_is_pid_1_of_its_own_namespace_and_leads_its_session": "it is a sandbox",
        "test_a_zombie_is_stopped": "a sandbox that nobody has reaped counts as running",
        "test_a_program_that_cannot_be_run": "it is looked up by start and not by create",
        "test_a_signal_that_init_does_not_catch": "there is no signal 0",
        "test_a_created_container_can_be_killed": "kill is refused before start",
        "test_a_signal_waits_for_the_end_of_the_pause": "kill is refused in a pause",
        "test_sigkill_in_a_pause_ends_it_with_the_pause_at_the_latest": "as above",
        "test_forget_needs_no_runtime": "it keeps files beside a directory",
        "test_exec": "exec has no --tty",
        "test_exec_that_dies_of_a_signal_or_cannot_be_run": "exec has no --tty",
        "test_who_copies_the_streams_of_an_exec": "exec has no --tty",
    }
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run everything for the fake and for each real runtime that works here."""
    if "runtime" not in metafunc.fixturenames:
        return
    names: list[Any] = ["fake"]
    if on_test_host():
        test = metafunc.function.__name__
        for name in (*working_runtimes(), *other_runtimes()):
            kind = kind_of(name)
            if test in NEVER_WITH.get(kind, ()):
                continue
            reason = DIFFERS.get(kind, {}).get(test)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason)]
            names.append(pytest.param(name, marks=marks))
    metafunc.parametrize("runtime", names)


class Subject:
    """A runtime with its driver, one bundle, and what its containers print."""

    def __init__(self, driver: Runtime, directory: Path, rootfs: Path) -> None:
        self.driver = driver
        self.log = str(directory / "oci.log")
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        self.pid_file = directory / "pidfile"
        self.output = directory / "output"
        self.output.touch()
        self._rootfs = str(rootfs)
        self._ends = directory / "ends"
        self._ends.touch()
        self._parents: list[subprocess.Popen[bytes]] = []

    def describe(self, args: list[str], cgroup: str = BOX) -> None:
        """Write the bundle's config.json."""
        capabilities = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "args": args,
                "env": ["PATH=/bin", "IN=container"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            },
            "root": {"path": self._rootfs},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "cgroupsPath": f"/contract-{cgroup}",
                "resources": {},
            },
        }
        (self.bundle / "config.json").write_text(json.dumps(config))

    def try_create(
        self, container_id: str = BOX, log: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `create` as conmon does, under a parent that stays."""
        self.pid_file.unlink(missing_ok=True)
        args = [self.driver.path, *self.driver.global_args(log), "create"]
        args += ["--bundle", str(self.bundle), "--pid-file", str(self.pid_file), container_id]
        reader, writer = os.pipe()
        with open(self.output, "ab") as output, open(f"{self.output}.err", "w+") as errors:
            parent = subprocess.Popen(
                [sys.executable, "-I", "-S", PARENT, str(writer), str(self._ends), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                pass_fds=[writer],
            )
            self._parents.append(parent)
            os.close(writer)
            with open(reader, encoding="ascii") as told:
                code = int(told.read() or 255)
            errors.seek(0)
            return subprocess.CompletedProcess(args, code, "", errors.read())

    def create(self, script: str = SLEEP, container_id: str = BOX) -> int:
        """Create a container that runs a script; return its pid."""
        self.describe(["sh", "-c", script], container_id)
        done = self.try_create(container_id)
        assert done.returncode == 0, done.stderr
        return int(self.pid_file.read_text())

    def begin(self, script: str = SLEEP) -> int:
        """Create and start a container, and wait until it runs the script."""
        pid = self.create(script)
        self.driver.start(BOX, log=self.log)
        eventually(lambda: "ready" in self.output.read_text())
        return pid

    def bring(self, status: str) -> int:
        """Make a container that is in this status."""
        if status == "unknown":
            return 0
        if status == "created":
            return self.create()
        pid = self.begin()
        if status == "paused":
            self.driver.pause(BOX)
        elif status == "stopped":
            self.driver.kill(BOX, signal.SIGKILL)
            assert self.end(pid) == KILLED
        return pid

    def status(self) -> str:
        """Return the state word of the container."""
        state = self.driver.state(BOX)
        return "unknown" if state is None else state.status

    def end(self, pid: int) -> int:
        """Wait until a container has ended; return its exit code."""
        found: list[str] = []

        def ended() -> bool:
            lines = self._ends.read_text().splitlines()
            found.extend(line.split()[1] for line in lines if line.startswith(f"{pid} "))
            return bool(found)

        await_end(pid)
        eventually(ended)
        return int(found[0])

    @contextlib.contextmanager
    def nobody_reaps(self) -> Iterator[None]:
        """Leave what ends a zombie meanwhile."""
        for parent in self._parents:
            parent.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for parent in self._parents:
                parent.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Delete what there is; nothing of it may be left."""
        for container_id in (BOX, OTHER):
            self.driver.delete(container_id)
        for parent in self._parents:
            parent.wait(10)
        assert self.kept() == []

    def exec(self, *command: str, **options: Any) -> int:
        """Run a second process; what it prints goes where the container's output does."""
        options = {"cwd": "/", "pid_file": str(self.pid_file), "env": {"PATH": "/bin"}} | options
        args = self.driver.exec_args(BOX, command, **options)
        with open(self.output, "ab") as output:
            return subprocess.run(
                [self.driver.path, *self.driver.global_args(), *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=30,
            ).returncode

    def said(self) -> str:
        """Return what was printed since the last time."""
        text = self.output.read_text()
        os.truncate(self.output, 0)
        return text

    def kept(self) -> list[str]:
        """Return what the runtime keeps in its directory."""
        top = self.driver.state_dir
        found = os.listdir(top) if os.path.isdir(top) else []
        return [
            name for name in found if not name.startswith(".")
        ]  # crun ≥ 1.20 has some of its own


def driver_of(runtime: str, directory: Path, flags: tuple[str, ...] = ()) -> Runtime:
    program = runtime_path(runtime)
    if runtime == "fake":
        needs("root, for pid namespaces", os.geteuid(), os.geteuid() == 0)
        program = fake_runtime(directory).path
    assert program is not None
    state, cache = f"{directory}/state", f"{directory}/cache"
    flags = (*(SANDBOX_FLAGS if kind_of(runtime) == "runsc" else ()), *flags)
    return Runtime(runtime, program, state_dir=state, cache_dir=cache, flags=flags)


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One root for all: what these containers write does not matter."""
    directory = make_busybox_rootfs(tmp_path_factory.mktemp("contract") / "rootfs")
    directory.chmod(0o755)  # for other users than root
    return directory


@pytest.fixture
def subject(runtime: str, short_tmp: Path, rootfs: Path) -> Iterator[Subject]:
    """The runtime, with directories of the test's own."""
    subject = Subject(driver_of(runtime, short_tmp), short_tmp, rootfs)
    yield subject
    subject.close()


STATUSES = ("created", "running", "paused", "stopped")
# What every runtime refuses, and what it says then is an error; the rest is up to each.
REFUSED = {
    "unknown": ("start", "pause", "resume", "kill", "exec"),
    "running": ("start", "delete"),
    "paused": ("start", "delete", "exec"),
    "stopped": ("start", "pause", "resume", "kill", "exec"),
}


@pytest.mark.parametrize("status", REFUSED)
def test_refusals(subject: Subject, status: str) -> None:
    subject.bring(status)
    driver = subject.driver
    calls: dict[str, Callable[[], None]] = {
        "start": lambda: driver.start(BOX, log=subject.log),
        "pause": lambda: driver.pause(BOX),
        "resume": lambda: driver.resume(BOX),
        "kill": lambda: driver.kill(BOX, signal.SIGTERM),
        "delete": lambda: driver.delete(BOX, force=False),
    }
    for verb in REFUSED[status]:
        if verb == "exec":
            assert subject.exec("true") != 0
            continue
        with pytest.raises(RuntimeFailed) as caught:
            calls[verb]()
        error = caught.value
        assert {driver.name, verb, BOX} <= set(re.findall(r"[\w-]+", str(error)))
        assert "said nothing" not in str(error)
        assert (type(error), error.exit_code) == (RuntimeFailed, 125)
        assert error.returncode != 0 and error.stderr and verb in error.argv
    assert subject.status() == status  # nothing has changed


# --- state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_state(subject: Subject, status: str) -> None:
    pid = subject.bring(status)
    expected = 0 if status == "stopped" else pid
    bundle = str(subject.bundle)
    assert subject.driver.state(BOX) == RuntimeState(status=status, pid=expected, bundle=bundle)
    os.kill(expected or os.getpid(), 0)


def test_what_was_never_made(subject: Subject) -> None:
    assert subject.driver.state(BOX) is None
    assert subject.kept() == []


def test_a_zombie_is_stopped(subject: Subject) -> None:
    pid = subject.begin("echo ready; sleep 0.2; exit 3")
    with subject.nobody_reaps():
        await_end(pid)
        bundle = str(subject.bundle)
        assert subject.driver.state(BOX) == RuntimeState(status="stopped", pid=0, bundle=bundle)
    assert subject.end(pid) == 3


def test_containers_are_apart(subject: Subject) -> None:
    first, second = subject.create(), subject.create(container_id=OTHER)
    assert first != second
    subject.driver.start(OTHER, log=subject.log)
    states = [subject.driver.state(name) for name in (BOX, OTHER)]
    assert [(s.status, s.pid) for s in states if s] == [("created", first), ("running", second)]
    subject.driver.delete(OTHER)
    assert subject.driver.state(OTHER) is None
    assert subject.status() == "created"


# --- create and start ------------------------------------------------------------------------


def test_nothing_runs_before_start(subject: Subject) -> None:
    pid = subject.create("echo $IN $1; exit 4")
    time.sleep(0.05)
    assert subject.said() == ""
    subject.driver.start(BOX, log=subject.log)
    assert subject.end(pid) == 4
    assert subject.said() == "container\n"
    # a start that goes well has no error in its log
    assert not Path(subject.log).exists() or '"error"' not in Path(subject.log).read_text()


def test_the_process_is_pid_1_of_its_own_namespace_and_leads_its_session(subject: Subject) -> None:
    pid = subject.begin("echo $$; " + SLEEP)
    assert subject.said() == "1\nready\n"
    assert os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    assert os.getsid(pid) == pid
    assert os.listdir(f"/proc/{pid}/fd") == ["0", "1", "2"]


def test_an_id_is_taken_once(subject: Subject) -> None:
    pid = subject.create()
    done = subject.try_create()
    assert done.returncode != 0
    assert "exist" in done.stderr
    bundle = str(subject.bundle)
    assert subject.driver.state(BOX) == RuntimeState(status="created", pid=pid, bundle=bundle)


@pytest.mark.parametrize(
    ("args", "error", "code"),
    [
        (["nope"], ProgramNotFound, 127),
        (["/no/such"], ProgramNotFound, 127),
        (["/etc/passwd"], ProgramNotExecutable, 126),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--debug",)])
def test_a_program_that_cannot_be_run(
    subject: Subject, args: list[str], error: type, code: int, flags: tuple[str, ...]
) -> None:
    if flags:
        top = Path(subject.driver.state_dir).parent
        subject.driver = driver_of(subject.driver.name, top, flags=flags)
    subject.describe(args)
    done = subject.try_create(log=subject.log)
    assert done.returncode != 0
    failed = subject.driver.failed(done.stderr, "create", BOX, log=subject.log)
    assert (type(failed), failed.exit_code) == (error, code)
    assert Path(args[0]).name in str(failed) or "xecutable" in str(failed)
    # Without the log its words on stderr are enough, which is what conmon passes on.
    assert type(subject.driver.failed(done.stderr, "create", BOX, log=None)) is error
    assert not subject.pid_file.exists()
    assert subject.driver.state(BOX) is None
    assert subject.kept() == []


@pytest.mark.parametrize("config", [None, "", "{", "{}"])
def test_a_bundle_that_is_none(subject: Subject, config: str | None) -> None:
    if config is not None:
        (subject.bundle / "config.json").write_text(config)
    done = subject.try_create(log=subject.log)
    assert done.returncode != 0
    failed = subject.driver.failed(done.stderr, "create", BOX, log=subject.log)
    assert type(failed) is RuntimeFailed
    assert subject.driver.state(BOX) is None
    assert subject.kept() == []


def entries_of(text: str) -> Iterator[dict[str, str]]:
    """Yield the objects of a log: runc writes one a line, crun 1.28 several lines each, and runsc
    no end of line."""
    while text := text.lstrip():
        entry, end = json.JSONDecoder().raw_decode(text)
        yield entry
        text = text[end:]


def test_the_log_is_json(subject: Subject) -> None:
    Path(subject.log).write_text('{"level": "info", "msg": "what was there stays"}\n')
    with pytest.raises(RuntimeFailed) as caught:
        subject.driver.start(BOX, log=subject.log)
    first, *entries = entries_of(Path(subject.log).read_text())
    assert first["msg"] == "what was there stays"
    errors = [entry for entry in entries if entry["level"] == "error"]
    assert errors and all({"level", "msg", "time"} <= entry.keys() for entry in entries)
    assert errors[0]["msg"].strip() in str(caught.value)
    assert errors[0]["msg"].strip() in caught.value.stderr  # and the same for people


# --- signals ---------------------------------------------------------------------------------


def test_signals_reach_init(subject: Subject) -> None:
    pid = subject.begin(TRAPS)
    subject.driver.kill(BOX, signal.SIGUSR1)
    eventually(lambda: "got it" in subject.output.read_text())
    subject.driver.kill(BOX, signal.SIGTERM)
    assert subject.end(pid) == 5
    assert subject.status() == "stopped"


def test_a_signal_that_init_does_not_catch(subject: Subject) -> None:
    pid = subject.begin()
    subject.driver.kill(BOX, signal.SIGTERM)  # dropped by the kernel: no error of the runtime's
    subject.driver.kill(BOX, 0)
    assert subject.status() == "running"
    subject.driver.kill(BOX, signal.SIGKILL)
    assert subject.end(pid) == KILLED


def test_a_signal_that_does_not_exist(subject: Subject) -> None:
    subject.begin()
    with pytest.raises(RuntimeFailed):
        subject.driver.kill(BOX, 99)
    assert subject.status() == "running"


def test_everyone_is_killed(subject: Subject) -> None:
    pid = subject.begin(TREE)
    space = os.readlink(f"/proc/{pid}/ns/pid")
    members = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            members += [int(name)] if os.readlink(f"/proc/{name}/ns/pid") == space else []
    assert len(members) >= 4
    subject.driver.kill(BOX, signal.SIGKILL, everyone=True)
    for member in members:
        await_end(member)
    assert subject.end(pid) == KILLED
    subject.driver.kill(BOX, signal.SIGKILL, everyone=True)  # nobody is left, which is fine
    assert subject.status() == "stopped"


def test_a_created_container_can_be_killed(subject: Subject) -> None:
    pid = subject.create("echo never")
    subject.driver.kill(BOX, signal.SIGKILL)
    subject.end(pid)
    assert subject.status() == "stopped"
    assert subject.said() == ""


# --- pause and resume ------------------------------------------------------------------------


def silent(subject: Subject) -> bool:
    """Whether nothing is printed for several times as long as TICKS takes to print something."""
    subject.said()
    time.sleep(0.05)
    return subject.said() == ""


def test_nothing_moves_in_a_paused_container(subject: Subject) -> None:
    pid = subject.begin(TICKS)
    for _ in range(2):
        subject.driver.pause(BOX)
        assert subject.status() == "paused"
        # on v1 it is asked for, and comes about a moment later on a busy host
        eventually(lambda: silent(subject))
        subject.driver.resume(BOX)
        assert subject.status() == "running"
        eventually(subject.said)
    subject.driver.kill(BOX, signal.SIGTERM)
    assert subject.end(pid) == 5


def test_a_signal_waits_for_the_end_of_the_pause(subject: Subject) -> None:
    pid = subject.begin(TICKS)
    subject.driver.pause(BOX)
    subject.driver.kill(BOX, signal.SIGTERM)
    time.sleep(0.05)
    assert subject.status() == "paused"
    subject.driver.resume(BOX)
    assert subject.end(pid) == 5


def test_sigkill_in_a_pause_ends_it_with_the_pause_at_the_latest(subject: Subject) -> None:
    pid = subject.bring("paused")
    subject.driver.kill(BOX, signal.SIGKILL)
    with contextlib.suppress(RuntimeFailed):  # where it is dead already (cgroup v2, and runc)
        subject.driver.resume(BOX)
    assert subject.end(pid) == KILLED
    assert subject.status() == "stopped"


# --- delete ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["unknown", *STATUSES])
def test_delete_by_force_leaves_nothing_and_can_be_repeated(subject: Subject, status: str) -> None:
    pid = subject.bring(status)
    subject.driver.delete(BOX)
    if pid:
        await_end(pid)
    assert subject.driver.state(BOX) is None
    assert subject.kept() == []
    subject.driver.delete(BOX)
    if status == "running":
        assert subject.begin() != pid  # the id is free
        assert subject.status() == "running"


@pytest.mark.parametrize("status", ["unknown", "created", "stopped"])
def test_delete_without_force(subject: Subject, status: str) -> None:
    pid = subject.bring(status)
    subject.driver.delete(BOX, force=False)
    if pid:
        await_end(pid)
    assert subject.driver.state(BOX) is None
    assert subject.kept() == []
    subject.driver.delete(BOX, force=False)


def test_forget_needs_no_runtime(subject: Subject) -> None:
    pid = subject.begin()
    assert subject.kept() == [BOX]
    os.kill(pid, signal.SIGKILL)
    subject.end(pid)
    subject.driver.forget(BOX)
    assert subject.kept() == []
    assert subject.driver.state(BOX) is None
    subject.driver.forget(BOX)
    subject.begin()  # in the cgroup that was left
    assert subject.status() == "running"


# --- exec ------------------------------------------------------------------------------------


def test_exec(subject: Subject) -> None:
    pid = subject.begin()
    subject.said()
    script = 'echo $$ $OUT; pwd; id -u; id -g; [ -t 1 ] || echo no terminal; exit "$1"'
    options = {"cwd": "/tmp", "user": "1000:2000", "env": {"PATH": "/bin", "OUT": "a b"}}
    assert subject.exec("sh", "-c", script, "sh", "7", **options) == 7
    number, *lines = subject.said().splitlines()
    assert lines == ["/tmp", "1000", "2000", "no terminal"]
    own, _, out = number.partition(" ")
    assert int(own) > 1 and out == "a b"
    assert int(subject.pid_file.read_text()) not in (0, pid)
    assert subject.status() == "running"


def test_exec_that_dies_of_a_signal_or_cannot_be_run(subject: Subject) -> None:
    subject.begin()
    assert subject.exec("sh", "-c", "kill -9 $$") == 128 + 9
    assert subject.exec("nope") not in (0, 128 + 9)
    assert subject.status() == "running"


def test_who_copies_the_streams_of_an_exec(subject: Subject) -> None:
    """What a program has left running holds up only a runtime that says so."""
    subject.begin()
    driver = subject.driver
    script = "sleep 1000 & echo $!; exit 5"
    args = driver.exec_args(BOX, ("/bin/sh", "-c", script), cwd="/", pid_file=str(subject.pid_file))
    call = [driver.path, *driver.global_args(), *args]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(call, **streams) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().strip().isdigit()
        if driver.copies_streams():
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            driver.kill(BOX, signal.SIGKILL)  # and all that is in its pid namespace
        assert process.wait(30) == 5


# --- the rest --------------------------------------------------------------------------------


def test_version(subject: Subject) -> None:
    assert any(character.isdigit() for character in subject.driver.version())
