"""events_resume: what is told of a container's whole life, to readers that come, die and return."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import (
    SLEEP,
    TRAPS,
    eventually,
    forked,
    kill_init,
    kill_monitor,
    make,
    printed,
    ready,
    started,
)
from longshore import Container, Engine, Event, Gap, ProgramNotFound, _log
from longshore.engine import events as telling
from longshore.store import Record

LIFE = [
    "create", "init", "start", "exec", "exec_died", "pause", "unpause", "kill", "rename",
    "restart", "stop", "died", "cleanup", "init", "start", "stop", "died", "cleanup", "remove",
]  # fmt: skip


def live(engine: Engine, rootfs: Path, pause: Callable[[], object] = lambda: None) -> Container:
    """Lead a container through its whole life; ``pause`` is called between two steps."""
    box = make(engine, rootfs, TRAPS, name="box", labels={"a": "b"})
    for step in (
        box.start,
        lambda: ready(box),
        lambda: box.exec(["sh", "-c", "exit 4"]),
        box.pause,
        box.unpause,
        lambda: box.kill("WINCH"),
        lambda: box.rename("other"),
        lambda: box.restart(0),
        lambda: eventually(lambda: printed(box).count(b"ready") == 2),  # its trap is set
        lambda: box.stop(20),
        lambda: settled(box),
        box.remove,
    ):
        pause()
        step()
    return box


def settled(box: Container) -> None:
    """Wait for the exit command: a removal that is faster would do its work."""
    eventually(lambda: box.status.value == "exited")


def told(engine: Engine, since: int = 0) -> list[Event]:
    """Return all events of an engine."""
    with engine.events(since=since, follow=False) as stream:
        found = list(stream)
    assert not any(isinstance(one, Gap) for one in found)
    return [one for one in found if isinstance(one, Event)]


def actions(engine: Engine) -> list[str]:
    return [one.action for one in told(engine)]


def test_a_whole_life(engine: Engine, busybox_rootfs: Path) -> None:
    box = live(engine, busybox_rootfs)
    found = told(engine)
    assert [one.action for one in found] == LIFE
    assert {one.id for one in found} == {box.id}
    assert [one.name for one in found] == ["box"] * 8 + ["other"] * 11
    assert all(one.labels == {"a": "b"} for one in found)
    numbers = [one.seq for one in found]
    assert numbers == sorted(set(numbers))
    by_action = {one.action: one for one in found}
    assert by_action["kill"].attributes == {"signal": str(int(signal.SIGWINCH))}
    assert by_action["rename"].attributes == {"oldName": "box"}
    assert by_action["exec_died"].exit_code == 4
    assert by_action["exec"].attributes == by_action["exec_died"].attributes
    first, second = (one for one in found if one.action == "died")
    assert (first.exit_code, first.attributes["reason"]) == (137, "stop_escalated")
    assert (second.exit_code, second.attributes["reason"]) == (5, "stopped")


class Reader:
    """A process that follows the events and is killed now and then; another one goes on."""

    def __init__(self, engine: Engine, path: Path) -> None:
        settings = engine.settings
        self._engine = engine
        self._path = path
        self._argv = [
            str(Path(sys.executable).with_name("longshore")),
            "--root", settings.root, "--runroot", settings.run_root,
            "events", "--format", "{{.Seq}} {{.Status}}",
        ]  # fmt: skip
        self.seen: list[tuple[int, str]] = []
        self.lives = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:  # noqa: PYI034
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        since = self.seen[-1][0] if self.seen else 0
        with open(self._path, "wb") as file:
            self._process = subprocess.Popen(
                [*self._argv, "--since", f"seq:{since}"], stdout=file, stdin=subprocess.DEVNULL
            )
        self.lives += 1

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            # what it had not finished to say, it had not said
            whole, _, _ = self._path.read_text().rpartition("\n")
            lines = [line.split() for line in whole.splitlines()]
            self.seen += [(int(seq), action) for seq, action in lines]

    def await_said(self, event: Event) -> None:
        said = f"{event.seq} {event.action}\n".encode()
        eventually(lambda: said in self._path.read_bytes())

    def kill(self) -> None:
        """Kill it once it has said all that there is, and let another go on."""
        for last in told(self._engine)[-1:]:
            if not self.seen or self.seen[-1][0] < last.seq:
                self.await_said(last)
        self._end()
        self._begin()


def test_events_resume(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    """Killed between any two steps of a container's life, readers lose nothing, and see nothing
    twice: each goes on after the number that the one before has said last."""
    with Reader(engine, short_tmp / "said") as reader:
        live(engine, busybox_rootfs, reader.kill)
        reader.await_said(told(engine)[-1])
    assert reader.seen == [(one.seq, one.action) for one in told(engine)]
    assert [action for _, action in reader.seen] == LIFE
    assert reader.lives > 10


def test_a_reader_that_is_killed_anywhere(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """As above, and the readers are killed while they read."""
    with Reader(engine, short_tmp / "said") as reader:
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.13):
                reader._end()
                reader._begin()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for _ in range(3):
                live(engine, busybox_rootfs)
        finally:
            stop.set()
            killer.join()
        last = told(engine)[-1]
        if reader.seen[-1][0] < last.seq:
            reader.await_said(last)
    assert reader.seen == [(one.seq, one.action) for one in told(engine)]
    assert [action for _, action in reader.seen] == LIFE * 3


def follow(
    engine: Engine, found: list[tuple[Event, object]], look: Callable[[Event], object]
) -> Iterator[None]:
    """Note for each event what there is to see at its moment."""
    with engine.events() as stream:

        def note() -> None:
            for one in stream:
                assert isinstance(one, Event)
                found.append((one, look(one)))

        reader = threading.Thread(target=note)
        reader.start()
        yield
        eventually(lambda: sum(one.action == "remove" for one, _ in found) == 20)
        stream.close()
        reader.join(10)


def test_died_comes_after_the_exit_record(engine: Engine, busybox_rootfs: Path) -> None:
    """Whoever hears of a death can read how: whoever wrote it down, and with --rm too."""
    found: list[tuple[Event, object]] = []

    def look(event: Event) -> object:
        info = engine.exit_of(event.id) if event.action == "died" else None
        return None if info is None else (info.code, info.reason.value)

    for _ in follow(engine, found, look):
        for n in range(10):
            box = started(engine, busybox_rootfs, f"exit {n}", remove=True)
            box.wait(30, condition="removed")
            assert engine.run(command=["sh", "-c", "kill -9 $$"], rootfs=busybox_rootfs)
    deaths = [(one, seen) for one, seen in found if one.action == "died"]
    assert len(deaths) == 20
    for event, seen in deaths:
        assert seen == (event.exit_code, event.attributes["reason"])
    for ident in {one.id for one, _ in found}:
        own = [one.action for one, _ in found if one.id == ident]
        assert own == ["create", "init", "start", "died", "cleanup", "remove"]


def test_who_is_killed_before_it_could_tell(engine: Engine, busybox_rootfs: Path) -> None:
    """The exit record is there and its writer dies: the clean-up tells of the death, once."""
    box = make(engine, busybox_rootfs, "exit 3")
    with box.attended():
        box.start()

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def wait() -> None:
            telling.emit_died = die  # type: ignore[assignment]
            box.wait(30)

        with forked(wait) as pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert engine.exit_of(box.id) is not None
        assert actions(engine) == ["create", "init", "start"]
    assert actions(engine) == ["create", "init", "start", "died", "cleanup"]
    assert told(engine)[-2].exit_code == 3
    box.remove()


def test_a_start_that_was_cut_short(engine: Engine, busybox_rootfs: Path) -> None:
    """The starter is killed when its container runs, before it has written that down."""
    box = make(engine, busybox_rootfs, SLEEP)

    def start() -> None:
        write = engine._machinery.store.write

        def fatal(record: Record) -> None:
            if record.status.value == "running":
                os.kill(os.getpid(), signal.SIGKILL)
            write(record)

        type(engine._machinery.store).write = lambda _, record: fatal(record)  # type: ignore[method-assign]
        box.start()

    with forked(start) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert actions(engine) == ["create", "init"]
    box.stop(0)
    assert actions(engine)[:5] == ["create", "init", "start", "stop", "died"]
    box.remove(force=True)


def test_who_attaches_is_told_of(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "read x; echo $x", interactive=True)
    with box.attach(stdin=True) as attachment:
        attachment.write(b"hi\n")
        assert [data for _, data in attachment] == [b"hi\n"]
    box.wait(30)
    assert actions(engine)[:5] == ["create", "init", "start", "attach", "died"]
    box.remove(force=True)


def test_deaths_of_every_kind(engine: Engine, busybox_rootfs: Path) -> None:
    with pytest.raises(ProgramNotFound):
        engine.run(command=["/nope"], rootfs=busybox_rootfs)
    found = told(engine)
    assert [one.action for one in found] == ["create", "died", "remove"]
    assert (found[1].exit_code, found[1].attributes) == (127, {"reason": "start_failed"})

    begin = found[-1].seq
    box = started(engine, busybox_rootfs, SLEEP)
    kill_monitor(box)
    kill_init(box)
    box.wait(30)
    box.remove(force=True)
    died = next(one for one in told(engine, begin) if one.action == "died")
    assert (died.exit_code, died.attributes) == (-1, {"reason": "monitor_lost"})

    begin = told(engine)[-1].seq
    box = started(engine, busybox_rootfs, SLEEP)
    box.remove(force=True)
    died = next(one for one in told(engine, begin) if one.action == "died")
    assert (died.exit_code, died.attributes) == (137, {"reason": "killed"})

    begin = told(engine)[-1].seq
    box = started(engine, busybox_rootfs, SLEEP)
    kill_monitor(box)
    box.remove(force=True)  # without its conmon
    assert [one.action for one in told(engine, begin)][-2:] == ["died", "remove"]


def test_a_damaged_container_is_told_of_by_its_id(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    Path(engine._machinery.paths(box.id).record).write_text("{")
    box.remove(force=True)
    last = told(engine)[-1]
    assert (last.action, last.id) == ("remove", box.id)


def test_an_event_that_cannot_be_written_harms_nothing(
    engine: Engine, busybox_rootfs: Path
) -> None:
    engine._machinery.layout.prepare()
    directory = Path(engine._machinery.layout.events)
    directory.rmdir()
    directory.write_text("no directory")  # root could write to any
    ears = Ears()
    before = _log.listen(ears)
    try:
        box = started(engine, busybox_rootfs, SLEEP)
        box.pause()
        box.unpause()
        assert box.exec(["true"]).returncode == 0
        box.rename("other")
        assert box.stop(0) is not None
        box.remove()
    finally:
        _log.listen(before)
    assert ears.heard == [f"events cannot be written to {directory}: Not a directory"]


class Ears:
    """Hears what is said beside the work."""

    level = _log.WARNING

    def __init__(self) -> None:
        self.heard: list[str] = []

    def hear(self, _: int, message: str) -> None:
        self.heard.append(message)


def test_the_command(engine: Engine, cli: Cli, busybox_rootfs: Path) -> None:
    cli("run", "--rm", "--name", "box", "--label", "a=b", "--rootfs", str(busybox_rootfs),
        "sh", "-c", "exit 3", code=3)  # fmt: skip
    lines = cli("events", "--stream=false").stdout.splitlines()
    assert [line.split(" (")[0].split()[-2] for line in lines] == [
        "create", "init", "start", "died", "cleanup", "remove",
    ]  # fmt: skip
    assert lines[3].endswith("(image=, name=box, a=b, reason=exited, exitCode=3)")
    out = cli("events", "--until", "0s", "--format", "json", "-f", "event=died").stdout
    row = json.loads(out)
    assert (row["ContainerExitCode"], row["Name"]) == (3, "box")
    rest = cli("events", "--since", f"seq:{row['Seq']}", "--stream=false").stdout.splitlines()
    assert rest == lines[4:]


def test_many_at_once(engine: Engine, busybox_rootfs: Path) -> None:
    """Processes that start and end containers at the same time share the log and no lock."""

    def work() -> None:
        for n in range(3):
            engine.run(command=["sh", "-c", f"exit {n}"], rootfs=busybox_rootfs)

    with forked(work) as one, forked(work) as two, forked(work) as three, forked(work) as four:
        for pid in (one, two, three, four):
            assert os.waitpid(pid, 0)[1] == 0
    found = told(engine)
    idents = {one.id for one in found}
    assert len(idents) == 12
    for ident in idents:
        own = [event.action for event in found if event.id == ident]
        assert own == ["create", "init", "start", "died", "cleanup", "remove"]
