"""linux/selinux.py beyond the contract: labels as text, and which trees are relabelled how."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from longshore.errors import InvalidArgument
from longshore.linux import selinux
from longshore.linux.selinux import Label, SELinux, check_relabelling, label_of, relabel
from peers.selinux import ScriptedSELinux

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.mark.parametrize("text", [LABEL, "u:r:t", "u:r:t:s0-s15:c0.c1023"])
def test_a_label_is_its_parts(text: str) -> None:
    label = Label.parse(text)
    assert str(label) == text
    assert (label.user, label.level) == (text.split(":")[0], ":".join(text.split(":")[3:]))


@pytest.mark.parametrize("text", ["", "kernel", "u:r", "u::t", "u:r:t:"])
def test_what_is_no_label(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not an SELinux label"):
        Label.parse(text)


def test_where_there_is_none(tmp_path: Path) -> None:
    assert not SELinux(fs=str(tmp_path / "nothing")).active()
    assert not ScriptedSELinux(tmp_path, current="kernel").active()


def test_read_only_means_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ScriptedSELinux(tmp_path)
    real = os.statvfs(tmp_path)
    read_only = os.statvfs_result([*real[:8], real.f_flag | os.ST_RDONLY, real.f_namemax])
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)
    assert not found.active()


@pytest.mark.parametrize("current", ["u:r:t", "u:r:t:s0"])
def test_nothing_to_lower(tmp_path: Path, current: str) -> None:
    assert ScriptedSELinux(tmp_path, current=current).without_categories() == ""


def test_contexts_of_container_selinux_come_first(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text('process = "a:b:c"\n;x = y\nfile=d:e:f\n')
    found = SELinux(etc=str(tmp_path), contexts=str(tmp_path / "shared")).container_contexts()
    assert found == {"process": "a:b:c", "file": "d:e:f"}
    assert SELinux(etc=str(tmp_path), contexts="/no").container_contexts() == {}


def test_a_refusal_names_the_file_and_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ScriptedSELinux(tmp_path)

    def refuse(_fd: int, _data: bytes) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match=r"u:r:t.*attr/exec"), found.executing_as("u:r:t"):
        pass


# --- relabelling


class Labelled:
    """Keeps which inodes got a label, in which order, instead of labelling them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.error: dict[str, int] = {}

    def __call__(self, fd: int, label: bytes) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if code := self.error.get(os.path.basename(path)):
            raise OSError(code, os.strerror(code))
        self.seen.append((path, label))


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> Labelled:
    found = Labelled()
    monkeypatch.setattr(selinux, "_set_label", found)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/file").write_text("")
    (top / "out").symlink_to("/etc")
    os.mkfifo(top / "fifo")
    (top / "a/loop").symlink_to("..")
    return top


def test_all_of_a_tree_and_nothing_else(tree: Path, labelled: Labelled) -> None:
    relabel(str(tree), LABEL)
    everything = {str(path) for path in tree.rglob("*")} | {str(tree)}
    assert {path for path, _ in labelled.seen} == everything
    assert len(labelled.seen) == len(everything)
    assert {label for _, label in labelled.seen} == {LABEL.encode() + b"\0"}
    assert labelled.seen[-1][0] == str(tree), "whoever finds it labelled finds all labelled"


def test_a_file_and_a_link_to_the_top(tree: Path, labelled: Labelled) -> None:
    (tree.parent / "link").symlink_to(tree / "a/file")
    relabel(str(tree.parent / "link"), LABEL)
    assert [path for path, _ in labelled.seen] == [str(tree / "a/file")]


def test_no_descriptors_are_left(tree: Path, labelled: Labelled) -> None:
    labelled.error["b"] = errno.EPERM
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError) as caught:
        relabel(str(tree), LABEL)
    assert caught.value.filename == str(tree / "a/b")
    assert os.listdir("/proc/self/fd") == before


def test_file_systems_without_labels_are_fine(tree: Path, labelled: Labelled) -> None:
    labelled.error["file"] = errno.ENOTSUP
    relabel(str(tree), LABEL)
    assert str(tree / "a/file") not in {path for path, _ in labelled.seen}
    assert labelled.seen[-1][0] == str(tree)


def test_what_goes_meanwhile_is_fine(
    tree: Path, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [*real(fd), "gone"])
    relabel(str(tree), LABEL)
    assert labelled.seen[-1][0] == str(tree)


def test_a_tree_without_end_ends(tmp_path: Path, labelled: Labelled) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    for _ in range(selinux.MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(OSError, match="directories in one another"):
        relabel(str(tmp_path), LABEL)


def test_the_label_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert label_of("/proc/self/fd") == "" or SELinux().active()
    monkeypatch.setattr(os, "getxattr", lambda path, name: LABEL.encode() + b"\0")
    assert label_of(str(tmp_path)) == LABEL
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        label_of(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/usr/", "/etc", "/etc/../etc", "/home", "/lib", "/usr/lib", "/var/lib"]
)
def test_what_is_never_relabelled(path: str) -> None:
    with pytest.raises(InvalidArgument, match="not allowed: the host itself") as caught:
        check_relabelling(path)
    assert caught.value.hint


def test_homes_and_links_to_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUDO_USER", "root")
    (tmp_path / "usr").symlink_to("/usr")
    for path in ("home", "usr"):
        with pytest.raises(InvalidArgument, match="not allowed"):
            check_relabelling(str(tmp_path / path))
    with pytest.raises(InvalidArgument, match="not allowed"):
        check_relabelling("/root")
    check_relabelling(str(tmp_path))


def test_what_longshore_keeps(tmp_path: Path) -> None:
    ours = (str(tmp_path / "state/root"),)
    with pytest.raises(InvalidArgument, match="Longshore keeps"):
        check_relabelling(str(tmp_path / "state"), ours)
    check_relabelling(str(tmp_path / "state/root/data"), ours)
    check_relabelling(str(tmp_path / "sta"), ours)
