"""engine/idmaps.py: which ids a container gets, for root and for an ordinary user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore import Engine
from longshore.engine import idmaps
from longshore.engine.machinery import Machinery
from longshore.engine.rootless import Rootless
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.linux import userns
from longshore.linux.userns import IdMap
from longshore.options import ContainerConfig

OWN = ((IdMap(inside=0, outside=1000, count=1), IdMap(inside=1, outside=100_000, count=9)),) * 2


@pytest.fixture
def machinery(tmp_path: Path) -> Machinery:
    return Engine(root=tmp_path / "root", run_root=tmp_path / "run")._machinery


@pytest.fixture
def user(machinery: Machinery, monkeypatch: pytest.MonkeyPatch) -> Machinery:
    """Be user 1000 with nine subordinate ids."""
    machinery.user = 1000
    rootless = Rootless(machinery)
    rootless.uid, rootless.gid = 1000, 1000
    monkeypatch.setattr(Rootless, "mappings", lambda self: OWN)
    machinery.rootless = rootless
    return machinery


def chosen(machinery: Machinery, **options: Any) -> ContainerConfig:
    return idmaps.chosen(
        machinery, ContainerConfig(name="box", rootfs="/", command=("true",), **options)
    )


def test_by_number(machinery: Machinery) -> None:
    found = chosen(machinery, uidmap=("0:7000:10",))
    assert (found.mapped_uids, found.mapped_gids) == (("0:7000:10",),) * 2  # one stands for both
    found = chosen(machinery, uidmap=("0:7000:10",), gidmap=("0:8000:5",))
    assert found.mapped_gids == ("0:8000:5",)


@pytest.mark.parametrize(
    ("mode", "uids", "who"),
    [
        # 1000 is beyond what there is, and so lies above all others
        ("keep-id", ("0:1:9", "1000:0:1"), "1000:1000"),
        ("keep-id:uid=0", ("0:0:1", "1:1:9"), "0:1000"),
        ("keep-id:uid=5,gid=5", ("0:1:5", "5:0:1", "6:6:4"), "5:5"),
        ("nomap", ("0:1:9",), ""),
        ("private", ("0:0:1", "1:1:9"), ""),  # in pieces, as the namespace above has them
    ],
)
def test_modes_of_a_user(user: Machinery, mode: str, uids: tuple[str, ...], who: str) -> None:
    found = chosen(user, userns=mode)
    assert (found.mapped_uids, found.user) == (uids, who)
    ids = userns.parse(found.mapped_uids)
    assert sum(one.count for one in ids) == (9 if mode == "nomap" else 10)


def test_keep_id_does_not_change_a_user_that_was_asked_for(user: Machinery) -> None:
    assert chosen(user, userns="keep-id", user="7").user == "7"


def test_a_user_gives_only_what_it_has(user: Machinery) -> None:
    with pytest.raises(InvalidArgument, match=r"0:5:6 goes beyond .* 1 to 9"):
        chosen(user, uidmap=("0:5:6",))
    assert chosen(user, uidmap=("0:5:5",)).mapped_uids == ("0:5:5",)


def test_nomap_without_ids(user: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ((OWN[0][0],),) * 2
    monkeypatch.setattr(Rootless, "mappings", lambda self: one)
    with pytest.raises(HostUnsupported, match="this user has none"):
        chosen(user, userns="nomap")


@pytest.mark.parametrize(("runtime", "can"), [("crun", True), ("runc", False)])
def test_no_id_for_root(
    machinery: Machinery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, can: bool
) -> None:
    program = tmp_path / runtime
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    options = {"uidmap": ("5:7000:1",), "runtime": str(program)}
    if can:
        assert chosen(machinery, **options).mapped_uids == ("5:7000:1",)
        return
    with pytest.raises(HostUnsupported, match=f"no id 0 .* {runtime}, which starts"):
        chosen(machinery, **options)


def test_ids_of_somebody_else(user: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {"me": ((100_000, 9),), "other": ((500_000, 9),)}
    monkeypatch.setattr(userns, "subordinate", lambda file, names: lines.get(names[0], ()))
    assert chosen(user, subuidname="me").mapped_uids == ("0:1:9",)
    with pytest.raises(HostUnsupported, match="another user's"):
        chosen(user, subuidname="other")


@pytest.mark.parametrize(
    ("used", "size", "first"),
    [
        ([], 10, 100),
        ([(100, 10)], 10, 110),
        ([(105, 5)], 5, 100),
        ([(105, 5)], 6, 110),
        ([(100, 10), (120, 10)], 10, 110),
        ([(120, 10), (100, 15)], 10, 130),
        ([(100, 95)], 10, 300),  # the second range
        ([(100, 100), (300, 45)], 10, None),
    ],
)
def test_the_first_that_is_free(used: list[tuple[int, int]], size: int, first: int | None) -> None:
    free = [IdMap(inside=0, outside=100, count=100), IdMap(inside=0, outside=300, count=50)]
    taken = [IdMap(inside=0, outside=start, count=count) for start, count in used]
    assert idmaps._first_free(free, taken, size) == first


def test_how_many_a_root_needs(tmp_path: Path) -> None:
    assert idmaps._size_of(str(tmp_path)) == 1024
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("a:x:3000:1::/:\nnobody:x:65534:65534::/:\n")
    (tmp_path / "etc/group").write_text("g:x:5000:\n")
    assert idmaps._size_of(str(tmp_path)) == 5001
    (tmp_path / "etc/group").write_text("g:x:4000000:\n")
    assert idmaps._size_of(str(tmp_path)) == 65536
