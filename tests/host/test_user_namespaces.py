"""User namespaces for root (S24): ids, files with the container's ids, the way to the root."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostkit import Cli, needs
from hostlife import SLEEP, make, printed, started
from longshore import Container, Engine
from longshore.engine import roots
from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError

FIRST, COUNT = 300_000, 65_536
MAP = f"0:{FIRST}:{COUNT}"


def says(engine: Engine, rootfs: Path, script: str, **options: object) -> list[str]:
    done = engine.run(command=["sh", "-c", script], rootfs=rootfs, **options)  # type: ignore[arg-type]
    assert done.exit.ok, (done.stdout, done.stderr)
    return done.stdout.decode().splitlines()


def mapped(box: Container, kind: str = "uid") -> list[str]:
    pid = box.inspect().pid
    return Path(f"/proc/{pid}/{kind}_map").read_text().split()


@pytest.fixture
def containers_ids() -> Iterator[tuple[int, int]]:
    """Give the user `containers` subordinate ids, in this mount namespace only."""
    first, count = 1_000_000, 4096
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    needs("/etc/subuid and /etc/subgid", files, all(f.exists() for f in files))
    given = Path("/run/longshore-test-subids")
    given.write_text(f"containers:{first}:{count}\n")
    for file in files:
        subprocess.run(["mount", "--bind", str(given), str(file)], check=True)
    yield first, count
    for file in files:
        subprocess.run(["umount", str(file)], check=True)
    given.unlink()


@pytest.mark.parametrize("overlay", [False, True])
def test_files_have_the_containers_ids(engine: Engine, busybox_rootfs: Path, overlay: bool) -> None:
    (busybox_rootfs / "theirs").write_text("")
    os.chown(busybox_rootfs / "theirs", 7, 8)
    script = "cat /proc/self/uid_map; touch /new && stat -c '%u:%g' / /theirs /new"
    found = says(engine, busybox_rootfs, script, uidmap=[MAP], overlay=overlay)
    assert found[0].split() == ["0", str(FIRST), str(COUNT)]
    assert found[1:] == ["0:0", "7:8", "0:0"]
    new = busybox_rootfs / "new"
    if overlay:
        assert not new.exists()
    else:  # and on disk they are what they are in the container
        info = new.stat()
        assert (info.st_uid, info.st_gid) == (0, 0)


def test_its_root_is_nobody_outside(engine: Engine, busybox_rootfs: Path) -> None:
    busybox_rootfs.chmod(0o755)
    box = started(engine, busybox_rootfs, SLEEP, uidmap=[MAP], overlay=True)
    status = Path(f"/proc/{box.inspect().pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert uids == [str(FIRST)] * 4
    # the way to its files is its own group's only, and our directories stay closed
    root = Path(box.inspect().rootfs_path)
    info = root.parent.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o710, 0, FIRST)
    denied = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", str(root)],
        capture_output=True, check=False,
    )  # fmt: skip
    assert denied.returncode != 0
    assert box.exec(["id", "-u"]).text == "0\n"
    assert box.exec(["id", "-u"], user="5:6").text == "5\n"
    assert [process.user for process in box.top()] == ["root"]
    assert box.top()[0].host_uid == FIRST
    box.remove(force=True)
    assert not root.parent.exists()


def test_what_is_mounted_below_a_root_stays_there(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """A root that is bound shares its mounts' fate with the original, unless that is cut off."""
    top = short_tmp / "shared"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(top)], check=True)
    subprocess.run(["mount", "--make-shared", str(top)], check=True)
    rootfs = top / "rootfs"
    shutil.copytree(busybox_rootfs, rootfs, symlinks=True)
    (rootfs / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(rootfs / "data")], check=True)
    try:
        for options in ({"userns": "keep-id"}, {"uidmap": [MAP]}):
            says(engine, rootfs, "true", **options)
            assert os.path.ismount(rootfs / "data"), options
    finally:
        subprocess.run(["umount", str(rootfs / "data")], check=True)
        subprocess.run(["umount", str(top)], check=True)


@pytest.mark.parametrize("option", ["gidmap", "subgidname"])
def test_a_map_of_groups_alone_stands_for_both(
    engine: Engine, busybox_rootfs: Path, containers_ids: tuple[int, int], option: str
) -> None:
    given = [MAP] if option == "gidmap" else "containers"
    found = says(engine, busybox_rootfs, "cat /proc/self/uid_map", overlay=True, **{option: given})
    assert found[0].split()[1] in (str(FIRST), str(containers_ids[0]))


def test_any_umask_will_do(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "/run/longshore-test-umask"
    monkeypatch.setattr(roots, "_MAPPED", place)
    before = os.umask(0o077)
    try:
        assert says(engine, busybox_rootfs, "id -u", uidmap=[MAP]) == ["0"]
    finally:
        os.umask(before)
    os.rmdir(place)  # empty


def test_one_that_never_ran_leaves_no_place(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP, uidmap=[MAP], overlay=True)
    box.write_file("/file", b"")
    box.remove()
    assert not os.path.exists(f"/run/longshore-userns/{box.id}")


def test_a_second_start_finds_its_files(engine: Engine, busybox_rootfs: Path) -> None:
    script = "test -e /there && stat -c %u:%g /there; touch /there"
    box = make(engine, busybox_rootfs, script, uidmap=[MAP], overlay=True)
    for expected in (b"", b"0:0\n"):
        box.start()
        box.wait()
        assert printed(box) == expected
    box.remove()


@pytest.mark.parametrize("overlay", [True, False])
def test_files_in_and_out(engine: Engine, busybox_rootfs: Path, overlay: bool) -> None:
    box = started(engine, busybox_rootfs, SLEEP, uidmap=[MAP], overlay=overlay)
    for _ in ("running", "stopped"):
        box.write_file("/file", b"content")
        assert box.read_file("/file") == b"content"
        if box.status.value == "running":
            assert box.exec(["stat", "-c", "%u:%g", "/file"]).text == "0:0\n"
            box.stop(0)
    box.start()
    assert box.exec(["stat", "-c", "%u:%g", "/file"]).text == "0:0\n"
    box.remove(force=True)


@pytest.mark.parametrize("running", [True, False])
def test_owners_of_archives_are_the_containers(
    engine: Engine, busybox_rootfs: Path, tmp_path: Path, running: bool
) -> None:
    box = make(engine, busybox_rootfs, SLEEP, uidmap=[MAP], overlay=True)
    if running:
        box.start()
    given = io.BytesIO()
    with tarfile.open(fileobj=given, mode="w") as tar:
        member = tarfile.TarInfo("theirs")
        member.uid, member.gid = 7, 8
        tar.addfile(member)
    box.copy_in(io.BytesIO(given.getvalue()), "/tmp", keep_owner=True)
    back = io.BytesIO()
    box.copy_out("/tmp/theirs", back)
    with tarfile.open(fileobj=io.BytesIO(back.getvalue())) as tar:
        (member,) = tar.getmembers()
        assert (member.uid, member.gid) == (7, 8)
    box.copy_out("/tmp/theirs", tmp_path / "out", keep_owner=True)
    info = (tmp_path / "out").stat()
    assert (info.st_uid, info.st_gid) == (7, 8)
    member.uid = COUNT  # one more than there are
    given = io.BytesIO()
    with tarfile.open(fileobj=given, mode="w") as tar:
        tar.addfile(member)
    with pytest.raises(LongshoreError, match=f"has no id {COUNT}"):
        box.copy_in(io.BytesIO(given.getvalue()), "/tmp", keep_owner=True, overwrite=True)
    box.remove(force=True)


def test_what_is_mounted_below_sys_kernel_is_hidden(engine: Engine, busybox_rootfs: Path) -> None:
    """With the host's network its /sys is shown as it is, or not at all."""
    script = "ls /sys/kernel/security /sys/kernel/debug /sys/kernel/tracing 2>/dev/null; ls /sys"
    found = says(engine, busybox_rootfs, script, uidmap=[MAP], network="host", overlay=True)
    shown = found[: found.index("block")] if "block" in found else found
    names = {"/sys/kernel/security:", "/sys/kernel/debug:", "/sys/kernel/tracing:", ""}
    assert set(shown) <= names


def test_devices_are_there(engine: Engine, busybox_rootfs: Path) -> None:
    script = "head -c 3 /dev/mine | wc -c; ls -l /dev/null | cut -c1"
    options = {"uidmap": [MAP], "overlay": True, "devices": ["/dev/zero:/dev/mine"]}
    assert says(engine, busybox_rootfs, script, **options) == ["3", "c"]


def test_joined_by_another(engine: Engine, busybox_rootfs: Path) -> None:
    first = started(engine, busybox_rootfs, SLEEP, uidmap=[MAP], overlay=True)
    second = started(engine, busybox_rootfs, SLEEP, userns=f"container:{first.name}", overlay=True)
    pid = first.inspect().pid
    third = started(engine, busybox_rootfs, SLEEP, userns=f"ns:/proc/{pid}/ns/user", overlay=True)
    spaces = {os.readlink(f"/proc/{box.inspect().pid}/ns/user") for box in (first, second, third)}
    assert len(spaces) == 1
    assert second.exec(["stat", "-c", "%u", "/"]).text == "0\n"
    for box in (third, second, first):
        box.remove(force=True)
    plain = started(engine, busybox_rootfs, SLEEP)
    with pytest.raises(InvalidArgument, match="no user namespace of its own"):
        make(engine, busybox_rootfs, SLEEP, userns=f"container:{plain.name}")
    plain.remove(force=True)


def test_auto_gives_each_its_own(
    engine: Engine, busybox_rootfs: Path, containers_ids: tuple[int, int]
) -> None:
    first, _ = containers_ids
    boxes = [
        started(engine, busybox_rootfs, SLEEP, userns="auto:size=1024", overlay=True)
        for _ in range(3)
    ]
    assert [mapped(box) for box in boxes] == [
        ["0", str(first + n * 1024), "1024"] for n in range(3)
    ]
    boxes.pop(1).remove(force=True)
    boxes.append(started(engine, busybox_rootfs, SLEEP, userns="auto:size=1000", overlay=True))
    assert mapped(boxes[-1]) == ["0", str(first + 1024), "1000"]  # in the gap
    assert mapped(boxes[-1], "gid") == mapped(boxes[-1])
    with pytest.raises(HostUnsupported, match="all subordinate ids are in use"):
        make(engine, busybox_rootfs, SLEEP, userns="auto:size=4000", overlay=True)
    for box in boxes:
        box.remove(force=True)


def test_auto_without_ids(engine: Engine, busybox_rootfs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "none"
    empty.write_text("")
    for file in ("/etc/subuid", "/etc/subgid"):
        subprocess.run(["mount", "--bind", str(empty), file], check=True)
    try:
        with pytest.raises(HostUnsupported, match="subordinate ids of 'containers'") as caught:
            make(engine, busybox_rootfs, SLEEP, userns="auto")
        assert "/etc/subuid" in str(caught.value.hint)
    finally:
        for file in ("/etc/subuid", "/etc/subgid"):
            subprocess.run(["umount", file], check=True)
    assert engine.list(all=True) == []


def test_ids_by_name(engine: Engine, busybox_rootfs: Path, containers_ids: tuple[int, int]) -> None:
    first, count = containers_ids
    found = says(
        engine, busybox_rootfs, "cat /proc/self/gid_map", subuidname="containers", overlay=True
    )
    assert found[0].split() == ["0", str(first), str(count)]
    with pytest.raises(HostUnsupported, match="no line for it"):
        make(engine, busybox_rootfs, SLEEP, subuidname="nobody-has-this")


def test_keep_id_of_root_keeps_all(engine: Engine, busybox_rootfs: Path) -> None:
    found = says(engine, busybox_rootfs, "cat /proc/self/uid_map; id -u", userns="keep-id")
    assert (found[0].split(), found[1]) == (["0", "0", "4294967295"], "0")


def test_nomap_is_for_users(engine: Engine, busybox_rootfs: Path) -> None:
    with pytest.raises(HostUnsupported, match="nomap"):
        make(engine, busybox_rootfs, SLEEP, userns="nomap")
    with pytest.raises(InvalidArgument, match="which ids"):
        make(engine, busybox_rootfs, SLEEP, userns="private")


def test_a_root_that_has_the_ids_is_left_as_it_is(engine: Engine, busybox_rootfs: Path) -> None:
    for path in (busybox_rootfs, *busybox_rootfs.rglob("*")):
        os.lchown(path, FIRST, FIRST)
    found = says(engine, busybox_rootfs, "touch /new && stat -c %u:%g / /new", uidmap=[MAP])
    assert found == ["0:0", "0:0"]
    assert (busybox_rootfs / "new").stat().st_uid == FIRST


def test_on_the_command_line(cli: Cli, busybox_rootfs: Path) -> None:
    done = cli(
        "run", "--rm", "--uidmap", MAP, "--gidmap", "0:400000:10",
        "--rootfs", f"{busybox_rootfs}:O", "cat", "/proc/self/uid_map", "/proc/self/gid_map",
    )  # fmt: skip
    assert done.stdout.split() == ["0", str(FIRST), str(COUNT), "0", "400000", "10"]
    done = cli(
        "run", "--userns", "keep-id", "--uidmap", MAP, "--rootfs", str(busybox_rootfs), "true",
        code=125,
    )  # fmt: skip
    assert "says already which ids there are" in done.stderr
