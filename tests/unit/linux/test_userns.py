"""linux/userns.py: whose namespace this is, which ids a user has, and one that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.linux import userns
from longshore.linux.processes import ProcessId, identify, is_alive, open_pidfd, send
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


UIDS = (IdMap(inside=0, outside=7000, count=10), IdMap(inside=50, outside=9000, count=5))
GIDS = (IdMap(inside=3, outside=8000, count=1),)
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may map any ids")


def ended(process: ProcessId) -> bool:
    fd = open_pidfd(process)
    if fd is not None:
        poll_until([fd], time.monotonic() + 10)
        os.close(fd)
    return not is_alive(process)


@ROOT
def test_a_namespace_is_held_and_read() -> None:
    with userns.Held(UIDS, GIDS) as held:
        keeper = held.keeper
        assert is_alive(keeper)
        assert userns.current("uid", str(keeper.pid)) == UIDS
        assert userns.maps_of(f"/proc/{keeper.pid}/ns/user") == (UIDS, GIDS)
        shared = os.readlink(f"/proc/{keeper.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        assert shared
    assert ended(keeper)


@ROOT
def test_one_that_was_told_to_stay_outlives_us() -> None:
    with userns.Held(UIDS, GIDS, mounts=True) as held:
        keeper = held.keeper
        held.stay()
    try:
        argv = Path(f"/proc/{keeper.pid}/cmdline")
        deadline = time.monotonic() + 10
        while argv.read_bytes() != b"sleep\0infinity\0":
            assert time.monotonic() < deadline
        assert os.readlink(f"/proc/{keeper.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    finally:
        send(keeper, 9)


@ROOT
def test_one_ends_with_who_holds_it() -> None:
    code = (
        "import os, sys; from longshore.linux import userns; "
        "one = userns.IdMap(inside=0, outside=7000, count=1); "
        "held = userns.Held((one,), (one,)); "
        "print(held.keeper.pid, held.keeper.start, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    pid, start = map(int, done.stdout.split())
    assert ended(ProcessId(pid=pid, start=start))


@ROOT
def test_a_map_that_the_kernel_refuses_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[ProcessId] = []

    def refused(pid: int, *maps: object) -> None:
        keeper = identify(pid)
        assert keeper is not None
        found.append(keeper)
        real(pid, *maps)  # type: ignore[arg-type]

    real = userns._map
    monkeypatch.setattr(userns, "_map", refused)
    overlapping = (IdMap(inside=0, outside=7000, count=10), IdMap(inside=5, outside=9000, count=5))
    with pytest.raises(OSError, match="Invalid argument"):
        userns.Held(overlapping, overlapping)
    assert ended(found[0])


def test_what_is_no_namespace() -> None:
    from longshore.errors import HostUnsupported

    with pytest.raises(HostUnsupported, match="/dev/null was asked for"):
        userns.maps_of("/dev/null")
