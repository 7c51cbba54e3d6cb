"""linux/files.py: whole or not there, and nothing removed that was not meant."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from effort import effort
from hostkit import needs
from longshore.linux import files
from longshore.linux.files import (
    create_exclusive,
    exposed,
    make_directory,
    read_file,
    remove_file,
    remove_tree,
    write_atomic,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- writing ---------------------------------------------------------------------------------


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"one", b"x" * 200_000):
        write_atomic(str(path), data)
        assert read_file(str(path)) == data
    assert os.listdir(tmp_path) == ["file"]


def test_modes(tmp_path: Path) -> None:
    write_atomic(str(tmp_path / "a"), b"")
    write_atomic(str(tmp_path / "b"), b"", mode=0o640)
    create_exclusive(str(tmp_path / "c"), b"")
    assert [_mode(tmp_path / n) for n in "abc"] == [0o600, 0o640, 0o600]
    os.chmod(tmp_path / "a", 0o644)
    write_atomic(str(tmp_path / "a"), b"")
    assert _mode(tmp_path / "a") == 0o600, "a new file, not the old one's mode"


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    versions = [bytes([n]) * (1 + n * 5000) for n in range(1, 30)]
    write_atomic(path, versions[0])
    done = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not done.is_set():
            data = read_file(path)
            if data not in versions:
                wrong.append(-1 if data is None else len(data))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(5):
        for version in versions:
            write_atomic(path, version)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    versions = [bytes([n]) * 50_000 for n in range(6)]
    writers = [
        threading.Thread(target=lambda v=v: [write_atomic(path, v) for _ in range(20)])
        for v in versions
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read_file(path) in versions
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomic(str(path), b"old")
    descriptors = os.listdir("/proc/self/fd")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert os.listdir("/proc/self/fd") == descriptors


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    write_atomic(str(tmp_path / "file"), b"0123456789" * 10)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 10


def test_writing_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(str(tmp_path / "no/file"), b"")


def test_create_exclusive_has_one_winner(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    won: list[int] = []
    start = threading.Barrier(8)

    def take(number: int) -> None:
        start.wait()
        try:
            create_exclusive(path, b"%d" % number)
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read_file(path) == b"%d" % won[0]
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_not_there_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_file(str(tmp_path / "no")) is None
    assert read_file(str(tmp_path / "file/below")) is None
    with pytest.raises(IsADirectoryError):
        read_file(str(tmp_path))
    remove_file(str(tmp_path / "no"))
    remove_file(str(tmp_path / "file/below"))
    remove_file(str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


# --- directories -----------------------------------------------------------------------------


def test_new_directories_have_the_mode_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir(mode=0o755)
    make_directory(str(old / "a/b"), 0o750)
    make_directory(str(old / "c"))
    make_directory(str(old))
    assert [_mode(p) for p in (old, old / "a", old / "a/b", old / "c")] == [
        0o755, 0o750, 0o750, 0o700,
    ]  # fmt: skip


def test_a_file_in_the_way_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_directory(str(tmp_path / "file/below"))


# --- removing --------------------------------------------------------------------------------


def test_a_tree_goes_and_what_its_links_point_to_stays(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("here")
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/file").touch()
    (tree / "a/to-dir").symlink_to(precious)
    (tree / "a/to-file").symlink_to(precious / "file")
    (tree / "a/dangling").symlink_to("/no/such")
    os.mkfifo(tree / "a/fifo")
    os.link(precious / "file", tree / "a/hard")
    remove_tree(str(tree))
    assert not tree.exists()
    assert (precious / "file").read_text() == "here"


def test_a_link_in_place_of_the_tree_is_removed_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    link = tmp_path / "link"
    link.symlink_to(precious)
    remove_tree(str(link))
    assert not link.is_symlink()
    assert (precious / "file").exists()


def test_a_tree_that_is_not_there_and_one_that_is_a_file(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "no"))
    (tmp_path / "file").touch()
    remove_tree(str(tmp_path / "file"))
    assert os.listdir(tmp_path) == []


def test_odd_names_are_removed(tmp_path: Path) -> None:
    tree = os.fsencode(tmp_path / "tree")
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" "):
        os.makedirs(tree + b"/" + name + b"/" + name)
    remove_tree(os.fsdecode(tree))
    assert os.listdir(tmp_path) == []


def test_a_directory_that_its_owner_may_not_read(tmp_path: Path) -> None:
    """As a user without privilege; the work directory of an overlay is such a one."""
    needs("root, to be another user", os.geteuid(), os.geteuid() == 0)
    import tempfile

    package = Path(files.__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="ls", dir="/tmp") as top:
        tree = Path(top, "tree")
        (tree / "closed/below").mkdir(parents=True)
        (tree / "closed").chmod(0)
        for path in (Path(top), tree, tree / "closed"):
            os.chown(path, 65534, 65534)
        code = """
import sys; sys.path.insert(0, sys.argv[2])
from longshore.linux import files
import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)
files.remove_tree(sys.argv[1])
"""
        subprocess.run([sys.executable, "-c", code, str(tree), str(package)], check=True)
        assert not tree.exists()


_MOUNTED = """
set -e
mount --bind {precious} {tree}/bound
mkdir {tree}/fresh && mount -t tmpfs none {tree}/fresh && touch {tree}/fresh/file
for n in 1 2; do {python} -I -S -c '
import sys; sys.path.insert(0, "{package}")
from longshore.linux.files import remove_tree
try:
    remove_tree("{tree}")
except OSError as err:
    print(err.strerror)
'; done
ls {tree}/fresh
"""


def test_a_mount_below_is_not_emptied(tmp_path: Path) -> None:
    """Neither another file system, nor a bind mount of the same one, whose device is the same."""
    needs("root, for mounts", os.geteuid(), os.geteuid() == 0)
    tree, precious = tmp_path / "tree", tmp_path / "precious"
    (tree / "bound").mkdir(parents=True)
    (precious / "below").mkdir(parents=True)
    (precious / "below/file").write_text("here")
    script = _MOUNTED.format(
        tree=tree, precious=precious, python=sys.executable, package=Path(files.__file__).parents[2]
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["Device or resource busy"] * 2 + ["file"], done.stderr
    assert (precious / "below/file").read_text() == "here"
    remove_tree(str(tree))  # the mounts went with their namespace
    assert not tree.exists()


# --- who else could change it ------------------------------------------------------------------


def test_what_is_exposed(tmp_path: Path) -> None:
    path = tmp_path / "d"
    assert exposed(str(path)) == "", "what is not there is made by us"
    assert exposed(str(tmp_path / "d/e")) == ""
    path.mkdir()
    for mode, why in (
        (0o700, ""),
        (0o755, ""),
        (0o775, "others than its owner can write to it"),
        (0o757, "others than its owner can write to it"),
        (0o1777, "others than its owner can write to it"),
    ):
        path.chmod(mode)
        assert exposed(str(path)) == why


@pytest.mark.parametrize("branches", [1, 2])
def test_a_tree_of_any_depth_is_removed(tmp_path: Path, branches: int) -> None:
    """Deeper than the stack of the interpreter, and than there may be open files."""
    top = tmp_path / "top"
    top.mkdir()
    for branch in range(branches):
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        for level in range(effort(3000, 1100)):
            name = "a" * 100 if branch else "d"
            os.mkdir(name, dir_fd=directory)
            os.close(os.open(f"f{level}", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        os.close(directory)
    remove_tree(str(top))
    assert not top.exists()
