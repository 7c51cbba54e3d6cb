"""Paths of a tree: what is found in it, and that nothing leads out, whatever changes meanwhile."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from effort import effort
from longshore.errors import HostUnsupported
from longshore.linux import rooted
from longshore.linux.files import remove_tree
from longshore.linux.libc import call
from longshore.linux.rooted import Rooted, Tree, reopen
from longshore.linux.treecopy import MAX_DEPTH, Copier, copy_data

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # renameat2(2)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A tree with links that want out of it, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").write_text("inside")
    (tree / "absolute").symlink_to("/a/b/f")
    (tree / "up").symlink_to("../../../../../../a/b/f")
    (tree / "out").symlink_to(tmp_path / "secret")
    (tree / "out2").symlink_to("../secret")
    (tree / "outdir").symlink_to(tmp_path / "outside")
    (tree / "new").symlink_to("/a/not-yet")
    (tree / "circle").symlink_to("circle")
    (tree / "magic").symlink_to("/proc/self/cwd")
    return tree


@pytest.fixture
def root(top: Path) -> Iterator[Rooted]:
    """The tree with its directory as /."""
    with Rooted(os.open(top, os.O_PATH | os.O_DIRECTORY)) as found:
        yield found


def text(tree: Tree, path: str) -> str:
    """Return what a path leads to."""
    with tree.find(path) as spot:
        if spot.info is None:
            raise FileNotFoundError(path)
        fd = spot.pin()
        try:
            reader = reopen(fd, os.O_RDONLY)
        finally:
            os.close(fd)
    with open(reader) as file:
        return file.read()


@pytest.mark.parametrize(
    "path", ["/a/b/f", "a/b/f", "absolute", "/up", "../../a/b/f", "a/./b/../b//f", "/../absolute"]
)
def test_inside(root: Rooted, path: str) -> None:
    assert text(root, path) == "inside"
    with open(root.open(path, os.O_RDONLY)) as file:
        assert file.read() == "inside"


@pytest.mark.parametrize("path", ["out", "out2", "../secret", "outdir/secret", "a/../../secret"])
def test_nothing_leads_out(root: Rooted, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        text(root, path)
    with pytest.raises(FileNotFoundError):
        root.open(path, os.O_RDONLY)


def test_what_a_path_means(root: Rooted, top: Path) -> None:
    for path in ("/", ".", "..", "/a/..", "/a/b/../.."):
        with root.find(path) as spot:
            assert spot.name == ""
            assert spot.is_directory
            assert os.path.samestat(os.fstat(spot.parent), top.stat())
    with root.find("new") as spot:  # where a link leads that leads nowhere yet
        assert (spot.name, spot.info) == ("not-yet", None)
        assert os.path.samestat(os.fstat(spot.parent), (top / "a").stat())
    with root.find("a/b/") as spot:
        assert (spot.name, spot.is_directory) == ("b", True)
    with pytest.raises(NotADirectoryError):
        root.find("a/b/f/")
    with pytest.raises(OSError, match="symbolic links"):
        root.find("circle")
    with pytest.raises(FileNotFoundError):
        root.find("a/x/y")
    with pytest.raises(OSError, match="zero byte"):
        root.open("a\0b", os.O_RDONLY)


def test_links_of_proc_are_not_followed() -> None:
    with (
        Rooted(os.open("/", os.O_PATH | os.O_DIRECTORY)) as root,
        pytest.raises(OSError, match="symbolic links"),
    ):
        root.open("/proc/self/cwd", os.O_PATH)


def test_directories_are_made_inside(root: Rooted, top: Path) -> None:
    os.close(root.make_directories("/../x/y/z"))
    assert (top / "x/y/z").is_dir()
    os.close(root.make_directories("/new/deeper"))
    assert (top / "a/not-yet/deeper").is_dir()
    with pytest.raises(FileNotFoundError):
        root.make_directories("/outdir/x")
    assert os.listdir(top.parent / "outside") == ["secret"]


def test_the_host_itself(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(top)
    assert text(Tree(), "a/b/f") == "inside"
    assert text(Tree(), "out") == "secret"
    with Tree().find(".") as spot:
        assert spot.name == ""


def test_a_kernel_without_it(root: Rooted, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(rooted, "call", missing)
    with pytest.raises(HostUnsupported, match=r"openat2\(2\), of Linux 5.6"):
        root.open("a", os.O_PATH)


@contextlib.contextmanager
def swapped(one: Path, other: Path) -> Generator[None]:
    """Let another thread exchange two entries, each time in one step, as fast as it can."""
    over = threading.Event()

    def work() -> None:
        names = [os.fsencode(path) for path in (one, other)]
        while not over.is_set():
            call("renameat2", AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_link_swapped_meanwhile(root: Rooted, top: Path) -> None:
    """Thousands of opens, while what they pass becomes a link to the outside and back."""
    (top / "d").mkdir()
    (top / "d/secret").write_text("inside")
    (top / "l").symlink_to(top.parent / "outside")

    seen: dict[str, int] = {}
    with swapped(top / "d", top / "l"):
        for number in range(effort(6000, 1500)):
            path = ("d/secret", "d/../d/secret", "/../d/./secret")[number % 3]
            try:
                what = text(root, path)
            except OSError as err:
                what = os.strerror(err.errno or 0)
            seen[what] = seen.get(what, 0) + 1
    assert "secret" not in seen
    assert seen.get("inside"), seen
    assert len(seen) > 1, "it was never swapped"


def test_a_tree_swapped_while_it_is_copied(top: Path, tmp_path: Path) -> None:
    """Neither what is read nor what is written follows a link that was not there before."""
    tree = tmp_path / "hostile"
    (tree / "d").mkdir(parents=True)
    (tree / "d/secret").write_text("inside")
    (tree / "l").symlink_to(tmp_path / "outside")

    good = tmp_path / "good"
    (good / "d").mkdir(parents=True)
    (good / "d/secret").write_text("evil")
    target = tmp_path / "target"
    with swapped(tree / "d", tree / "l"):
        for _ in range(effort(1000, 40)):
            target.mkdir(exist_ok=True)
            for source, goal in ((tree, target), (good, tree)):
                fds = [os.open(path, os.O_RDONLY) for path in (source, goal)]
                try:
                    with Copier(owner=None, privileges=False) as copier:
                        copier.contents(*fds)
                except OSError:
                    pass
                finally:
                    for fd in fds:
                        os.close(fd)
            for path in target.rglob("*"):
                if not path.is_symlink() and path.is_file():
                    assert path.read_text() in ("inside", "evil")
            remove_tree(str(target))
    assert (tmp_path / "outside/secret").read_text() == "secret"
    assert os.listdir(tmp_path / "outside") == ["secret"]


def test_special_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from/x").write_text("x")
    os.mknod(tmp_path / "to/x", stat.S_IFSOCK | 0o600)
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("from", "to")]
    try:
        copier = Copier(owner=None, privileges=False, overwrite=True)
        with copier, pytest.raises(FileExistsError, match="a device or a socket"):
            copier.contents(*fds)
        assert copier.trail == ["x"]
    finally:
        for fd in fds:
            os.close(fd)
    assert stat.S_ISSOCK((tmp_path / "to/x").stat().st_mode)
    assert os.listdir(tmp_path / "to") == ["x"]


def test_a_bottomless_tree(tmp_path: Path) -> None:
    tree = tmp_path / "from"
    tree.mkdir()
    (tmp_path / "to").mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 50):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("from", "to")]
    try:
        with (
            Copier(owner=None, privileges=False) as copier,
            pytest.raises(OSError, match="more than 200 directories"),
        ):
            copier.contents(*fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_a_directory_into_itself(tmp_path: Path) -> None:
    (tmp_path / "a/sub").mkdir(parents=True)
    (tmp_path / "a/f").write_text("x")
    (tmp_path / "a/b").mkdir()
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("a", "a/b")]
    try:
        with Copier(owner=None, privileges=False) as copier:
            copier.contents(*fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert sorted(os.listdir(tmp_path / "a/b")) == ["f", "sub"]


@pytest.mark.parametrize(
    ("size", "pieces"),
    [(0, []), (5, [0]), (1 << 20, []), (1 << 20, [0, 300_000, (1 << 20) - 10]), (4097, [4090])],
)
def test_holes(tmp_path: Path, size: int, pieces: list[int]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        for piece in pieces:
            file.seek(piece)
            file.write(b"12345")
        file.truncate(size)
    with source.open("rb") as reader, target.open("wb") as writer:
        copy_data(reader.fileno(), writer.fileno(), size)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks


def test_a_file_whose_size_is_not_told(tmp_path: Path) -> None:
    for path in ("/proc/self/mountinfo", "/sys/kernel/mm/transparent_hugepage/enabled"):
        if not os.path.exists(path):
            continue
        with open(path, "rb") as reader, (tmp_path / "f").open("wb") as writer:
            copy_data(reader.fileno(), writer.fileno(), os.fstat(reader.fileno()).st_size)
        assert (tmp_path / "f").read_bytes() == Path(path).read_bytes()
