"""store/sessions.py: one record an exec session; a damaged one disables no other."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from longshore.errors import Busy, NoSuchContainer, NoSuchExec, RecordCorrupt
from longshore.linux.processes import ProcessId, identify
from longshore.models import ExitInfo, ExitReason, Usage
from longshore.options.execs import ExecConfig
from longshore.store import Layout, Store
from longshore.store.sessions import KEPT_SESSIONS, SessionRecord, SessionStore

CONTAINER = "c" * 64
GONE = ProcessId(pid=1 << 22, start=1)
ENDED = ExitInfo(code=3, reason=ExitReason.EXITED, finished_ns=7, usage=Usage(cpu_user=0.5))


def session(number: int = 1, **more: object) -> SessionRecord:
    return SessionRecord(
        id=f"{number:064x}",
        config=ExecConfig(command=("sh", "-c", "true"), env={"A": "1"}, console_size=None),
        run=2,
        boot_id="boot",
        cgroup="/x",
        created_ns=number,
    ).replace(**more)


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    layout.prepare()
    os.makedirs(layout.paths(CONTAINER).home)
    os.makedirs(layout.paths(CONTAINER).live_execs)
    return SessionStore(Store(layout), CONTAINER)


def test_what_is_written_is_read(store: SessionStore) -> None:
    full = session(
        actor=identify(os.getpid()),
        process=ProcessId(pid=2, start=3),
        monitor=ProcessId(pid=4, start=5),
        started_ns=6,
        intent="kill",
        intent_signal=9,
        exit=ENDED,
        config=ExecConfig(command=("cat",), tty=True, console_size=(24, 80), stdin=True),
    )
    store.create(full)
    assert store.peek(full.id) == full
    assert store.ids() == [full.id]


def test_a_session_is_changed_under_its_lock(store: SessionStore) -> None:
    store.create(session())
    with store.locked(session().id, "test") as held:
        held.save(held.record.replace(exit=ENDED))
        with pytest.raises(Busy, match=r"exec 0{12}.*held by process \d+"):
            store.locked(session().id, "other", deadline=time.monotonic())
    assert store.peek(session().id).exit == ENDED


def test_a_container_that_is_gone(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    store = SessionStore(Store(layout), CONTAINER)
    with pytest.raises(NoSuchContainer):
        store.create(session())
    assert store.ids() == store.live_ids() == []
    assert not os.path.exists(layout.paths(CONTAINER).home)


def test_a_session_that_is_not_there(store: SessionStore) -> None:
    for ask in (store.peek, store.resolve, lambda one: store.locked(one, "test")):
        with pytest.raises(NoSuchExec):
            ask("f" * 64)
    with pytest.raises(NoSuchExec):
        store.write(session())
    store.remove("f" * 64)


def test_ids_may_be_shortened(store: SessionStore) -> None:
    first, second = session(0x11), session(0x12)
    first, second = first.replace(id="ab" * 32), second.replace(id="ac" * 32)
    store.create(first)
    store.create(second)
    assert store.resolve("ab") == first.id
    assert store.resolve(second.id) == second.id
    with pytest.raises(NoSuchExec, match="beginning of 2"):
        store.resolve("a")
    with pytest.raises(NoSuchExec):
        store.resolve("")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 2}',
        json.dumps({"format": 1, **session(2).to_json()}).encode(),  # of another session
        json.dumps({"format": 1, **session().to_json(), "intent": 7}).encode(),
        json.dumps({"format": 1, **session().to_json(), "exit": {"code": "x"}}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_record_disables_one_session(store: SessionStore, data: bytes) -> None:
    store.create(session())
    store.create(session(2))
    Path(store.paths(session().id).record).write_bytes(data)
    with pytest.raises(RecordCorrupt, match="damaged"):
        store.peek(session().id)
    with pytest.raises(RecordCorrupt):
        store.locked(session().id, "test")
    assert store.peek(session(2).id) == session(2)
    assert len(store.ids()) == 2
    store.remove(session().id)
    assert store.ids() == [session(2).id]


def test_what_a_killed_creation_leaves_is_no_session(store: SessionStore) -> None:
    execs = Path(store.paths("x").home).parent
    own = identify(os.getpid())
    assert own is not None
    left = execs / f".{GONE.pid}.{GONE.start}.{session().id}"
    busy = execs / f".{own.pid}.{own.start}.{session().id}"
    for directory in (left, busy):
        directory.mkdir(parents=True)
        (directory / "lock").touch()
    assert store.ids() == []
    store.sweep()
    assert not left.exists()
    assert busy.exists()


def test_the_last_ended_ones_are_kept(store: SessionStore) -> None:
    count = KEPT_SESSIONS + 20
    for number in range(1, count + 1):
        store.create(session(number, exit=ENDED))
        os.utime(store.paths(session(number).id).record, (number, number))
    running = session(1000)  # it has a directory where what lives has one
    started = session(1001, actor=identify(os.getpid()))
    for one in (running, started):
        store.create(one)
        os.utime(store.paths(one.id).record, (0, 0))
    os.mkdir(store.paths(running.id).run)
    store.sweep()
    assert store.kept_exit(session(1).id) == ENDED  # beyond its record
    left = {*store.ids()}
    assert {running.id, started.id} <= left
    ended = sorted(int(i, 16) for i in left - {running.id, started.id})
    assert ended == [*range(count - KEPT_SESSIONS + 1, count + 1)]


def test_exits_are_kept_beyond_the_container(store: SessionStore) -> None:
    store.create(session(1, exit=ENDED))
    store.create(session(2))
    assert store.kept_exit(session(1).id) is None
    store.keep_exits()
    assert store.kept_exit(session(1).id) == ENDED
    assert store.kept_exit(session(2).id) is None


def test_a_start_that_was_killed_at_once_is_forgotten(store: SessionStore) -> None:
    """It has a record, and no directory of its run, by which others are found."""
    store.create(session(1, actor=ProcessId(pid=os.getpid(), start=1)))
    alive = identify(os.getpid())
    store.create(session(2, actor=alive))
    store.sweep()
    assert [*store.ids()] == [session(2).id]
