"""store/names.py: a name has one container, whoever is killed, and whoever comes meanwhile."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from effort import effort
from hostlife import asleep, eventually, in_fork
from longshore.errors import InvalidArgument, NameInUse, NoSuchContainer
from longshore.linux.processes import identify
from longshore.options import ContainerConfig
from longshore.store import Layout, Record, Store, names, records
from longshore.store.names import is_name

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
KILLED = -signal.SIGKILL


def make(container_id: str, name: str = "box") -> Record:
    return Record(id=container_id, config=ContainerConfig(name=name), created_ns=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    layout.prepare()
    return Store(layout)


def _names(store: Store) -> dict[str, str]:
    """Return what every container is called, by its record."""
    found: dict[str, str] = {}
    for container_id in store.ids():
        try:
            found[container_id] = store.peek(container_id).name
        except NoSuchContainer:
            continue  # it is going, or its removal was cut short
    return found


def _links(store: Store) -> dict[str, str]:
    directory = store.layout.names
    return {name: os.readlink(f"{directory}/{name}") for name in os.listdir(directory)}


# --- killed at any moment ------------------------------------------------------------------------


def _die_at(number: int) -> None:
    """Kill this process before its n-th system call: in between nothing on disk changes."""
    left = number

    def profile(_: FrameType, event: str, what: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(what, "__module__", "") in ("posix", "fcntl"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def _rename(store: Store) -> None:
    with store.locked(A, "rename") as held:
        store.rename(held, "box")


def _remove(store: Store) -> None:
    with store.locked(A, "remove"):
        store.remove(A, "box")


def _leftover(store: Store) -> None:
    os.symlink(C, store.layout.name_link("box"))


STEPS: dict[str, tuple[Callable[[Store], object], Callable[[Store], object], str]] = {
    "create": (lambda _: None, lambda store: store.create(make(A)), ""),
    "create over a leftover": (_leftover, lambda store: store.create(make(A)), ""),
    "rename": (lambda store: store.create(make(A, "old")), _rename, "old"),
    "remove": (lambda store: store.create(make(A)), _remove, ""),
}  # fmt: skip


@pytest.mark.parametrize("what", STEPS)
def test_killed_at_any_moment(store: Store, what: str) -> None:
    """A name that was about to be taken, or let go, is one container's or nobody's."""
    before, step, other_name = STEPS[what]
    outcomes: set[str] = set()
    number, code = 0, KILLED
    while code == KILLED:
        number += effort(1, 4)
        before(store)

        def victim() -> None:
            _die_at(number)  # noqa: B023 - run in this turn
            step(store)

        code = in_fork(victim)
        assert code in (0, KILLED)
        left = _names(store)  # of containers that are whole
        assert left in ({}, {A: "box"}, {A: other_name})
        for container_id, name in left.items():
            assert store.resolve(name) == container_id
        try:
            store.create(make(B))
            outcomes.add("free")
            assert left.get(A) != "box"
        except NameInUse:
            outcomes.add("in use")
            assert left == {A: "box"}
        now = _names(store)
        assert sorted(now.values()).count("box") == 1
        assert now[store.resolve("box")] == "box"
        store.sweep()
        assert _names(store) == now
        assert _links(store) == {name: container_id for container_id, name in now.items()}
        assert sorted(os.listdir(store.layout.containers)) == sorted(now)
        for container_id, name in now.items():
            with store.locked(container_id, "remove", deadline=time.monotonic()):
                store.remove(container_id, name)
        assert _links(store) == {}
        assert os.listdir(store.layout.containers) == []
    assert number > 15
    assert outcomes == {"free", "in use"}


# --- at the same time ----------------------------------------------------------------------------


def test_a_name_is_in_use_while_its_container_is_being_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link leads to nothing then, as one that a killed creation has left does."""
    real = os.rename
    refused: list[str] = []

    def rename(source: str, target: str) -> None:
        if target == store.layout.paths(A).home:
            assert _links(store) == {"box": A}
            with pytest.raises(NoSuchContainer):
                store.resolve("box")
            for _ in range(2):
                with pytest.raises(NameInUse):
                    store.create(make(B))
                refused.append("x")
                store.sweep()
        real(source, target)

    monkeypatch.setattr(records.os, "rename", rename)
    store.create(make(A))
    assert refused == ["x", "x"]
    assert (_names(store), _links(store)) == ({A: "box"}, {"box": A})


def test_a_failure_after_the_name_was_taken_gives_it_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: str, target: str) -> None:
        if target == store.layout.paths(A).home:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(records.os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            store.create(make(A))
    assert _links(store) == {}
    assert os.listdir(store.layout.containers) == []


def test_who_wants_the_name_of_one_that_is_going_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its record and its name, a removal would take the newcomer's link away."""
    monkeypatch.setattr(names, "_PATIENCE", 60.0)  # this is a slow one, on a busy machine
    store.create(make(A))
    taker = threading.Thread(target=functools.partial(store.create, make(B)))
    with store.locked(A, "remove"):
        os.unlink(store.layout.paths(A).record)
        taker.start()
        eventually(lambda: asleep(taker) or not taker.is_alive())
        assert _links(store) == {"box": A}, "it has not been taken"
        store.remove(A, "box")
    taker.join()
    assert (_names(store), _links(store)) == ({B: "box"}, {"box": B})


def test_one_that_is_stuck_in_its_removal_does_not_hold_up_others(store: Store) -> None:
    store.create(make(A))
    with store.locked(A, "remove"):
        os.unlink(store.layout.paths(A).record)
        began = time.monotonic()
        with pytest.raises(NameInUse, match="which is busy") as caught:
            store.create(make(B))
        assert time.monotonic() - began < 30
    assert caught.value.hint == "try again in a moment"
    store.create(make(B))
    assert store.resolve("box") == B


def test_a_sweep_leaves_a_removal_alone(store: Store) -> None:
    store.create(make(A))
    with store.locked(A, "remove"):
        os.unlink(store.layout.paths(A).record)
        store.sweep()
        assert _links(store) == {"box": A}
        assert os.path.isdir(store.layout.paths(A).home)
    store.sweep()
    assert _links(store) == {}
    assert not os.path.exists(store.layout.paths(A).home)


def test_many_at_once(store: Store) -> None:
    """Creations, removals, renamings and sweeps: who got the name keeps it until it lets it go."""
    wrong: list[str] = []
    won = 0

    def work(worker: int) -> None:
        nonlocal won
        for turn in range(40):
            own = f"{worker:02x}{turn:02x}" * 16
            try:
                if turn % 4 == 3:
                    store.create(make(own, f"spare{worker}"))
                    with store.locked(own, "rename") as held:
                        store.rename(held, "box")
                else:
                    store.create(make(own))
            except NameInUse:
                if turn % 4 != 3:
                    continue
            else:
                won += 1
            called = store.peek(own).name
            if called == "box" and list(_names(store).values()).count("box") != 1:
                wrong.append(f"{own}: two of them")
            if store.resolve(called) != own:
                wrong.append(f"{own} is not {called}")
            with store.locked(own, "remove"):
                store.remove(own, called)
            if turn % 10 == 9:
                store.sweep()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert won >= 40
    assert (_names(store), _links(store)) == ({}, {})


# --- what a name is ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "box-1", "A.b_c", "x" * 250])
def test_names(store: Store, name: str) -> None:
    assert is_name(name)
    store.create(make(A, name))
    assert store.resolve(name) == A


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\0", "a\n", "é", "x" * 251])
def test_what_cannot_be_a_name(store: Store, name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidArgument, match="cannot be kept: "):
        store.create(make(A, name))
    assert os.listdir(store.layout.containers) == []
    with pytest.raises(NoSuchContainer):
        store.resolve(name)


def test_a_link_says_less_than_a_record(store: Store) -> None:
    """What a killed renaming has left does not lead to a container that has another name."""
    store.create(make(A, "new"))
    os.symlink(A, store.layout.name_link("old"))
    with pytest.raises(NoSuchContainer):
        store.resolve("old")
    assert store.resolve("new") == A
    store.create(make(B, "old"))
    assert (store.resolve("old"), store.resolve("new")) == (B, A)


def test_a_leftover_of_a_container_that_is_busy_is_not_taken(store: Store) -> None:
    store.create(make(A, "new"))
    os.symlink(A, store.layout.name_link("old"))
    with store.locked(A, "stop"), pytest.raises(NameInUse, match="busy"):
        store.create(make(B, "old"))
    assert store.ids() == [A]


def test_a_container_can_take_its_own_leftover(store: Store) -> None:
    store.create(make(A, "old"))
    os.symlink(A, store.layout.name_link("new"))
    with store.locked(A, "rename") as held:
        store.rename(held, "new")
    assert _links(store) == {"new": A}


@pytest.mark.parametrize("thing", ["a file", "a link to nowhere"])
def test_what_is_no_link_of_ours_is_replaced(store: Store, thing: str) -> None:
    path = Path(store.layout.name_link("box"))
    if thing == "a file":
        path.write_text("x")
    else:
        path.symlink_to("../x")
    store.create(make(A))
    assert _links(store) == {"box": A}


def test_a_pid_that_is_anothers_by_now_makes_nothing(store: Store) -> None:
    me = identify(os.getpid())
    assert me is not None
    os.mkdir(f"{store.layout.containers}/.{me.pid}.{me.start - 1}.{C}")
    os.symlink(C, store.layout.name_link("box"))
    store.create(make(A))
    assert store.resolve("box") == A
    os.mkdir(f"{store.layout.containers}/.{me.pid}.{me.start}.{C}")
    os.symlink(C, store.layout.name_link("other"))
    with pytest.raises(NameInUse):
        store.create(make(B, "other"))
