"""store/levels.py: no two containers get the same SELinux level."""

from __future__ import annotations

import os
from pathlib import Path

from longshore.options import ContainerConfig
from longshore.store import Layout, Record, Store

A, B = "aa" * 32, "bb" * 32


def _store(tmp_path: Path) -> Store:
    store = Store(Layout(str(tmp_path / "root"), str(tmp_path / "run")))
    store.layout.prepare()
    for name, container_id in (("a", A), ("b", B)):
        config = ContainerConfig(name=name, rootfs="/srv")
        store.create(Record(id=container_id, config=config, created_ns=1))
    return store


def test_a_level_is_one_containers(tmp_path: Path) -> None:
    levels = _store(tmp_path).levels
    assert levels.take("s0:c1,c2", A)
    assert levels.take("s0:c1,c2", A)
    assert not levels.take("s0:c1,c2", B)
    levels.let_go("s0:c1,c2", B)
    assert not levels.take("s0:c1,c2", B)
    levels.let_go("s0:c1,c2", A)
    assert levels.take("s0:c1,c2", B)
    levels.let_go("s0:c9,c10", A)


def test_those_of_containers_that_are_gone_come_back(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.sweep()
    assert not os.path.exists(store.layout.levels)
    store.levels.take("s0:c1,c2", A)
    store.levels.take("s0:c3,c4", B)
    store.remove(A, "a")
    store.sweep()
    assert os.listdir(store.layout.levels) == ["s0:c3,c4"]
