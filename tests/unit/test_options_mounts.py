"""Volumes, mounts, tmpfs and devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Device, Mount
from longshore.options import mounts


@pytest.mark.parametrize(
    ("spec", "target", "options"),
    [
        ("/tmp:/mnt", "/mnt", ("rw", "rprivate", "rbind")),
        ("/tmp:/mnt:ro", "/mnt", ("ro", "rprivate", "rbind")),
        ("/tmp:/mnt/:rw,z", "/mnt", ("rw", "z", "rprivate", "rbind")),
        ("/tmp:/mnt:Z,ro", "/mnt", ("Z", "ro", "rprivate", "rbind")),
        ("/tmp:/mnt:rslave,bind", "/mnt", ("rslave", "bind", "rw")),
        ("/tmp:/mnt:shared", "/mnt", ("shared", "rw", "rbind")),
        ("/tmp:/mnt:nosuid,noexec,nodev,ro,ro", "/mnt",
         ("nosuid", "noexec", "nodev", "ro", "rprivate", "rbind")),
        ("/tmp:/a/../b", "/b", ("rw", "rprivate", "rbind")),
    ],
)  # fmt: skip
def test_volumes(spec: str, target: str, options: tuple[str, ...]) -> None:
    assert mounts.parse_volume(spec) == Mount(
        type="bind", source="/tmp", target=target, options=options
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("./a:/b", "not an absolute path"),
        ("a/b:/c", "not an absolute path"),
        (":/c", "not an absolute path"),
        ("/tmp:relative", "absolute path in the container"),
        ("/tmp:", "absolute path in the container"),
        ("/tmp:/", "target is /"),
        ("/tmp:/..", "target is /"),
        ("/does/not/exist:/b", "No such file"),
        ("/tmp:/b:ro,rw", "contradict"),
        ("/tmp:/b:bind,rbind", "contradict"),
        ("/tmp:/b:z,Z", "contradict"),
        ("/tmp:/b:shared,slave", "contradict"),
        ("/tmp:/b:readonly", "not an option"),
        ("/tmp:/b:ro:rw", "not an option"),
        ("/tmp:/b\0:ro", "NUL"),
    ],
)
def test_volumes_that_make_no_sense(spec: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        mounts.parse_volume(spec)


@pytest.mark.parametrize(
    "spec", ["data:/b", "/anonymous", "/tmp:/b:O", "/tmp:/b:U", "/tmp:/b:idmap=x"]
)
def test_volumes_to_come(spec: str) -> None:
    with pytest.raises(HostUnsupported, match="does not have it yet"):
        mounts.parse_volume(spec)


BIND = ("rw", "rprivate", "rbind")
TMPFS = ("rw", "rprivate", "nosuid", "nodev", "tmpcopyup")


@pytest.mark.parametrize(
    ("spec", "mount"),
    [
        ("type=bind,source=/tmp,target=/b", Mount(type="bind", source="/tmp", target="/b",
         options=BIND)),
        ("type=bind,src=/tmp,dst=/b,ro",
         Mount(type="bind", source="/tmp", target="/b", options=("ro", "rprivate", "rbind"))),
        ("type=bind,src=/tmp,destination=/b,readonly=true,bind-propagation=rslave,relabel=shared",
         Mount(type="bind", source="/tmp", target="/b", options=("ro", "rslave", "z", "rbind"))),
        ("type=bind,src=/tmp,dst=/b,ro=false,bind-nonrecursive,consistency=cached",
         Mount(type="bind", source="/tmp", target="/b", options=("rw", "bind", "rprivate"))),
        ("type=tmpfs,target=/t", Mount(type="tmpfs", source="tmpfs", target="/t", options=TMPFS)),
        ("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1777",
         Mount(type="tmpfs", source="tmpfs", target="/t", options=("size=64m", "mode=1777",
         *TMPFS))),
        ("type=devpts,target=/dev/pts2", Mount(type="devpts", source="devpts", target="/dev/pts2")),
        ('type=bind,src=/tmp,"dst=/with,comma"',
         Mount(type="bind", source="/tmp", target="/with,comma", options=BIND)),
    ],
)  # fmt: skip
def test_mounts(spec: str, mount: Mount) -> None:
    assert mounts.parse_mount(spec) == mount


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "type= is missing"),
        ("source=/tmp,target=/b", "type= is missing"),
        ("type=bind,target=/b", "source= is missing"),
        ("type=bind,source=/tmp", "target= is missing"),
        ("type=bind,source=tmp,target=/b", "not an absolute path"),
        ("type=bind,source=/does/not/exist,target=/b", "No such file"),
        ("type=bind,source=/tmp,target=b", "absolute path in the container"),
        ("type=bind,source=/tmp,target=/b,ro=maybe", "neither true nor false"),
        ("type=bind,source=/tmp,target=/b,bind-propagation=loud", "not known"),
        ("type=bind,source=/tmp,target=/b,relabel=no", "relabel"),
        ("type=bind,source=/tmp,target=/b,tmpfs-size=1m", "not an option"),
        ("type=tmpfs,target=/t,source=/tmp", "has no source"),
        ("type=tmpfs,target=/t,tmpfs-mode=rwx", "not octal"),
        ("type=tmpfs,target=/t,tmpfs-size=lots", "not a size"),
        ("type=tmpfs,target=/t,size", "no value"),
        ("type=tmpfs,target=/t,ro=1,bind-nonrecursive", "type=bind"),
        ("type=zfs,target=/t", "not known"),
        ('type=bind,"src=/tmp', "unexpected end"),
    ],
)
def test_mounts_that_make_no_sense(spec: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        mounts.parse_mount(spec)


@pytest.mark.parametrize(
    "spec",
    ["type=volume,source=data,target=/b", "type=image,source=i,target=/b",
     "type=glob,src=/t*,dst=/b",
     "type=bind,src=/tmp,dst=/b,U=true"],
)  # fmt: skip
def test_mounts_to_come(spec: str) -> None:
    with pytest.raises(HostUnsupported):
        mounts.parse_mount(spec)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", TMPFS),
        ("size=64m", ("size=64m", *TMPFS)),
        ("size=1.5g,ro", ("size=1610612736", "ro", "rprivate", "nosuid", "nodev", "tmpcopyup")),
        ("size=50%", ("size=50%", *TMPFS)),
        ("exec,suid,dev,notmpcopyup", ("exec", "suid", "dev", "rw", "rprivate")),
        ("uid=5,gid=6,mode=700", ("uid=5", "gid=6", "mode=700", *TMPFS)),
    ],
)
def test_tmpfs(words: str, options: tuple[str, ...]) -> None:
    assert mounts.parse_tmpfs("/t", words).options == options


@pytest.mark.parametrize(
    "words", ["size=", "mode=9", "rbind", "ro=1", "uid=x", "ro,rw", "z", "bad"]
)
def test_tmpfs_that_makes_no_sense(words: str) -> None:
    with pytest.raises(InvalidArgument, match="tmpfs '/t'"):
        mounts.parse_tmpfs("/t", words)


def test_a_mount_value_is_completed_and_checked(tmp_path: Path) -> None:
    found = mounts.check_mount(Mount(type="bind", source=str(tmp_path), target="/x/"))
    assert found == Mount(type="bind", source=str(tmp_path), target="/x", options=BIND)
    kept = Mount(type="overlay", source="overlay", target="/x", options=("lowerdir=/a",))
    assert mounts.check_mount(kept) == kept
    for bad in (
        Mount(type="bind", source="x", target="/x"),
        Mount(type="bind", source="/tmp", target="x"),
        Mount(type="../x", target="/x"),
        Mount(type="bind", source="/tmp", target="/x", options=("loud",)),
    ):
        with pytest.raises(InvalidArgument):
            mounts.check_mount(bad)


def test_two_mounts_on_one_target() -> None:
    with pytest.raises(InvalidArgument, match="/usr and tmpfs are both to be mounted on /x"):
        mounts.check_targets([mounts.parse_volume("/usr:/x"), mounts.parse_tmpfs("/x", "")])


@pytest.mark.parametrize(
    ("spec", "target", "permissions"),
    [
        ("/dev/null", "/dev/null", "rwm"),
        ("/dev/null:/dev/nil", "/dev/nil", "rwm"),
        ("/dev/null:rw", "/dev/null", "rw"),
        ("/dev/null:/dev/nil:r", "/dev/nil", "r"),
    ],
)
def test_devices(spec: str, target: str, permissions: str) -> None:
    assert mounts.parse_device(spec) == Device(
        source="/dev/null", target=target, permissions=permissions
    )


@pytest.mark.parametrize(
    "spec",
    ["dev/null", "", "/dev/none", "/tmp/../etc/passwd", "/dev/null:/x:rwx", "/dev/null:x",
     "/dev/null:",
     "/dev/null:/x:", "/dev/null:/x:r:w", "/dev/null:rr", "/dev/null:/"],
)  # fmt: skip
def test_devices_that_make_no_sense(spec: str) -> None:
    with pytest.raises(InvalidArgument, match="devices"):
        mounts.parse_device(spec)
