"""Who a user is inside a root file system, which may be an attacker's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import InvalidArgument
from longshore.oci.users import ResolvedUser, find_user, open_inside, parse_table, resolve_user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken
app:x:1000:1000:An App:/home/app:/bin/sh
1234:x:77:78::/named:/bin/sh
short:x:9:9
nothome:x:11:11::relative:/bin/sh
huge:x:99999999999:1::/:/bin/sh
app:x:2:2::/second:/bin/sh
"""
GROUP = """\
root:x:0:
app:x:1000:
extra:x:2000:app,other
more:x:2001:other,app
bad:x:nan:app
short:x:9
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> str:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    return str(root)


@pytest.mark.parametrize(
    ("user", "add", "found"),
    [
        ("", [], ResolvedUser(uid=0, gid=0, home="/root", name="root")),
        ("root", [], ResolvedUser(uid=0, gid=0, groups=(0,), home="/root", name="root")),
        ("", ["20"], ResolvedUser(uid=0, gid=0, groups=(0, 20), home="/root", name="root")),
        ("app", [], ResolvedUser(
            uid=1000, gid=1000, groups=(1000, 2000, 2001), home="/home/app", name="app")),
        ("1000", [], ResolvedUser(
            uid=1000, gid=1000, groups=(1000, 2000, 2001), home="/home/app", name="app")),
        ("app:extra", [], ResolvedUser(
            uid=1000, gid=2000, groups=(2000,), home="/home/app", name="app")),
        ("app:5", ["extra", "5"], ResolvedUser(
            uid=1000, gid=5, groups=(5, 2000), home="/home/app", name="app")),
        ("4321", [], ResolvedUser(uid=4321, gid=0, groups=(0,), home="/")),
        ("4321:9", [], ResolvedUser(uid=4321, gid=9, groups=(9,), home="/")),
        ("1234", [], ResolvedUser(uid=77, gid=78, groups=(78,), home="/named", name="1234")),
        ("short", [], ResolvedUser(uid=9, gid=9, groups=(9,), home="/", name="short")),
        ("nothome", [], ResolvedUser(uid=11, gid=11, groups=(11,), home="/", name="nothome")),
    ],
)  # fmt: skip
def test_users(rootfs: str, user: str, add: list[str], found: ResolvedUser) -> None:
    assert resolve_user(rootfs, user, add) == found


@pytest.mark.parametrize(
    ("user", "add", "message"),
    [
        ("nobody", [], "no 'nobody' in the container's /etc/passwd"),
        ("huge", [], "no 'huge'"),
        ("broken", [], "no 'broken'"),
        ("app:wheel", [], "no group 'wheel'"),
        ("app:bad", [], "no group 'bad'"),
        ("", ["wheel"], "group_add: there is no group 'wheel'"),
    ],
)
def test_who_is_not_there(rootfs: str, user: str, add: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve_user(rootfs, user, add)


def test_a_root_without_the_files(tmp_path: Path) -> None:
    assert resolve_user(str(tmp_path), "") == ResolvedUser()
    assert resolve_user(str(tmp_path), "5:6") == ResolvedUser(uid=5, gid=6, groups=(6,))


def test_links_never_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("evil:x:666:666::/evil:/bin/sh\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    passwd = root / "etc/passwd"
    for target in (
        str(outside),
        "../../passwd",
        "../../../../../../" + str(outside),
        "/../passwd",
    ):
        passwd.symlink_to(target)
        with pytest.raises(InvalidArgument, match="no 'evil'"):
            resolve_user(str(root), "evil")
        passwd.unlink()


def test_links_inside_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/share/db").mkdir(parents=True)
    (root / "usr/share/db/passwd").write_text("app:x:5:5::/h:/bin/sh\n")
    (root / "etc").symlink_to("/usr/./lib/../etc")
    (root / "usr/etc").symlink_to("share/db/")
    (root / "usr/lib").mkdir()
    assert resolve_user(str(root), "app").uid == 5
    # above the root is the root
    (root / "usr/share/db/passwd").rename(root / "real")
    (root / "usr/share/db/passwd").symlink_to("../../../../../../real")
    assert resolve_user(str(root), "app").uid == 5


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("etc")
    with pytest.raises(InvalidArgument, match="Too many levels"):
        resolve_user(str(tmp_path), "app")


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    os.mkfifo(etc / "passwd")  # opening one for reading would wait for ever
    with pytest.raises(InvalidArgument, match="not a regular file"):
        resolve_user(str(tmp_path), "app")
    (etc / "passwd").unlink()
    (etc / "passwd").mkdir()
    with pytest.raises(InvalidArgument, match="not a regular file"):
        resolve_user(str(tmp_path), "app")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    with open(tmp_path / "etc/passwd", "wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InvalidArgument, match="larger than 16 MiB"):
        resolve_user(str(tmp_path), "app")


def test_no_descriptor_is_left(rootfs: str) -> None:
    before = os.listdir("/proc/self/fd")
    resolve_user(rootfs, "app", ["extra"])
    with pytest.raises(OSError, match="No such file"):
        open_inside(rootfs, "/etc/none/x")
    with pytest.raises(OSError, match="Is a directory"):
        open_inside(rootfs, "/etc/..")
    assert os.listdir("/proc/self/fd") == before


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table(content: bytes) -> None:
    for row in parse_table(content, 7):
        assert len(row) >= 7
        assert row[0]
    find_user(parse_table(content, 7), "0")


_WORD = st.text("abcdefghij-_", min_size=1, max_size=8).filter(lambda w: w[0] not in "-+#")
_ID = st.integers(0, 2**32 - 2)


@given(st.dictionaries(_WORD, st.tuples(_ID, _ID)))
def test_every_entry_is_found(entries: dict[str, tuple[int, int]]) -> None:
    text = "".join(f"{name}:x:{u}:{g}::/home/{name}:/bin/sh\n" for name, (u, g) in entries.items())
    table = parse_table(text.encode(), 7)
    for name, (uid, gid) in entries.items():
        assert find_user(table, name) == (name, uid, gid, f"/home/{name}")
