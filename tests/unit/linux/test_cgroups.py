"""linux/cgroups.py over mountinfo texts and directories that stand for hierarchies."""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path

import pytest

from longshore.linux import cgroups, mounts
from longshore.linux.cgroups import Cgroup, Hierarchy, Layout, detect
from longshore.models import Usage

V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
TMPFS = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
# Debian 12 in a virtual machine, each controller in a hierarchy of its own
SEPARATE = TMPFS + "".join(
    f"{n} 31 0:{n} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}\n"
    for n, name in enumerate(V1, 32)
)
# systemd's way: two in one, with options that are no controllers
JOINED = (
    TMPFS
    + "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,xattr,cpu,cpuacct\n"
    + "33 31 0:30 / /sys/fs/cgroup/cpuset ro - cgroup cgroup ro,cpuset,clone_children\n"
)
SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
OTHERS = (
    "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "22 21 0:38 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"
    "23 21 0:39 / /sys/fs/cgroups-not rw - tmpfs tmpfs rw\n"
)


def _detect(monkeypatch: pytest.MonkeyPatch, text: str) -> Layout:
    monkeypatch.setattr(mounts, "open", lambda *_, **__: io.StringIO(text), raising=False)
    return detect()


# --- which layout ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode", "version"),
    [
        (OTHERS, "none", 2),
        (OTHERS + TMPFS, "none", 2),
        (OTHERS + V2, "v2", 2),
        (OTHERS + SEPARATE, "v1", 1),
        (OTHERS + JOINED + SYSTEMD, "v1", 1),
        (OTHERS + SEPARATE + UNIFIED, "hybrid", 1),
        # mounted over what was there before: only what is on top can be reached
        (OTHERS + SEPARATE + UNIFIED + TMPFS, "none", 2),
        (OTHERS + SEPARATE + UNIFIED + V2, "v2", 2),
        (OTHERS + V2 + TMPFS + SEPARATE, "v1", 1),
        (OTHERS + V2 + SEPARATE.removeprefix(TMPFS), "hybrid", 1),
    ],
)
def test_detect(monkeypatch: pytest.MonkeyPatch, text: str, mode: str, version: int) -> None:
    layout = _detect(monkeypatch, text)
    assert (layout.mode, layout.version) == (mode, version)


def test_controllers_of_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _detect(monkeypatch, SEPARATE)
    assert layout.controllers() == set(V1)
    memory = layout.v1("memory")
    assert memory is not None
    assert (memory.mount, memory.version) == ("/sys/fs/cgroup/memory", 1)
    assert layout.v1("nosuch") is None
    assert layout.unified is None


def test_joined_controllers_and_options_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _detect(monkeypatch, JOINED)
    assert layout.controllers() == {"cpu", "cpuacct", "cpuset"}
    assert layout.v1("cpu") is layout.v1("cpuacct")


def test_a_hierarchy_that_is_mounted_again_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = _detect(monkeypatch, SEPARATE + SEPARATE.removeprefix(TMPFS))
    assert len(layout.hierarchies) == len(V1)


def test_controllers_of_v2_are_read_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    layout = Layout((Hierarchy(str(tmp_path), 2, frozenset()),))
    assert layout.controllers() == {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}


def test_this_machine() -> None:
    assert detect().mode in ("v1", "v2", "hybrid", "none")


# --- one cgroup, over directories ------------------------------------------------------------


@pytest.fixture
def v1(tmp_path: Path) -> Layout:
    for name in V1:
        (tmp_path / name).mkdir()
    # the cpuset controller needs files that only the kernel makes
    return Layout(
        tuple(Hierarchy(str(tmp_path / n), 1, frozenset({n})) for n in V1 if n != "cpuset")
    )


@pytest.fixture
def v2(tmp_path: Path) -> Layout:
    return Layout((Hierarchy(str(tmp_path), 2, frozenset()),))


@pytest.fixture
def hybrid(v1: Layout, tmp_path: Path) -> Layout:
    (tmp_path / "unified").mkdir()
    return Layout((*v1.hierarchies, Hierarchy(str(tmp_path / "unified"), 2, frozenset())))


def _fill(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_create_child_exists_remove(hybrid: Layout, tmp_path: Path) -> None:
    own = Cgroup(hybrid, "/longshore/abc")
    child = own.child("container")
    assert child.path == "/longshore/abc/container"
    assert not own.exists()
    assert own.remove(), "what is not there is gone"
    child.create()
    child.create()
    assert own.exists()
    assert (tmp_path / "memory/longshore/abc/container").is_dir()
    assert (tmp_path / "unified/longshore/abc/container").is_dir()
    assert own.remove()
    assert not own.exists()
    assert (tmp_path / "memory/longshore").is_dir()


def test_it_exists_when_any_hierarchy_has_it(v1: Layout, tmp_path: Path) -> None:
    (tmp_path / "pids/x").mkdir()
    assert Cgroup(v1, "/x").exists()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENOTEMPTY])
def test_a_busy_one_stays_and_the_others_go(
    v1: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    own = Cgroup(v1, "/x")
    own.child("y").create()
    real = os.rmdir

    def rmdir(path: str) -> None:
        if path == str(tmp_path / "memory/x/y"):
            raise OSError(number, os.strerror(number), path)
        real(path)

    monkeypatch.setattr(cgroups.os, "rmdir", rmdir)
    assert not own.remove()
    assert (tmp_path / "memory/x/y").is_dir()
    assert not (tmp_path / "pids/x").exists()


def test_a_removal_that_is_refused_is_an_error(v1: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Cgroup(v1, "/x")
    own.create()

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, "no", path)

    monkeypatch.setattr(cgroups.os, "rmdir", refuse)
    with pytest.raises(PermissionError):
        own.remove()


def test_add_writes_to_every_hierarchy(hybrid: Layout, tmp_path: Path) -> None:
    own = Cgroup(hybrid, "/x")
    own.create()
    with pytest.raises(FileNotFoundError):
        own.add(5)
    for hierarchy in hybrid.hierarchies:
        _fill(Path(hierarchy.mount, "x"), cgroup__procs="")
    own.add(4711)
    assert {p.read_text() for p in tmp_path.glob("*/x/cgroup.procs")} == {"4711"}


def test_processes_of_the_whole_tree_in_all_hierarchies(v1: Layout, tmp_path: Path) -> None:
    _fill(tmp_path / "memory/x", cgroup__procs="10\n11\n")
    _fill(tmp_path / "memory/x/y/z", cgroup__procs="12\n0\n")  # 0: of another pid namespace
    _fill(tmp_path / "pids/x", cgroup__procs="10\n13\n")
    assert Cgroup(v1, "/x").processes() == {10, 11, 12, 13}
    assert Cgroup(v1, "/no").processes() == set()


def test_very_many_processes(v2: Layout, tmp_path: Path) -> None:
    pids = range(100_000, 150_000)
    _fill(tmp_path / "x", cgroup__procs="".join(f"{p}\n" for p in pids))
    assert Cgroup(v2, "/x").processes() == set(pids)


def test_kill(v2: Layout, hybrid: Layout, v1: Layout, tmp_path: Path) -> None:
    assert not Cgroup(v2, "/x").kill(), "not there"
    (tmp_path / "x").mkdir()
    assert not Cgroup(v2, "/x").kill(), "a kernel before 5.14"
    _fill(tmp_path / "x", cgroup__kill="")
    assert Cgroup(v2, "/x").kill()
    assert (tmp_path / "x/cgroup.kill").read_text() == "1"
    assert not Cgroup(v1, "/x").kill()
    _fill(tmp_path / "unified/x", cgroup__kill="")
    assert not Cgroup(hybrid, "/x").kill(), "the runtime may not have put it all there"


@pytest.mark.parametrize(
    ("text", "frozen"), [("THAWED\n", False), ("FREEZING\n", True), ("FROZEN\n", True), ("", None)]
)
def test_frozen_on_v1(v1: Layout, tmp_path: Path, text: str, frozen: bool | None) -> None:
    _fill(tmp_path / "freezer/x", freezer__state=text)
    assert Cgroup(v1, "/x").frozen() is frozen
    assert Cgroup(v1, "/no").frozen() is None


@pytest.mark.parametrize(("text", "frozen"), [("0\n", False), ("1\n", True), ("", None)])
def test_frozen_on_v2(v2: Layout, tmp_path: Path, text: str, frozen: bool | None) -> None:
    _fill(tmp_path / "x", cgroup__freeze=text)
    assert Cgroup(v2, "/x").frozen() is frozen
    assert Cgroup(v2, "/no").frozen() is None


def test_a_cgroup_that_goes_meanwhile_needs_no_thaw(
    v2: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says ENODEV for a file that was opened before its cgroup was removed."""

    def gone(fd: int, data: bytes) -> int:
        raise OSError(errno.ENODEV, "No such device")

    _fill(tmp_path / "x", cgroup__freeze="1")
    monkeypatch.setattr(os, "write", gone)
    Cgroup(v2, "/x").thaw()


def test_thaw_reaches_what_is_below(v1: Layout, v2: Layout, tmp_path: Path) -> None:
    """What froze a cgroup itself is not undone by thawing the one above it."""
    for layout in (v1, v2):
        Cgroup(layout, "/no").thaw()
    for below in ("x", "x/container"):
        _fill(tmp_path / "freezer" / below, freezer__state="FROZEN")
        _fill(tmp_path / below, cgroup__freeze="1")
    Cgroup(v1, "/x").thaw()
    Cgroup(v2, "/x").thaw()
    for below in ("x", "x/container"):
        assert (tmp_path / "freezer" / below / "freezer.state").read_text() == "THAWED"
        assert (tmp_path / below / "cgroup.freeze").read_text() == "0"


def test_nothing_is_mounted() -> None:
    own = Cgroup(Layout(()), "/x")
    own.create()
    own.thaw()
    assert (own.exists(), own.frozen(), own.kill(), own.oom_kills()) == (False, None, False, None)
    assert (own.usage(), own.processes(), own.remove()) == (Usage(), set(), True)


# --- what was used: control files as kernel 6.18 writes them -----------------------------------

CPU_STAT = """\
usage_usec 1523000
user_usec 1020000
system_usec 503000
core_sched.force_idle_usec 0
nr_periods 0
nr_throttled 0
throttled_usec 0
"""
IO_STAT = """\
8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0
8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021
7:0 \n"""
MEMORY_EVENTS = "low 0\nhigh 0\nmax 22\noom 2\noom_kill 1\noom_group_kill 0\n"
OOM_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
BLKIO = """\
8:16 Read 4096
8:16 Write 8192
8:16 Sync 12288
8:16 Async 0
8:16 Discard 0
8:16 Total 12288
8:0 Read 100
8:0 Write 1
Total 12388
"""


def test_usage_on_v2(v2: Layout, tmp_path: Path) -> None:
    _fill(
        tmp_path / "x",
        cpu__stat=CPU_STAT, io__stat=IO_STAT, memory__peak="6778880\n", pids__peak="4\n",
        memory__events=MEMORY_EVENTS,
    )  # fmt: skip
    own = Cgroup(v2, "/x")
    assert own.usage() == Usage(
        memory_peak=6778880,
        cpu_user=1.02,
        cpu_system=0.503,
        io_read=1459200 + 90430464,
        io_written=314773504 + 299008000,
        pids_peak=4,
    )
    assert own.oom_kills() == 1


def test_v2_without_controllers_still_has_times(v2: Layout, tmp_path: Path) -> None:
    _fill(tmp_path / "x", cpu__stat="usage_usec 9\nuser_usec 5\nsystem_usec 4\n")
    own = Cgroup(v2, "/x")
    assert own.usage() == Usage(cpu_user=5e-6, cpu_system=4e-6)
    assert own.oom_kills() is None


def test_no_io_is_nought_where_it_is_counted(v2: Layout, tmp_path: Path) -> None:
    _fill(tmp_path / "x", io__stat="")
    usage = Cgroup(v2, "/x").usage()
    assert (usage.io_read, usage.io_written) == (0, 0)


def test_usage_on_v1(hybrid: Layout, tmp_path: Path) -> None:
    _fill(
        tmp_path / "cpuacct/x",
        cpuacct__usage="1523000000\n",
        cpuacct__usage_user="1020000000\n",
        cpuacct__usage_sys="503000000\n",
    )
    _fill(tmp_path / "memory/x", memory__max_usage_in_bytes="6778880\n")
    _fill(tmp_path / "blkio/x", blkio__throttle__io_service_bytes_recursive=BLKIO)
    _fill(tmp_path / "pids/x", pids__current="1\n")
    assert Cgroup(hybrid, "/x").usage() == Usage(
        memory_peak=6778880,
        cpu_user=1.02,
        cpu_system=0.503,
        io_read=4196,
        io_written=8193,
    )


def test_more_devices_than_a_page_has_room_for(v1: Layout, tmp_path: Path) -> None:
    lines = "".join(f"7:{n} Read 1\n7:{n} Write 2\n" for n in range(10_000))
    _fill(tmp_path / "blkio/x", blkio__throttle__io_service_bytes_recursive=lines)
    usage = Cgroup(v1, "/x").usage()
    assert (usage.io_read, usage.io_written) == (10_000, 20_000)


def test_oom_kills_of_a_tree_on_v1(v1: Layout, tmp_path: Path) -> None:
    _fill(tmp_path / "memory/x", memory__oom_control=OOM_CONTROL.format(0))
    _fill(tmp_path / "memory/x/container", memory__oom_control=OOM_CONTROL.format(2))
    _fill(tmp_path / "memory/x/container/exec", memory__oom_control=OOM_CONTROL.format(1))
    assert Cgroup(v1, "/x").oom_kills() == 3


def test_an_old_kernel_that_does_not_count_oom_kills(v1: Layout, tmp_path: Path) -> None:
    _fill(tmp_path / "memory/x", memory__oom_control="oom_kill_disable 0\nunder_oom 0\n")
    assert Cgroup(v1, "/x").oom_kills() is None


@pytest.mark.parametrize("text", ["", "max\n", "-1\n", "garbage 1 2\n", "\0\xff"])
def test_what_cannot_be_read_is_none(v2: Layout, tmp_path: Path, text: str) -> None:
    _fill(tmp_path / "x", cpu__stat=text, memory__peak=text, pids__peak=text, memory__events=text)
    own = Cgroup(v2, "/x")
    assert own.usage() == Usage()
    assert own.oom_kills() is None


def test_a_cgroup_that_is_gone(v1: Layout, v2: Layout) -> None:
    for layout in (v1, v2):
        own = Cgroup(layout, "/no")
        assert own.usage() == Usage()
        assert own.oom_kills() is None


# --- cpuset ------------------------------------------------------------------------------------


def test_a_new_cpuset_is_given_what_its_parents_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel makes both files, empty, with the directory."""
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        real(path, mode)
        _fill(Path(path), cpuset__cpus="\n", cpuset__mems="\n")

    monkeypatch.setattr(cgroups.os, "mkdir", mkdir)
    _fill(tmp_path, cpuset__cpus="0-3\n", cpuset__mems="0\n")
    layout = Layout((Hierarchy(str(tmp_path), 1, frozenset({"cpuset"})),))
    Cgroup(layout, "/a/b/c").create()
    for below in ("a", "a/b", "a/b/c"):
        assert (tmp_path / below / "cpuset.cpus").read_text().strip() == "0-3"
        assert (tmp_path / below / "cpuset.mems").read_text().strip() == "0"
    (tmp_path / "a/b/cpuset.cpus").write_text("2\n")
    shutil.rmtree(tmp_path / "a/b/c")
    Cgroup(layout, "/a/b/d").create()
    assert (tmp_path / "a/b/d/cpuset.cpus").read_text() == "2"


def test_a_hierarchy_without_controllers_may_lack_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """crun 1.8 makes its own cgroup in a scope everywhere but there."""
    assert [h.named for h in _detect(monkeypatch, OTHERS + JOINED + SYSTEMD).hierarchies] == [
        False, False, True,
    ]  # fmt: skip
    for name in ("cpu/own", "systemd"):
        (tmp_path / name).mkdir(parents=True)
    cpu = Hierarchy(str(tmp_path / "cpu"), 1, frozenset({"cpu"}))
    agent = frozenset({"xattr", "release_agent=/usr/lib/agent", "name=systemd"}) - {"xattr"}
    layout = Layout((Hierarchy(str(tmp_path / "systemd"), 1, agent), cpu))
    exec_ = Cgroup(layout, "/own/exec")
    exec_.create(parents=False)
    assert not (tmp_path / "systemd/own").exists()
    (tmp_path / "cpu/own/exec/cgroup.procs").touch()
    exec_.add(77)
    assert (tmp_path / "cpu/own/exec/cgroup.procs").read_text() == "77"
    with pytest.raises(FileNotFoundError):
        Cgroup(layout, "/gone/exec").create(parents=False)
    with pytest.raises(FileNotFoundError):
        Cgroup(layout, "/gone").add(77)
