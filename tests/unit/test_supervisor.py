"""engine/supervisor.py: who is looked after, how it is started, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longshore
from longshore.config import Settings
from longshore.engine import supervisor
from longshore.engine.machinery import Machinery
from longshore.linux import procs
from longshore.linux.inotify import poll
from longshore.linux.locks import FileLock, is_locked
from longshore.linux.processes import ProcessId, boot_id, identify
from longshore.options import ContainerConfig
from longshore.options.execs import ExecConfig
from longshore.store import Record, Run
from longshore.store.sessions import SessionRecord, SessionStore

PACKAGE = str(Path(longshore.__file__).parent.parent)


def told(machinery: Machinery) -> tuple[str, ...]:
    """Return what a supervisor is told, but for the descriptor."""
    return (machinery.settings.root, machinery.settings.run_root, "cgroupfs")


ID = "ab" * 32


@pytest.fixture
def machinery(tmp_path: Path) -> Machinery:
    made = Machinery(Settings(root=str(tmp_path / "root"), run_root=str(tmp_path / "run")))
    made.layout.prepare()
    return made


def own() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def record(number: int = 0, **changes: object) -> Record:
    run = Run(number=1, boot_id=boot_id(), runtime="crun", runtime_path="/crun", monitor=own())
    config = ContainerConfig(name=f"box{number}", log_size_max=1000, log_max_files=3)
    made = Record(id=f"{number:064x}", config=config, created_ns=1, run=run)
    for name, value in changes.items():
        part = run if name in Run._fields else config
        part = part.replace(**{name: value})
        made = made.replace(**{"run" if isinstance(part, Run) else "config": part})
    return made


def test_who_is_looked_after(machinery: Machinery) -> None:
    dead = ProcessId(pid=own().pid, start=own().start + 1)
    boxes = [
        record(1),
        record(2, log_size_max=-1),
        record(3, log_size_max=0),
        record(4, log_driver="none"),
        record(5, boot_id="another"),
        record(6, monitor=dead),
        record(7, monitor=None),
        record(8).replace(run=None),
    ]
    for box in boxes:
        machinery.store.create(box)
    damaged = Path(machinery.paths(boxes[0].id).home).with_name("f" * 64)
    damaged.mkdir()
    (damaged / "record.json").write_text('{"log_size_max"')
    paths = machinery.paths(boxes[0].id)
    task = supervisor._Task(path=paths.log, ctl=paths.ctl_fifo, limit=1000, files=3)
    assert supervisor._wanted(machinery) == {own(): task}


def test_exec_sessions_are_looked_after_too(
    machinery: Machinery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = record(1, log_path=str(tmp_path / "log"))
    machinery.store.create(box)
    store = SessionStore(machinery.store, box.id)
    other = identify(os.getppid())
    for number, (monitor, boot) in enumerate([(other, boot_id()), (own(), "another"), (None, "")]):
        session = SessionRecord(
            id=f"{number:064x}",
            config=ExecConfig(command=("sh",)),
            run=1,
            boot_id=boot,
            cgroup="/x",
            created_ns=1,
            monitor=monitor,
        )
        store.create(session)
        os.makedirs(store.paths(session.id).run)
    found = supervisor._wanted(machinery)
    assert {task.path for task in found.values()} == {
        box.config.log_path,
        store.paths("0" * 64).log,
    }
    assert {(task.limit, task.files) for task in found.values()} == {(1000, 3)}


class Spawned:
    """Stands in for `procs.spawn`, and for the shell that ends at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[str, ...], dict[str, object]]] = []

    def __call__(self, argv: tuple[str, ...], **how: object) -> Spawned:
        self.calls.append((argv, how))
        return self

    def wait(self) -> int:
        return 0


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Spawned:
    made = Spawned()
    monkeypatch.setattr(procs, "spawn", made)
    return made


def test_it_is_started_isolated_and_apart(machinery: Machinery, spawned: Spawned) -> None:
    supervisor.ensure(machinery, record(), wait=True)
    ((argv, how),) = spawned.calls
    settings = machinery.settings
    assert argv[:8] == ("/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-I", "-S", "-c")
    assert argv[9:-1] == (PACKAGE, settings.root, settings.run_root, "cgroupfs")
    assert how["pass_fds"] == (int(argv[-1]),)
    assert (how["cwd"], how["new_session"]) == ("/", True)


def test_nobody_is_called_for_a_log_without_a_limit(machinery: Machinery, spawned: Spawned) -> None:
    for changes in ({"log_size_max": 0}, {"log_driver": "none"}, {"monitor": None}):
        supervisor.ensure(machinery, record(**changes), wait=True)
    assert spawned.calls == []


def test_one_that_is_there_is_called(machinery: Machinery, spawned: Spawned) -> None:
    path = machinery.layout.supervisor
    Path(path).touch()
    os.utime(path, (1, 1))
    with FileLock(path, purpose="supervise"):
        supervisor.ensure(machinery, record(), wait=True)
    assert spawned.calls == []
    assert os.stat(path).st_mtime > 1


def test_one_that_cannot_be_started_is_a_warning(
    machinery: Machinery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(procs, "spawn", refuse)
    before = set(os.listdir("/proc/self/fd"))
    supervisor.ensure(machinery, record(), wait=True)
    assert "box0 below 1000 bytes" in caplog.text
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def ready() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_without_work_it_ends_at_once(machinery: Machinery, ready: tuple[int, int]) -> None:
    reader, writer = ready
    supervisor.main([*told(machinery), str(writer)])
    assert os.read(reader, 1) == b""
    assert not is_locked(machinery.layout.supervisor)


def test_there_is_only_one(machinery: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    path = machinery.layout.supervisor
    Path(path).touch()
    monkeypatch.setattr(supervisor, "_serve", lambda *_: pytest.fail("there is one already"))
    with FileLock(path, purpose="supervise"):
        supervisor._supervise(machinery, path, lambda: None)


def test_who_comes_while_it_lets_go_is_not_forgotten(
    machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starter found the lock held, and does nothing more; so the other looks once more."""
    path = machinery.layout.supervisor
    looks = iter([{own(): supervisor._Task(path="/l", ctl="/c", limit=1, files=1)}, {}])
    served = []

    def wanted(_: Machinery) -> dict[ProcessId, supervisor._Task]:
        assert not is_locked(path), "or a starter could still find it held"
        return next(looks)

    monkeypatch.setattr(supervisor, "_wanted", wanted)
    monkeypatch.setattr(supervisor, "_serve", lambda *_: served.append(is_locked(path)))
    supervisor._supervise(machinery, path, lambda: None)
    assert served == [True, True]


def test_why_it_failed_can_be_read(
    machinery: Machinery, monkeypatch: pytest.MonkeyPatch, ready: tuple[int, int]
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(supervisor, "_serve", fail)
    supervisor.main([*told(machinery), str(ready[1])])
    os.close(ready[1])
    text = Path(f"{machinery.layout.supervisor}.error").read_text()
    assert text.endswith("ValueError: a mistake\n")


class Conmon:
    """This process in conmon's place: a log, and the fifo by which it is asked to reopen it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ctr.log"
        self.ctl = str(directory / "ctl")
        os.mkfifo(self.ctl)
        self.fd = os.open(self.ctl, os.O_RDWR | os.O_NONBLOCK)
        self.file = self.path.open("ab", buffering=0)
        self.task = supervisor._Task(path=str(self.path), ctl=self.ctl, limit=100, files=3)

    def asked(self) -> bool:
        try:
            return os.read(self.fd, 100) == b"2 0 0\n"
        except BlockingIOError:
            return False

    def reopen(self) -> None:
        self.file.close()
        temporary = self.path.with_name("ctr.log.tmp")
        self.file = temporary.open("wb", buffering=0)
        temporary.rename(self.path)

    def close(self) -> None:
        self.file.close()
        os.close(self.fd)


@pytest.fixture
def conmon(tmp_path: Path) -> Iterator[Conmon]:
    made = Conmon(tmp_path)
    yield made
    made.close()


def test_a_log_is_rotated_when_it_is_too_large(conmon: Conmon) -> None:
    log = supervisor._Log(conmon.task, own())

    def woken() -> bool:
        return bool(poll([log.watch.fileno()], 0.0)) and bool(log.watch.take())

    try:
        assert not woken()
        for number in range(6):
            conmon.file.write(bytes(99))
            assert woken()
            assert log.tend() == 1
            assert not conmon.asked()
            conmon.file.write(b"!")
            assert woken()
            assert log.tend() is None
            assert conmon.asked()
            conmon.file.write(b"%d" % number)  # before it gets to it
            log.tend()
            assert not conmon.asked(), "once is enough: the second would throw lines away"
            conmon.reopen()
            assert woken()
            assert log.tend() == 100
        old = [conmon.path.with_name(f"ctr.log.{n}") for n in (1, 2)]
        assert [path.read_bytes()[-2:] for path in old] == [b"!5", b"!4"]
        assert not conmon.path.with_name("ctr.log.3").exists()
    finally:
        log.close()


def test_a_rotation_that_another_has_begun(conmon: Conmon) -> None:
    conmon.path.rename(conmon.path.with_name("ctr.log.1"))
    log = supervisor._Log(conmon.task, own())
    assert conmon.asked()
    log.close()


def test_what_cannot_reach_its_limit_yet_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(supervisor.time, "sleep", naps.append)
    for room, wanted in ((None, []), (100, []), (10**6, [0.005]), (10**9, [0.05])):
        naps.clear()
        supervisor._nap(room)
        assert naps == wanted


# What it needs not, and would keep in memory for as long as a container lives.
UNNEEDED = {
    "argparse", "asyncio", "dataclasses", "datetime", "inspect", "logging", "pathlib", "shutil",
    "socket", "subprocess", "tempfile", "tomllib", "traceback", "typing", "longshore.cli",
    "longshore.engine.container", "longshore.engine.engine", "longshore.engine.finishing",
    "longshore.engine.starting", "longshore.monitor.launch", "longshore.oci",
}  # fmt: skip


def test_it_loads_little(machinery: Machinery) -> None:
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "from longshore.engine.supervisor import main\n"
        "main([*sys.argv[2:], str(os.open('/', os.O_RDONLY))])\n"
        "print(*sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", code, PACKAGE, *told(machinery)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert not {*done.stdout.split()} & UNNEEDED
    assert "longshore.engine.supervisor" in done.stdout
    assert not Path(f"{machinery.layout.supervisor}.error").exists()
