"""Containers that join another's namespaces: who needs whom, without a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore import Container, Engine, HasDependents, NoSuchContainer
from longshore.engine import dependencies


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(root=tmp_path / "root", run_root=tmp_path / "run")


def make(engine: Engine, name: str, **options: Any) -> Container:
    return engine.create(command=["true"], rootfs="/", overlay=True, name=name, **options)


def names(engine: Engine) -> list[str]:
    return sorted(box.name for box in engine.list(all=True))


def test_a_name_becomes_an_id(engine: Engine) -> None:
    first = make(engine, "first")
    user = make(engine, "user", network="container:first", ipc=f"container:{first.id[:12]}")
    config = user.inspect().config
    assert (config.network, config.ipc) == (f"container:{first.id}",) * 2
    assert config.joined == {"network": first.id, "ipc": first.id}
    assert dependencies.of(engine._machinery, first.id) == {user.id: "user"}


@pytest.mark.parametrize("field", ["network", "pid", "ipc", "uts", "cgroupns"])
def test_one_that_is_not_there_is_refused(engine: Engine, field: str) -> None:
    with pytest.raises(NoSuchContainer, match=f"{field}: there is no container .*'nope'"):
        make(engine, "user", **{field: "container:nope"})
    assert names(engine) == []


@pytest.mark.parametrize("force", [False, True])
def test_what_is_needed_stays(engine: Engine, force: bool) -> None:
    first = make(engine, "first")
    for name in ("b", "a"):
        make(engine, name, pid="container:first")
    with pytest.raises(HasDependents, match=r"container first has dependent .*: a, b$") as caught:
        first.remove(force=force)
    assert caught.value.dependents == ("a", "b")
    assert "--depend first" in str(caught.value.hint)
    assert names(engine) == ["a", "b", "first"]
    for name in ("b", "a", "first"):
        engine.get(name).remove(force=force)
    assert names(engine) == []


def test_a_chain_goes_at_once(engine: Engine) -> None:
    make(engine, "first")
    make(engine, "second", uts="container:first")
    make(engine, "third", uts="container:second", ipc="container:first")
    make(engine, "other")
    engine.get("first").remove(depend=True)
    assert names(engine) == ["other"]


def test_prune_takes_them_in_their_order(engine: Engine) -> None:
    make(engine, "first")
    make(engine, "second", uts="container:first")
    assert len(engine.prune()) == 2


def test_a_new_container_of_the_name_is_another(engine: Engine) -> None:
    first = make(engine, "first")
    user = make(engine, "user", uts="container:first")
    first.rename("old")
    make(engine, "first").remove()
    assert user.inspect().config.uts == f"container:{first.id}"
    with pytest.raises(HasDependents, match="container old "):
        first.remove()
    user.remove()
    first.remove()


def test_a_name_in_use_leaves_nobody_dependent(engine: Engine) -> None:
    first = make(engine, "first")
    with pytest.raises(Exception, match="in use"):
        make(engine, "first", uts="container:first")
    first.remove()


def test_what_a_crash_leaves_says_nothing(engine: Engine) -> None:
    """A creation that was killed before its record, a removal that was killed after it."""
    first = make(engine, "first")
    place = Path(engine._machinery.paths(first.id).dependents)
    place.mkdir()
    (place / ("0" * 64)).touch()
    first.remove()
    assert names(engine) == []


def test_a_dependent_that_is_damaged_counts(engine: Engine) -> None:
    first = make(engine, "first")
    user = make(engine, "user", uts="container:first")
    Path(engine._machinery.paths(user.id).record).write_text("{")
    with pytest.raises(HasDependents, match=user.id[:12]):
        first.remove(force=True)
    first.remove(force=True, depend=True)
    assert engine.list(all=True) == []


def test_nobody_removes_it_while_another_is_being_made(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either the removal sees the new container, or the creation that there is none to join."""
    first = make(engine, "first")
    real = dependencies.resolved

    def slow(*args: Any) -> Any:
        config = real(*args)
        first.remove()
        return config

    monkeypatch.setattr(dependencies, "resolved", slow)
    with pytest.raises(NoSuchContainer):
        make(engine, "user", uts="container:first")
    assert engine.list(all=True) == []
