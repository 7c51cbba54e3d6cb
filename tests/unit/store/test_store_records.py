"""store/records.py on a real file system: names, locks, and who wins."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import longshore
from effort import effort
from hostlife import asleep, eventually
from longshore.errors import Busy, NameInUse, NoSuchContainer, RecordCorrupt, StoreError
from longshore.linux.processes import identify
from longshore.models import ExitInfo, ExitReason, Usage
from longshore.options import ContainerConfig
from longshore.store import Layout, Record, Store, records
from longshore.store.records import KEPT_SECONDS

A, B, C = "aa" * 32, "ab" * 32, "cc" * 32
INFO = ExitInfo(code=3, reason=ExitReason.EXITED, usage=Usage(memory_peak=5), finished_ns=7)


def make(container_id: str = A, name: str = "box") -> Record:
    return Record(id=container_id, config=ContainerConfig(name=name), created_ns=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    layout.prepare()
    return Store(layout)


def _is_locked(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False


def _tree(top: str) -> set[str]:
    return {
        os.path.join(directory, name)
        for directory, directories, files in os.walk(top)
        for name in (*directories, *files)
    }


# --- create and read ---------------------------------------------------------------------------


def test_an_empty_store(store: Store, tmp_path: Path) -> None:
    assert store.ids() == []
    assert Store(Layout(str(tmp_path / "no"), str(tmp_path / "no"))).ids() == []
    with pytest.raises(NoSuchContainer, match="there is no container aaaaaaaaaaaa"):
        store.peek(A)
    assert store.exit_record(A) is None


def test_create_and_peek(store: Store) -> None:
    store.create(make())
    assert store.ids() == [A]
    assert store.peek(A) == make()
    assert os.readlink(store.layout.name_link("box")) == A
    assert not _is_locked(store.layout.paths(A).lock)


def test_what_is_no_container_is_not_listed(store: Store) -> None:
    os.mkdir(f"{store.layout.containers}/lost+found")
    assert store.ids() == []


def test_resolve(store: Store) -> None:
    store.create(make(A, "box"))
    store.create(make(B, "b"))
    store.create(make(C, "aaa"))
    assert store.resolve("box") == A
    assert store.resolve(A) == A
    assert store.resolve("aaaa") == A
    assert store.resolve("ab") == B
    assert store.resolve("b") == B
    assert store.resolve("aaa") == C, "a name comes before the beginning of an id"


def test_a_beginning_that_fits_two(store: Store) -> None:
    store.create(make(A, "one"))
    store.create(make(B, "two"))
    with pytest.raises(NoSuchContainer, match="beginning of 2 containers' ids") as caught:
        store.resolve("a")
    assert caught.value.hint == f"write more of the id: {A[:16]}, {B[:16]}"


@pytest.mark.parametrize(
    "ref",
    [
        "", "no", "..", ".", "../names/box", "/etc/passwd", "bo\0x", "BOX", "aab",
        "x" * 5000, "ff" * 32,
    ],
)  # fmt: skip
def test_what_nobody_is_called(store: Store, ref: str) -> None:
    store.create(make())
    with pytest.raises(NoSuchContainer) as caught:
        store.resolve(ref)
    assert "ps --all" in (caught.value.hint or "")


def test_a_name_whose_link_a_crash_took_is_still_found(store: Store) -> None:
    store.create(make())
    os.unlink(store.layout.name_link("box"))
    assert store.resolve("box") == A


def test_a_container_is_whole_or_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A creation that is killed at any step leaves nothing that is listed and cannot be removed."""
    paths = store.layout.paths(A)
    seen: list[tuple[bool, bool]] = []
    for name in ("write_atomic", "create_exclusive"):
        real = getattr(records, name)

        def watched(*args: object, real: Callable[..., None] = real) -> None:
            real(*args)
            seen.append((os.path.exists(paths.lock), os.path.exists(paths.record)))

        monkeypatch.setattr(records, name, watched)
    store.create(make())
    assert len(seen) >= 2
    assert (False, True) not in seen, "a record that cannot be locked"
    with store.locked(A, "remove", deadline=time.monotonic()):
        pass


def test_what_killed_programs_left_is_swept_away(store: Store) -> None:
    store.create(make(A, "box"))
    store.create(make(B, "other"))
    Path(store.layout.paths(B).record).write_text("{")  # damaged is not left over
    me = identify(os.getpid())
    assert me is not None
    own = f".{me.pid}.{me.start}.{C}"
    # one whose pid is another's by now, and one whose directory somebody else made
    reused, alien = f".{me.pid}.{me.start - 1}.{C}", ".lost+found"
    for entry in (f".{1 << 22}.5.{C}", own, reused, alien, "dd" * 32):
        os.makedirs(f"{store.layout.containers}/{entry}/layer")
    os.symlink(C, store.layout.name_link("nobody"))
    os.symlink(A, store.layout.name_link("former"))
    store.sweep()
    assert set(os.listdir(store.layout.containers)) == {own, alien, A, B}
    assert sorted(os.listdir(store.layout.names)) == ["box", "nobody", "other"]
    assert store.resolve("box") == A
    os.rename(f"{store.layout.containers}/{own}", f"{store.layout.containers}/{reused}")
    store.sweep()
    assert set(os.listdir(store.layout.containers)) == {alien, A, B}
    assert sorted(os.listdir(store.layout.names)) == ["box", "other"]


# --- names -------------------------------------------------------------------------------------


def test_a_name_that_is_taken_leaves_nothing_behind(store: Store) -> None:
    store.create(make(A))
    store.layout.paths(B)
    before = _tree(store.layout.root)
    with pytest.raises(NameInUse, match="'box' is in use by container aaaaaaaaaaaa") as caught:
        store.create(make(B))
    assert caught.value.hint == "take another name, or remove it: `longshore rm box`"
    assert _tree(store.layout.root) - before <= {f"{store.layout.root}/names.lock"}
    assert store.resolve("box") == A


def test_a_failed_creation_leaves_nothing_and_frees_the_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _tree(store.layout.root)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_atomic", full)
        with pytest.raises(StoreError, match=r"cannot write the record .*: No space") as caught:
            store.create(make())
    assert "disk full" in (caught.value.hint or "")
    assert _tree(store.layout.root) == before
    store.create(make())


def test_a_link_without_a_container_may_be_taken(store: Store) -> None:
    os.symlink(B, store.layout.name_link("box"))
    store.create(make(A))
    assert store.resolve("box") == A


def test_a_link_to_a_container_of_another_name_may_be_taken(store: Store) -> None:
    """A rename that was killed between its steps leaves one."""
    store.create(make(A, "old"))
    os.symlink(A, store.layout.name_link("box"))
    store.create(make(B, "box"))
    assert (store.resolve("box"), store.resolve("old")) == (B, A)


def test_the_name_of_a_damaged_container_is_not_given_away(store: Store) -> None:
    store.create(make(A))
    Path(store.layout.paths(A).record).write_text("{")
    with pytest.raises(NameInUse):
        store.create(make(B))
    assert store.resolve("box") == A


_TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from longshore.errors import NameInUse
from longshore.options import ContainerConfig
from longshore.store import Layout, Record, Store
store = Store(Layout(sys.argv[2], sys.argv[3]))
record = Record(id=sys.argv[4], config=ContainerConfig(name="box"), created_ns=1)
print("ready", flush=True)
sys.stdin.read(1)
try:
    store.create(record)
    print("won")
except NameInUse:
    print("lost")
"""


@pytest.mark.parametrize("stale", [False, True])
def test_one_of_many_processes_gets_the_name(store: Store, stale: bool) -> None:
    package = str(Path(longshore.__file__).parent.parent)
    for turn in range(effort(3, 1)):
        ids = [f"{turn:02x}{n:02x}" * 16 for n in range(4)]
        if stale:
            os.symlink("ee" * 32, store.layout.name_link("box"))
        programs = [
            subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-c", _TAKE,
                    package, store.layout.root, store.layout.run, i,
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            )
            for i in ids
        ]  # fmt: skip
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
        said = [program.communicate(b"x")[0].strip() for program in programs]
        for program in programs:
            assert program.wait() == 0
        assert sorted(said) == [b"lost"] * 3 + [b"won"]
        winner = ids[said.index(b"won")]
        assert store.ids() == [winner]
        assert store.resolve("box") == winner
        store.remove(winner, "box")


def test_rename(store: Store) -> None:
    store.create(make(A, "old"))
    store.create(make(B, "other"))
    with store.locked(A, "rename") as held:
        store.rename(held, "old")
        store.rename(held, "new")
        assert held.record.name == "new"
        with pytest.raises(NameInUse):
            store.rename(held, "other")
        assert held.record.name == "new"
    assert store.peek(A).name == "new"
    assert sorted(os.listdir(store.layout.names)) == ["new", "other"]
    store.create(make(C, "old"))


def test_a_name_cannot_be_taken_while_a_rename_is_under_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its link is there before its record says so: that must not look like a leftover."""
    store.create(make(A, "old"))
    real = Store.write
    said: list[str] = []
    thief: list[threading.Thread] = []

    def steal() -> None:
        try:
            store.create(make(B, "new"))
            said.append("stolen")
        except NameInUse:
            said.append("refused")

    def write(self: Store, record: Record) -> None:
        if record.id == A and not thief:
            thief.append(threading.Thread(target=steal))
            thief[0].start()
            eventually(lambda: asleep(thief[0]) or not thief[0].is_alive())
        real(self, record)

    monkeypatch.setattr(Store, "write", write)
    with store.locked(A, "rename") as held:
        store.rename(held, "new")
    thief[0].join()
    assert said == ["refused"]
    assert (store.resolve("new"), store.ids()) == (A, [A])


# --- locks -------------------------------------------------------------------------------------


def test_a_record_is_changed_under_its_lock(store: Store) -> None:
    store.create(make())
    lock = store.layout.paths(A).lock
    with store.locked(A, "change it") as held:
        assert _is_locked(lock)
        held.save(held.record.replace(starts=1))
        assert held.record.starts == 1
        assert store.peek(A).starts == 1, "readers need no lock"
    assert not _is_locked(lock)


def test_busy_says_who_and_since_when(store: Store) -> None:
    store.create(make())
    with store.locked(A, "stop"), pytest.raises(Busy) as caught:
        store.locked(A, "remove", deadline=time.monotonic())
    error = caught.value
    assert (error.subject, error.holder) == (A[:12], f"process {os.getpid()} (stop)")
    assert error.since.startswith("20")


def test_containers_do_not_share_a_lock(store: Store) -> None:
    store.create(make(A, "a"))
    store.create(make(B, "b"))
    with store.locked(A, "x"), store.locked(B, "y", deadline=time.monotonic()):
        pass


def test_locking_what_is_not_there(store: Store) -> None:
    with pytest.raises(NoSuchContainer):
        store.locked(A, "x")
    with pytest.raises(NoSuchContainer):
        store.lock_only(A, "x")


def test_a_damaged_record_lets_its_lock_go(store: Store) -> None:
    store.create(make())
    Path(store.layout.paths(A).record).write_bytes(b"\0")
    with pytest.raises(RecordCorrupt):
        store.locked(A, "x")
    lock = store.lock_only(A, "remove", time.monotonic())
    assert _is_locked(store.layout.paths(A).lock)
    with lock:  # as its removal does
        assert _is_locked(store.layout.paths(A).lock)
    assert not _is_locked(store.layout.paths(A).lock)


_COUNT = """
import sys
sys.path.insert(0, sys.argv[1])
from longshore.store import Layout, Store
store = Store(Layout(sys.argv[2], sys.argv[3]))
for _ in range(60):
    with store.locked(sys.argv[4], "count") as held:
        held.save(held.record.replace(starts=held.record.starts + 1))
"""


def test_writers_in_many_processes_lose_no_update(store: Store) -> None:
    store.create(make())
    package = str(Path(longshore.__file__).parent.parent)
    arguments = [package, store.layout.root, store.layout.run, A]
    programs = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", _COUNT, *arguments]) for _ in range(4)
    ]
    seen = 0
    while any(program.poll() is None for program in programs):
        now = store.peek(A).starts
        assert now >= seen
        seen = now
    assert [program.returncode for program in programs] == [0] * 4
    assert store.peek(A).starts == 240
    assert sorted(os.listdir(store.layout.paths(A).home)) == ["lock", "record.json"]


# --- the end -----------------------------------------------------------------------------------


def test_remove(store: Store) -> None:
    before = _tree(store.layout.root) | _tree(store.layout.run)
    store.create(make())
    paths = store.layout.paths(A)
    for path in (paths.bundle, paths.exit_dir, f"{paths.layer}/upper/etc", paths.merged):
        os.makedirs(path)
    with store.locked(A, "remove"):
        store.remove(A, "box")
    assert _tree(store.layout.root) | _tree(store.layout.run) == before
    with pytest.raises(NoSuchContainer):
        store.resolve("box")


def test_removing_a_damaged_one_finds_its_name(store: Store) -> None:
    store.create(make(A, "box"))
    store.create(make(B, "other"))
    Path(store.layout.paths(A).record).write_bytes(b"")
    store.remove(A, None)
    assert os.listdir(store.layout.names) == ["other"]
    store.remove(C, None)
    assert store.ids() == [B]


def test_a_name_that_went_to_another_is_not_freed(store: Store) -> None:
    store.create(make(A, "box"))
    os.unlink(store.layout.name_link("box"))
    store.create(make(B, "box"))
    store.remove(A, "box")
    assert store.resolve("box") == B


def test_the_last_exit_outlives_its_container(store: Store) -> None:
    store.create(make())
    store.keep_exit(A, "box", INFO)
    store.remove(A, "box")
    assert store.exit_record(A) == INFO


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"exit": 5}', b'{"exit": {"code": 1}}', b"\xff"]
)
def test_a_damaged_exit_record_is_none(store: Store, data: bytes) -> None:
    Path(store.layout.exit_record(A)).write_bytes(data)
    assert store.exit_record(A) is None


def test_exits_of_an_older_version_are_read(store: Store) -> None:
    Path(store.layout.exit_record(A)).write_text(
        json.dumps({"name": "box", "exit": {"code": 1, "reason": "exited", "new": 1}, "new": 2})
    )
    assert store.exit_record(A) == ExitInfo(code=1, reason=ExitReason.EXITED)


def test_old_exits_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT_EXIT_RECORDS", 3)
    old = time.time() - KEPT_SECONDS - 60
    for n in range(6):
        store.keep_exit(f"{n + 1:02x}" * 32, "x", INFO)
        when = old if n < 2 else time.time() - 100 + n
        os.utime(store.layout.exit_record(f"{n + 1:02x}" * 32), (when, when))
    assert len(os.listdir(f"{store.layout.root}/exits")) == 6, "only now and then it is looked"
    store.keep_exit("00" * 32, "x", INFO)
    kept = sorted(name[:2] for name in os.listdir(f"{store.layout.root}/exits"))
    assert kept == ["00", "05", "06"]
