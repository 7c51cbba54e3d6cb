"""linux/userns.py: whose namespace this is, which ids a user has, and one that is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.linux import userns
from longshore.linux.processes import ProcessId, is_alive, open_pidfd, send
from longshore.linux.procs import poll_until
from longshore.linux.userns import IdMap


def test_subordinate_ids(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(
        "me:100000:65536\nother:200000:65536\n1000:300000:10\nme:1:0\nme:x:5\n#me:7:7\nme:9\n"
    )
    assert userns.subordinate(str(file), ["me", "1000"]) == ((100_000, 65_536), (300_000, 10))
    assert userns.subordinate(str(file), ["nobody"]) == ()
    assert userns.subordinate(str(tmp_path / "none"), ["me"]) == ()


def test_a_users_namespace_has_the_user_first() -> None:
    assert [str(m) for m in userns.mappings(1000, [(100_000, 10), (5_000, 3)])] == [
        "0:1000:1", "1:100000:10", "11:5000:3",
    ]  # fmt: skip


ranges = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@given(ranges, ranges)
def test_inside_is_the_way_back(counts: list[int], gaps: list[int]) -> None:
    maps, inner, outer = [], 0, 1000
    for count, gap in zip(counts, gaps, strict=False):
        maps.append(IdMap(inside=inner, outside=outer, count=count))
        inner, outer = inner + count + gap, outer + count + 2 * gap
    for one in maps:
        for n in (0, one.count - 1):
            assert userns.outside(maps, one.inside + n) == one.outside + n
            assert userns.inside(maps, one.outside + n) == one.inside + n
    assert userns.outside(maps, inner + 1) is None
    assert userns.inside(maps, 999) is None
    assert userns.outside((), 5) == userns.inside((), 5) == 5


def test_whose_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert userns.owner() == 1000
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for name in (userns.CONFIGURED, userns.OWNER_UID):
        monkeypatch.delenv(name, raising=False)
    assert userns.owner() is None
    # markers say nothing to root of the host, who may have them from anybody's environment
    monkeypatch.setenv(userns.CONFIGURED, "done")
    monkeypatch.setenv(userns.OWNER_UID, "1000")
    assert userns.owner() is None
    one = IdMap(inside=0, outside=1000, count=1)
    monkeypatch.setattr(userns, "current", lambda kind, pid="self": (one,))
    assert userns.owner() == 1000
    monkeypatch.setenv(userns.OWNER_UID, "nobody")
    assert userns.owner() is None


def test_a_namespace_is_kept_and_read() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may map any ids")
    uids = (IdMap(inside=0, outside=7000, count=10), IdMap(inside=50, outside=9000, count=5))
    gids = (IdMap(inside=3, outside=8000, count=1),)
    keeper = userns.hold(uids, gids)
    try:
        assert is_alive(keeper)
        assert userns.current("uid", str(keeper.pid)) == uids
        assert userns.maps_of(f"/proc/{keeper.pid}/ns/user") == (uids, gids)
        shared = os.readlink(f"/proc/{keeper.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        assert shared
    finally:
        send(keeper, 9)


def test_a_map_that_the_kernel_refuses_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[ProcessId | None] = []
    monkeypatch.setattr(userns, "send", lambda who, n: ended.append(who) or send(who, n))
    overlapping = (IdMap(inside=0, outside=7000, count=10), IdMap(inside=5, outside=9000, count=5))
    with pytest.raises(OSError, match="Invalid argument"):
        userns.hold(overlapping, overlapping)
    (keeper,) = ended
    fd = open_pidfd(keeper)
    if fd is not None:
        poll_until([fd], time.monotonic() + 10)
        os.close(fd)
    assert not is_alive(keeper)


def test_what_is_no_namespace() -> None:
    from longshore.errors import HostUnsupported

    with pytest.raises(HostUnsupported, match="/dev/null was asked for"):
        userns.maps_of("/dev/null")
