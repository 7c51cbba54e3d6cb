"""options/usernamespaces.py: modes and maps of user namespaces, as they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore.errors import InvalidArgument
from longshore.options import ContainerConfig, normalize
from longshore.options import usernamespaces as u


def config(rootfs: Path, **options: Any) -> ContainerConfig:
    return normalize(None, ["true"], {"rootfs": str(rootfs), **options}, name="box")


@pytest.mark.parametrize(
    "mode",
    [
        "", "host", "private", "nomap", "keep-id", "keep-id:uid=5", "keep-id:uid=5,gid=6", "auto",
        "auto:size=1000", "container:box", "ns:/dev/null",
    ],
)  # fmt: skip
def test_modes(mode: str) -> None:
    assert u.mode(mode) == mode


@pytest.mark.parametrize(
    ("mode", "match"),
    [
        ("root", "not a user namespace mode"),
        ("keep-id:", "not a user namespace mode"),
        ("keep-id:size=1", "keep-id has no setting 'size'"),
        ("keep-id:uid=x", "'x' is not a number"),
        ("keep-id:uid=-1", "not a number"),
        ("auto:size=0", "not a number from 1"),
        ("auto:uid=1", "auto has no setting 'uid'"),
        ("nomap:x", "not a user namespace mode"),
        ("container:", "not a user namespace mode"),
        ("ns:relative", "absolute"),
        ("ns:/no/such", "/no/such"),
    ],
)
def test_what_is_no_mode(mode: str, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        u.mode(mode)


def test_maps() -> None:
    assert u.id_map(["0:100000:65536", "70000:5"], "uidmap") == ("0:100000:65536", "70000:5:1")
    assert u.id_map([f"0:0:{u.LAST_ID + 1}"], "uidmap") == ("0:0:4294967295",)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (["0"], "is not INSIDE:OUTSIDE"),
        (["0:1:2:3"], "is not INSIDE:OUTSIDE"),
        (["0:1:0"], "not a number from 1"),
        (["a:1:1"], "not a number"),
        (["0:4294967295:1"], "not a number"),
        (["0:4294967000:1000"], "beyond the last id"),
        (["0:1000:10", "5:2000:10"], "'5:2000:10' and 0:1000:10 overlap"),
        (["0:1000:10", "10:1009:10"], "overlap"),
    ],
)
def test_what_is_no_map(values: list[str], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        u.id_map(values, "uidmap")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"userns": "auto", "uidmap": ["0:1:1"]}, "auto says already"),
        ({"userns": "host", "subuidname": "me"}, "host says already"),
        ({"uidmap": ["0:1:1"], "subuidname": "me"}, "subuidname says the same"),
        ({"group_add": ["keep-groups", "5"]}, "keeps exactly those"),
    ],
)
def test_what_excludes_each_other(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        config(tmp_path, **options)


def test_in_the_configuration(tmp_path: Path) -> None:
    found = config(tmp_path, uidmap=["0:5:2"], subgidname="me", group_add=["keep-groups"])
    assert (found.uidmap, found.gidmap, found.subgidname) == (("0:5:2",), (), "me")
    assert (found.keep_groups, found.group_add, found.userns) == (True, (), "")
    again = ContainerConfig.from_json(found.to_json())
    assert again == found
