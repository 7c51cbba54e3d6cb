"""engine/events.py and engine/eventstream.py: telling, and reading as a stream."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from longshore import Engine, Event, EventStream, Gap, _log
from longshore.engine import events
from longshore.engine.machinery import Machinery
from longshore.errors import InvalidArgument, StoreError
from longshore.lifecycle import Status
from longshore.models import ExitInfo, ExitReason
from longshore.options import ContainerConfig
from longshore.store import Record, Run
from longshore.store import events as store_events
from longshore.store.events import EventLog

ID = "ab" * 32


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(root=tmp_path / "root", run_root=tmp_path / "run")


@pytest.fixture
def machinery(engine: Engine) -> Machinery:
    engine._machinery.layout.prepare()
    return engine._machinery


def record(name: str = "box", **fields: Any) -> Record:
    config = ContainerConfig(name=name, image="img", labels={"a": "b"})
    return Record(**{"id": ID, "config": config, "created_ns": 1, **fields})


def ended(code: int = 3, mark: int | None = None) -> Record:
    info = ExitInfo(code=code, reason=ExitReason.EXITED)
    run = Run(number=1, boot_id="b", runtime="crun", runtime_path="/crun", exit_mark=mark)
    return record(status=Status.STOPPED, exits=(info,), run=run)


def put(machinery: Machinery, *actions: str, name: str = "box") -> None:
    for action in actions:
        events.emit(machinery, action, record(name))


def taken(engine: Engine, **how: Any) -> list[str | Gap]:
    with engine.events(follow=False, **how) as stream:
        return [one if isinstance(one, Gap) else one.action for one in stream]


def only(one: Event | Gap) -> Event:
    assert isinstance(one, Event)
    return one


# --- telling ----------------------------------------------------------------------------------


def test_an_event_says_of_whom(engine: Engine, machinery: Machinery) -> None:
    before = datetime.now(UTC)
    events.emit(machinery, "kill", record(), attributes={"signal": "9"})
    events.emit_exec(machinery, "exec_died", record(), "exec-1", exit_code=4)
    events.emit_died(machinery, ended(3))
    with engine.events(follow=False) as stream:
        killed, exec_died, died = map(only, stream)
    assert (killed.type, killed.action, killed.id, killed.name) == ("container", "kill", ID, "box")
    assert (killed.image, killed.labels, killed.exit_code) == ("img", {"a": "b"}, None)
    assert killed.attributes == {"signal": "9"}
    assert before - timedelta(seconds=1) < killed.time < before + timedelta(seconds=60)
    assert (exec_died.exit_code, exec_died.attributes) == (4, {"execID": "exec-1"})
    assert (died.exit_code, died.attributes) == (3, {"reason": "exited"})
    assert 0 < killed.seq < exec_died.seq < died.seq


def test_an_exec_in_a_container_that_is_gone(engine: Engine, machinery: Machinery) -> None:
    events.emit_exec(machinery, "exec_died", ID, "exec-1", exit_code=0)
    assert taken(engine) == []


class Ears:
    level = _log.WARNING

    def __init__(self) -> None:
        self.heard: list[str] = []

    def hear(self, _: int, message: str) -> None:
        self.heard.append(message)


def test_what_cannot_be_written_fails_nothing_and_is_said_once(
    engine: Engine, machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events, "_warned", set())
    ears = Ears()
    before = _log.listen(ears)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            put(machinery, "create", "start")
            events.emit_died(machinery, ended())
    finally:
        _log.listen(before)
    directory = machinery.layout.events
    assert ears.heard == [f"events cannot be written to {directory}: No space left on device"]
    assert taken(engine) == []


def test_a_died_that_was_not_told_is_made_up_for_once(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "start")
    events.emit_died(machinery, ended())  # of an earlier run
    told = ended(mark=events.mark(machinery))
    put(machinery, "kill")
    for _ in range(3):
        events.make_up(machinery, told)
    assert taken(engine) == ["start", "died", "kill", "died"]


def test_what_was_told_is_not_made_up_for(engine: Engine, machinery: Machinery) -> None:
    told = ended(mark=events.mark(machinery))
    events.emit_died(machinery, told)
    put(machinery, "create")
    events.make_up(machinery, told)
    events.make_up(machinery, ended())  # of an older Longshore: there is no mark
    events.make_up(machinery, record())
    assert taken(engine) == ["died", "create"]


def test_a_mark_that_is_not_kept_any_more(engine: Engine, machinery: Machinery) -> None:
    told = ended(mark=10**9)
    events.make_up(machinery, told)
    assert taken(engine) == []


def test_no_mark_without_a_log(machinery: Machinery) -> None:
    shutil.rmtree(machinery.layout.events)
    assert events.mark(machinery) == 0
    Path(machinery.layout.events).write_text("no directory")
    assert events.mark(machinery) is None


# --- reading ----------------------------------------------------------------------------------


def test_nothing_has_happened(engine: Engine) -> None:
    assert taken(engine) == []
    assert taken(engine, since=0) == []
    assert not os.path.exists(engine.settings.root), "looking makes nothing"


def test_what_is_kept_and_from_where(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create", "init", "start", "died")
    with engine.events(follow=False) as stream:
        numbers = [only(one).seq for one in stream]
    assert taken(engine, since=0) == ["create", "init", "start", "died"]
    assert taken(engine, since=numbers[1]) == ["start", "died"]
    assert taken(engine, since=numbers[-1]) == []
    assert taken(engine, until=numbers[1]) == ["create", "init"]
    assert taken(engine, since=numbers[0], until=numbers[2]) == ["init", "start"]
    assert taken(engine, since=numbers[2], until=numbers[0]) == []


def test_moments(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create")
    time.sleep(0.002)
    between = datetime.now(UTC)
    time.sleep(0.002)
    put(machinery, "start")
    assert taken(engine, since=between) == ["start"]
    assert taken(engine, until=between) == ["create"]
    assert taken(engine, since=between.astimezone().replace(tzinfo=None)) == ["start"]
    assert taken(engine, since=between + timedelta(days=1)) == []
    assert taken(engine, since=datetime.fromtimestamp(0, UTC)) == ["create", "start"]


def test_numbers_are_not_negative(engine: Engine) -> None:
    with pytest.raises(InvalidArgument, match="not negative"):
        engine.events(since=-1)
    with pytest.raises(InvalidArgument, match="not negative"):
        engine.events(until=-1, follow=False)


def test_choosing(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create", "start", name="one")
    put(machinery, "create", "start", name="two")
    events.emit(machinery, "rename", record("three"), attributes={"oldName": "two"})
    assert taken(engine, actions=("start", "died")) == ["start", "start"]
    assert taken(engine, containers=["one"]) == ["create", "start"]
    assert taken(engine, containers=["two"]) == ["create", "start", "rename"]
    assert len(taken(engine, containers=[ID[:5]])) == 5
    assert taken(engine, containers=["one"], actions=["create"]) == ["create"]
    assert taken(engine, containers=["nobody"]) == []


def test_a_gap_comes_first(
    engine: Engine, machinery: Machinery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_events, "SEGMENT", 1000)
    monkeypatch.setattr(EventLog.__init__, "__kwdefaults__", {"segment": 1000, "kept": 2})
    begin = datetime.now(UTC)
    put(machinery, *["start"] * 40)
    gap, *rest = taken(engine, since=0)
    assert isinstance(gap, Gap)
    assert (gap.start, gap.end % 1000) == (0, 0)
    assert rest == ["start"] * len(rest)
    assert taken(engine, since=begin) == [gap, *rest]
    assert taken(engine) == rest, "nothing was asked for that is not there"
    assert taken(engine, since=10**6) == [
        Gap(start=10**6, end=EventLog(machinery.layout.events).end())
    ]
    assert taken(engine, since=0, actions=["nothing"]) == [gap], "whoever they were of"


def test_following_begins_when_it_is_asked_for(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create")
    with engine.events() as stream:
        put(machinery, "start", "died")
        assert [only(next(stream)).action for _ in range(2)] == ["start", "died"]
        threading.Timer(0.05, put, (machinery, "cleanup")).start()
        assert only(next(stream)).action == "cleanup"


def test_following_before_anything_is_there(engine: Engine) -> None:
    with engine.events() as stream:
        threading.Timer(0.05, put, (engine._machinery, "create")).start()
        assert only(next(stream)).action == "create"


def test_following_ends_at_a_number_or_a_moment(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create", "start", "died")
    with engine.events(follow=False) as stream:
        second = [only(one).seq for one in stream][1]
    with engine.events(since=0, until=second) as stream:
        assert [only(one).action for one in stream] == ["create", "start"]
    begin = time.monotonic()
    with engine.events(since=0, until=datetime.now(UTC) + timedelta(seconds=0.2)) as stream:
        assert len(list(stream)) == 3
    assert 0.15 < time.monotonic() - begin < 10
    with engine.events(since=0, until=datetime.fromtimestamp(0, UTC)) as stream:
        assert list(stream) == []


def test_going_on_where_another_stopped(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create", "init", "start")
    with engine.events(since=0) as stream:
        assert stream.seq == 0
        assert only(next(stream)).seq == stream.seq
        position = stream.seq
    assert taken(engine, since=position) == ["init", "start"]
    # what was not asked for is behind us too
    with engine.events(since=0, actions=["start"], follow=False) as stream:
        assert only(next(stream)).seq == stream.seq
        put(machinery, "kill")
        assert list(stream) == []
        assert taken(engine, since=stream.seq) == ["kill"]
    with engine.events(since=0, actions=["nothing"], follow=False) as stream:
        assert list(stream) == []
        assert taken(engine, since=stream.seq) == []


def test_another_thread_ends_it(engine: Engine) -> None:
    with engine.events() as stream:
        ended = threading.Event()

        def wait() -> None:
            assert list(stream) == []
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.05)
        before = len(os.listdir("/proc/self/fd"))
        stream.close()
        waiting.join(10)
        assert ended.is_set()
        assert len(os.listdir("/proc/self/fd")) < before, "it let go of what it held"
        stream.close()
        assert list(stream) == []


def drain(stream: EventStream, seen: list[int]) -> None:
    seen.extend(only(one).seq for one in stream)


def test_many_threads_and_a_close(engine: Engine, machinery: Machinery) -> None:
    """Whoever comes to it: each event goes to one thread, and all of them end."""
    for _ in range(20):
        stream = engine.events()
        seen: list[int] = []
        threads = [threading.Thread(target=drain, args=(stream, seen)) for _ in range(4)]
        for thread in threads:
            thread.start()
        put(machinery, "start", "start", "start")
        deadline = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        closing = [threading.Thread(target=stream.close) for _ in range(3)]
        for thread in [*closing, *threads]:
            if thread in closing:
                thread.start()
            thread.join(10)
            assert not thread.is_alive()
        assert len(seen) == len(set(seen)) == 3
        assert stream._bell == -1


def test_a_close_in_the_middle_of_it(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create", "start")
    stream = engine.events(since=0)
    for one in stream:
        assert only(one).action == "create"
        stream.close()
    assert list(stream) == []


def test_a_forgotten_one_warns(engine: Engine) -> None:
    stream = engine.events()
    with pytest.warns(ResourceWarning, match="unclosed EventStream"):
        del stream
        gc.collect()


def test_the_root_is_removed_meanwhile(engine: Engine, machinery: Machinery) -> None:
    put(machinery, "create")
    with engine.events(since=0) as stream:
        next(stream)
        threading.Timer(0.05, shutil.rmtree, (machinery.layout.events,)).start()
        with pytest.raises(StoreError, match="removed"):
            next(stream)


def test_a_reader_that_sleeps_uses_no_time(engine: Engine) -> None:
    with engine.events(until=datetime.now(UTC) + timedelta(seconds=0.5)) as stream:
        before = time.thread_time()
        assert list(stream) == []
        assert time.thread_time() - before < 0.1


def test_it_is_public(engine: Engine) -> None:
    with engine.events(follow=False) as stream:
        assert isinstance(stream, EventStream)
        assert iter(stream) is stream
