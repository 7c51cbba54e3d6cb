"""Files into containers, out of them and between them; and that no path leads out of one."""

from __future__ import annotations

import io
import os
import signal
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from hostlife import SLEEP, forked, make, ready, started
from longshore import Container, Engine, InvalidArgument, LongshoreError, NoSuchPath, Status
from longshore.linux.treecopy import copy_data

KINDS = ["running", "paused", "created", "exited"]


def a_box(engine: Engine, rootfs: Path, kind: str, **options: Any) -> Container:
    """Make a container in one of the statuses in which files can be copied."""
    rootfs.chmod(0o755)  # for users other than root
    box = make(engine, rootfs, "true" if kind == "exited" else SLEEP, **options)
    if kind != "created":
        box.start()
    if kind == "exited":
        box.wait()
    if kind == "paused":
        box.pause()
    return box


def a_tree(top: Path) -> Path:
    """Make a directory with one of everything that is copied."""
    tree = top / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "file").write_bytes(b"content\n")
    (tree / "file").chmod(0o4640)
    os.chown(tree / "file", 1234, 2345)
    (tree / "file").chmod(0o4640)
    os.utime(tree / "file", ns=(1_000_000_001, 2_000_000_003))
    (tree / "empty").write_bytes(b"")
    (tree / "sub").chmod(0o750)
    (tree / "sub/deep/x").write_bytes(b"x" * 100_000)
    (tree / "link").symlink_to("sub/deep/x")
    (tree / "dangling").symlink_to("/nowhere/at/all")
    os.link(tree / "file", tree / "sub/same")
    os.mkfifo(tree / "fifo")
    os.setxattr(tree / "file", "user.colour", b"blue\xff")
    with (tree / "sparse").open("wb") as file:
        file.seek(20 << 20)
        file.write(b"end")
        file.truncate(30 << 20)
    return tree


def described(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a tree, for a comparison."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        what: object = None
        if kind == stat.S_IFLNK:
            what = os.readlink(path)
        elif kind == stat.S_IFREG:
            what = path.read_bytes()
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(info.st_mode)
        size = 0 if kind == stat.S_IFDIR else info.st_size
        found[str(path.relative_to(top))] = (kind, mode, size, info.st_mtime_ns, what)
    return found


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_both_ways(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, kind: str, overlay: bool
) -> None:
    box = a_box(engine, busybox_rootfs, kind, overlay=overlay)
    tree = a_tree(short_tmp)
    status = box.status
    if status is Status.STOPPED:  # nobody has cleaned up yet: copying does
        status = Status.EXITED
    box.copy_in(tree, "/tmp", keep_owner=True)
    assert box.status is status
    assert (busybox_rootfs / "tmp/tree").exists() is not overlay
    box.copy_out("/tmp/tree", short_tmp / "back", keep_owner=True)
    assert box.status is status
    assert described(short_tmp / "back") == described(tree)
    back = short_tmp / "back"
    assert ((back / "file").stat().st_uid, (back / "file").stat().st_gid) == (1234, 2345)
    assert (back / "file").stat().st_ino == (back / "sub/same").stat().st_ino
    assert os.getxattr(back / "file", "user.colour") == b"blue\xff"
    assert (back / "sparse").stat().st_blocks * 512 < 1 << 20
    assert box.read_file("/tmp/tree/sub/deep/x") == b"x" * 100_000
    # what is mounted for it is gone: it starts, and has what was copied
    if kind in ("created", "exited"):
        box.start()
        box.wait(10) if kind == "exited" else box.stop()
    box.remove(force=True)


def test_where_things_go(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    """The rules of podman-cp(1)."""
    box = started(engine, busybox_rootfs, SLEEP)
    top = busybox_rootfs
    source = short_tmp / "a"
    source.mkdir()
    (source / "f").write_text("one")
    file = source / "f"
    box.copy_in(file, "/tmp/new")  # a file to what is not there
    assert (top / "tmp/new").read_text() == "one"
    file.write_text("two")
    box.copy_in(file, "tmp/new")  # to a file; the first slash is optional
    assert (top / "tmp/new").read_text() == "two"
    box.copy_in(file, "/root")  # to a directory
    assert (top / "root/f").read_text() == "two"
    with pytest.raises(NoSuchPath, match="no such directory"):
        box.copy_in(file, "/nothing/")
    with pytest.raises(NoSuchPath, match="nothing/x"):
        box.copy_in(file, "/nothing/x")
    with pytest.raises(NoSuchPath, match="missing: no such file"):
        box.copy_in(source / "missing", "/tmp")
    box.copy_in(source, "/tmp/d")  # a directory to what is not there
    assert (top / "tmp/d/f").is_file()
    box.copy_in(source, "/tmp/d")  # to a directory
    assert (top / "tmp/d/a/f").is_file()
    box.copy_in(f"{source}/.", "/root/e")  # what is in it, to what is not there
    assert (top / "root/e/f").is_file()
    box.copy_in(f"{source}/.", "/var")  # to a directory
    assert (top / "var/f").is_file()
    with pytest.raises(InvalidArgument, match=r"is a directory, and .*tmp/new is not"):
        box.copy_in(source, "/tmp/new")
    (source / "new").mkdir()
    with pytest.raises(LongshoreError, match="cannot replace a file") as caught:
        box.copy_in(f"{source}/.", "/tmp")
    assert caught.value.hint
    box.copy_in(f"{source}/.", "/tmp", overwrite=True)
    assert (top / "tmp/new").is_dir()
    box.copy_in(file, "/tmp/d/a", overwrite=True)
    assert (top / "tmp/d/a/f").is_file()
    with pytest.raises(InvalidArgument, match="is a device"):
        box.copy_in(file, "/dev/null")
    with pytest.raises(InvalidArgument, match="is a device or a socket"):
        box.copy_out("/dev/null", short_tmp / "null")
    (short_tmp / "link").symlink_to(file)
    box.copy_in(short_tmp / "link", "/tmp")  # a link that is named is followed
    assert (top / "tmp/link").read_text() == "two"
    assert not (top / "tmp/link").is_symlink()
    for bad in ("", "a\0b"):
        with pytest.raises(InvalidArgument, match="is not a path"):
            box.copy_out("/tmp", bad)
    box.remove(force=True)


def test_owners(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    """New files are the container's user's inside, the caller's outside."""
    busybox_rootfs.chmod(0o755)
    tree = a_tree(short_tmp)
    box = started(engine, busybox_rootfs, SLEEP, user="user")
    box.copy_in(tree, "/tmp")
    for name in ("file", "sub", "link", "fifo"):
        info = (busybox_rootfs / "tmp/tree" / name).lstat()
        assert (info.st_uid, info.st_gid) == (1000, 1000), name
    assert stat.S_IMODE((busybox_rootfs / "tmp/tree/file").stat().st_mode) == 0o4640
    os.chown(busybox_rootfs / "tmp/tree/file", 0, 0)
    (busybox_rootfs / "tmp/tree/file").chmod(0o6755)
    box.copy_out("/tmp/tree", short_tmp / "back")
    info = (short_tmp / "back/file").stat()
    assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE(info.st_mode) == 0o755, "a setuid program comes out of a container"
    box.remove(force=True)


@pytest.mark.parametrize("kind", ["running", "created"])
def test_tar_both_ways(engine: Engine, busybox_rootfs: Path, short_tmp: Path, kind: str) -> None:
    box = a_box(engine, busybox_rootfs, kind, overlay=True)
    tree = a_tree(short_tmp)
    box.copy_in(tree, "/root", keep_owner=True)
    stream = io.BytesIO()
    box.copy_out("/root/tree", stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        names = tar.getnames()
        assert names[0] == "tree"
        assert {"tree/sub/deep/x", "tree/link", "tree/fifo"} <= set(names)
        assert tar.getmember("tree/file").uid == 1234
    stream.seek(0)
    box.copy_in(stream, "/tmp", keep_owner=True)
    box.copy_out("/tmp/tree", short_tmp / "back", keep_owner=True)
    after, before = described(short_tmp / "back"), described(tree)
    # times in an archive are floats
    assert {k: (*v[:3], v[4]) for k, v in after.items()} == {
        k: (*v[:3], v[4]) for k, v in before.items()
    }
    assert (short_tmp / "back/sparse").stat().st_blocks * 512 < 1 << 20
    assert os.getxattr(short_tmp / "back/file", "user.colour") == b"blue\xff"
    assert (short_tmp / "back/file").stat().st_uid == 1234
    contents = io.BytesIO()
    box.copy_out("/root/tree/.", contents)
    contents.seek(0)
    with tarfile.open(fileobj=contents) as tar:
        assert "file" in tar.getnames()
    box.remove(force=True)


def test_a_hostile_archive(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    outside = short_tmp / "outside"
    outside.mkdir()

    def archive(*members: tuple[str, bytes, str]) -> io.BytesIO:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            for name, kind, target in members:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, target
                entry.size = 4 if kind == tarfile.REGTYPE else 0
                tar.addfile(entry, io.BytesIO(b"evil"))
        stream.seek(0)
        return stream

    with pytest.raises(InvalidArgument, match="leads out"):
        box.copy_in(archive(("../../evil", tarfile.REGTYPE, "")), "/tmp")
    with pytest.raises(InvalidArgument, match="leads out"):
        box.copy_in(archive(("x", tarfile.LNKTYPE, "../etc/passwd")), "/tmp")
    # a link to the outside is one to the inside
    (busybox_rootfs / str(outside)[1:]).mkdir(parents=True)
    box.copy_in(
        archive(
            ("out", tarfile.SYMTYPE, str(outside)),
            ("out/evil", tarfile.REGTYPE, ""),
            ("up", tarfile.SYMTYPE, "../../../../../.." + str(outside)),
            ("up/evil2", tarfile.REGTYPE, ""),
            ("/absolute", tarfile.REGTYPE, ""),
        ),
        "/tmp",
    )
    assert list(outside.iterdir()) == []
    assert sorted(os.listdir(busybox_rootfs / str(outside)[1:])) == ["evil", "evil2"]
    assert (busybox_rootfs / "tmp/absolute").is_file()
    strange = tarfile.TarInfo("strange")
    for key, value in (("uid", "99999999999999"), ("mtime", "nan"), ("path", "a\0b")):
        strange.pax_headers = {key: value}
        with tarfile.open(fileobj=(stream := io.BytesIO()), mode="w") as tar:
            tar.addfile(strange)
        stream.seek(0)
        with pytest.raises(InvalidArgument, match="not a whole tar archive"):
            box.copy_in(stream, "/tmp", keep_owner=True)
    for bad in (b"", b"no archive at all" * 100):
        with pytest.raises(InvalidArgument, match="not a whole tar archive"):
            box.copy_in(io.BytesIO(bad), "/tmp")
    with pytest.raises(InvalidArgument, match="is not a directory"):
        box.copy_in(io.BytesIO(), "/etc/passwd")
    box.remove(force=True)


@pytest.mark.parametrize("kinds", [("running", "running"), ("created", "running"), ("exited",) * 2])
def test_between_containers(engine: Engine, busybox_rootfs: Path, kinds: tuple[str, str]) -> None:
    one = a_box(engine, busybox_rootfs, kinds[0], overlay=True)
    two = a_box(engine, busybox_rootfs, kinds[1], overlay=True, user="1000:2000")
    one.write_file("/root/f", b"from one", mode=0o600)
    one.copy_to("/root", two, "/tmp/of-one")
    assert two.read_file("/tmp/of-one/f") == b"from one"
    two.copy_out("/tmp/of-one/f", stream := io.BytesIO())
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        entry = tar.getmember("f")
        assert (entry.uid, entry.gid, entry.mode) == (1000, 2000, 0o600)
    again = Engine(settings=engine.settings)
    one.copy_to("/root/f", again.get(two.id), "/tmp/g")
    assert two.read_file("/tmp/g") == b"from one"
    one.copy_to("/root", one, "/root/again")  # within one, and into itself
    assert one.read_file("/root/again/f") == b"from one"
    with pytest.raises(NoSuchPath):
        one.read_file("/root/again/again/f")
    one.remove(force=True)
    two.remove(force=True)


@pytest.mark.parametrize("kind", KINDS)
def test_volumes(engine: Engine, busybox_rootfs: Path, short_tmp: Path, kind: str) -> None:
    """A container's volumes are where it has them, whether it runs or not."""
    for name in ("data", "fixed"):
        (short_tmp / name).mkdir()
        (short_tmp / name / "there").write_text(name)
    (short_tmp / "single").write_text("single")
    box = a_box(
        engine,
        busybox_rootfs,
        kind,
        overlay=True,
        volumes=[
            f"{short_tmp}/data:/srv/data",
            f"{short_tmp}/fixed:/srv/data/fixed:ro",
            f"{short_tmp}/single:/srv/single",
        ],
        tmpfs={"/scratch": ""},
    )
    (short_tmp / "f").write_text("new")
    box.copy_in(short_tmp / "f", "/srv/data")
    assert (short_tmp / "data/f").read_text() == "new"
    assert box.read_file("/srv/data/there") == b"data"
    with pytest.raises(LongshoreError, match="Read-only") as caught:
        box.copy_in(short_tmp / "f", "/srv/data/fixed")
    assert caught.value.hint
    box.write_file("/srv/single", b"written")  # a mount point: only its content
    assert (short_tmp / "single").read_text() == "written"
    # what is mounted is never replaced, or taken away with what it is mounted on
    for name in ("data", "single", "srv"):
        odd = short_tmp / f"odd-{name}"
        odd.mkdir()
        (odd / name).symlink_to("/")
        with pytest.raises(LongshoreError, match="something is mounted there"):
            box.copy_in(f"{odd}/.", "/" if name == "srv" else "/srv", overwrite=True)
    assert box.read_file("/srv/data/there") == b"data"
    assert box.read_file("/srv/single") == b"written"
    if kind in ("created", "exited"):
        with pytest.raises(LongshoreError, match="Read-only"):
            box.copy_in(short_tmp / "f", "/scratch")
    else:
        box.copy_in(short_tmp / "f", "/scratch")
        assert box.read_file("/scratch/f") == b"new"
    box.remove(force=True)


def test_read_and_write(engine: Engine, busybox_rootfs: Path) -> None:
    busybox_rootfs.chmod(0o755)
    box = started(engine, busybox_rootfs, SLEEP, user="1000")
    box.write_file("/tmp/f", b"\0\xff" * 1000)
    info = (busybox_rootfs / "tmp/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o644, 1000)
    assert box.read_file("tmp/f") == b"\0\xff" * 1000
    box.write_file("/tmp/f", b"short", mode=0o4711, user="root:extra")
    info = (busybox_rootfs / "tmp/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o4711, 0, 2000)
    box.write_file("/tmp/f", b"same")  # keeps both
    info = (busybox_rootfs / "tmp/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o4711, 0, 2000)
    assert os.listdir(busybox_rootfs / "tmp") == ["f"]
    assert b"Uid:" in box.read_file("/proc/1/status")
    with pytest.raises(FileNotFoundError):
        box.read_file("/tmp/none")
    for path in ("/tmp", "/dev/zero"):
        with pytest.raises(InvalidArgument, match="not a regular file"):
            box.read_file(path)
        with pytest.raises(InvalidArgument, match="not a regular file"):
            box.write_file(path, b"")
    box.remove(force=True)


def test_links_that_want_out(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    """Absolute links, .., links of /proc: all of them stay inside."""
    secret = short_tmp / "secret"
    secret.write_text("of the host")
    box = ready(
        started(
            engine,
            busybox_rootfs,
            f"""
cd /tmp
ln -s {secret} absolute
ln -s ../../../../../../..{secret} relative
ln -s /proc/1/root{secret} magic
ln -s {short_tmp} directory
ln -s absolute absolute2
mkdir tree; ln -s {secret} tree/secret; ln -s {short_tmp} tree/directory
echo ready
{SLEEP}
""",
        )
    )
    for path in (
        "/tmp/absolute", "/tmp/relative", "/tmp/magic", "/tmp/directory/secret", "/tmp/absolute2",
        f"../../..{secret}", f"/tmp/../..{secret}",
    ):  # fmt: skip
        with pytest.raises(LongshoreError, match=r"no such file|No such file|symbolic links"):
            box.read_file(path)
        with pytest.raises(LongshoreError, match=r"no such file|No such file|symbolic links"):
            box.copy_out(path, short_tmp / "stolen")
        with pytest.raises(LongshoreError):
            box.write_file(path, b"evil")
    box.copy_out("/tmp/tree", short_tmp / "tree")  # the links come as links
    assert os.readlink(short_tmp / "tree/secret") == str(secret)
    # and are not followed by what is copied over them
    evil = short_tmp / "evil"
    (evil / "directory").mkdir(parents=True)
    (evil / "secret").write_text("evil")
    (evil / "directory/x").write_text("evil")
    with pytest.raises(LongshoreError, match="cannot replace"):
        box.copy_in(f"{evil}/.", "/tmp/tree")
    box.copy_in(f"{evil}/.", "/tmp/tree", overwrite=True)
    assert secret.read_text() == "of the host"
    assert sorted(os.listdir(short_tmp)) == ["evil", "root", "rootfs", "run", "secret", "tree"]
    box.remove(force=True)


def test_a_container_that_swaps_links(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """It swaps a file and a directory for links to the host's, as fast as it can."""
    outside = short_tmp / "outside"
    outside.mkdir()
    (outside / "f").write_text("of the host")
    box = ready(
        started(
            engine,
            busybox_rootfs,
            f"""
cd /tmp; mkdir real links; echo inside >real/f; ln -s {outside}/f links/f
ln -s real now
ln -s {outside} dir2
echo ready
while :; do
  mv real/f x; mv links/f real/f; mv x links/f
  mv real y; mv dir2 real; mv y dir2
done
""",
        )
    )
    target = short_tmp / "target"
    seen: set[bytes] = set()
    (short_tmp / "f").write_text("evil")
    for _ in range(300):
        for attempt in (
            lambda: seen.add(box.read_file("/tmp/real/f")),
            lambda: box.copy_out("/tmp", target, overwrite=True),
            lambda: box.copy_in(short_tmp / "f", "/tmp/real/f"),
            lambda: box.write_file("/tmp/real/g", b"evil"),
        ):
            try:
                attempt()
            except LongshoreError:
                pass
    assert b"of the host" not in b"".join(seen)
    assert sorted(os.listdir(outside)) == ["f"]
    assert (outside / "f").read_text() == "of the host"
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"of the host" not in path.read_bytes()
    box.remove(force=True)


def test_a_stopped_container_is_locked_and_left_clean(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    """Its root is mounted where nobody else sees it, and only for as long as it is copied."""
    box = make(engine, busybox_rootfs, SLEEP, overlay=True)
    reader, writer = os.pipe()
    mounts = Path("/proc/self/mounts").read_text()
    with open(reader, "rb", buffering=0) as stream:
        worker = threading.Thread(target=box.copy_in, args=(stream, "/tmp"))
        worker.start()
        with open(writer, "wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
            entry = tarfile.TarInfo("f")
            entry.size = 1 << 20
            tar.addfile(entry, io.BytesIO(bytes(1 << 20)))
            assert Path("/proc/self/mounts").read_text() == mounts
        worker.join(30)
    assert not worker.is_alive()
    assert len(box.read_file("/tmp/f")) == 1 << 20
    box.start()
    assert len(box.read_file("/tmp/f")) == 1 << 20
    box.remove(force=True)


def test_no_lock_is_held_while_an_archive_is_waited_for(
    engine: Engine, busybox_rootfs: Path
) -> None:
    """Both ways: the other end of the pipe is slow, and the container is started meanwhile."""
    box = make(engine, busybox_rootfs, SLEEP, overlay=True)
    data = os.urandom(3 << 20)
    box.write_file("/tmp/f", data)
    reader, writer = os.pipe()
    with open(reader, "rb") as stream:
        with open(writer, "wb", buffering=0) as out:
            worker = threading.Thread(target=box.copy_out, args=("/tmp/f", out))
            worker.start()
            archive = stream.read(512)  # it has begun, and the pipe is full before its end
            box.start()
            box.stop(0)
            assert worker.is_alive()
            rest = threading.Thread(target=lambda: whole.append(stream.read()))
            whole = [archive]
            rest.start()
            worker.join(60)
        rest.join(60)
    with tarfile.open(fileobj=io.BytesIO(b"".join(whole))) as tar:
        file = tar.extractfile("f")
        assert file is not None and file.read() == data
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb") as out:
        worker = threading.Thread(target=box.copy_in, args=(stream, "/root"))
        worker.start()
        out.write(b"".join(whole)[: 1 << 20])
        box.start()
        assert worker.is_alive()
        out.write(b"".join(whole)[1 << 20 :])
        out.close()
        worker.join(60)
    assert not worker.is_alive()
    assert box.read_file("/root/f") == data
    box.remove(force=True)


def test_killed_while_it_copies(engine: Engine, busybox_rootfs: Path) -> None:
    """The mounts that a container at rest gets for a copy go with the process that copies."""
    box = make(engine, busybox_rootfs, SLEEP, overlay=True)
    reader, writer = os.pipe()
    with (
        open(reader, "rb", buffering=0) as stream,
        open(writer, "wb", buffering=0) as out,
        forked(lambda: box.copy_in(stream, "/tmp")) as pid,
    ):
        entry = tarfile.TarInfo("f")
        entry.size = 1 << 20
        out.write(entry.tobuf() + b"x" * 100_000)  # more than the pipe holds: it is reading
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(NoSuchPath):
        box.read_file("/tmp/f")  # the lock is free, and no half of the file has the name
    box.start()
    box.remove(force=True)


def test_what_has_no_size_is_not_read_for_ever(
    engine: Engine, busybox_rootfs: Path, tmp_path: Path
) -> None:
    """A file that is emptied and filled while it is read; /dev/zero is one that never ends."""
    reader = os.open("/dev/zero", os.O_RDONLY)
    writer = os.open(tmp_path / "copy", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="grows"):
            copy_data(reader, writer, 0)
        assert os.fstat(writer).st_size <= 64 << 20
    finally:
        os.close(reader)
        os.close(writer)


def test_a_fifo_is_replaced_as_it_was_copied(engine: Engine, busybox_rootfs: Path) -> None:
    """By its name: it is never opened."""
    source = busybox_rootfs / "srv"
    source.mkdir()
    os.mkfifo(source / "fifo")
    (source / "file").write_text("x")
    box = make(engine, busybox_rootfs, SLEEP)
    for _ in range(2):
        box.copy_in(source, "/copy")
    assert stat.S_ISFIFO((busybox_rootfs / "copy/fifo").stat().st_mode)


def test_what_is_no_bytes_is_not_written(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, SLEEP)
    with pytest.raises(InvalidArgument, match="bytes"):
        box.write_file("/x", "text")  # type: ignore[arg-type]
