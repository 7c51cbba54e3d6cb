"""linux/mounts.py: what mountinfo says, and the two calls."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostkit import needs
from longshore.linux import mounts
from longshore.linux.mounts import mount, mount_points, unmount

SAMPLE = """\
23 29 0:21 / /proc rw,nosuid shared:5 - proc proc rw
24 29 0:22 / /sys/fs/cgroup/memory rw,relatime shared:9 master:1 - cgroup cgroup rw,memory
25 29 8:1 /a\\040b /mnt/with\\040blank,\\011tab,\\012line,\\134back rw - ext4 /dev/disk\\043one rw
26 29 0:31 / /mnt/\\134040 rw - tmpfs none rw,size=1k
27 29 0:32 / /mnt/unicode\u2028line\x0cfeed\x85 rw - tmpfs none rw
28 29 0:33 / /mnt/nosource rw - tmpfs  rw
29 1 8:1 / / rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c - d
"""


def _pretend(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(mounts, "open", lambda *_, **__: io.StringIO(text), raising=False)


def test_mountinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, SAMPLE)
    assert [(p.path, p.fstype, p.source, p.options) for p in mount_points()] == [
        ("/proc", "proc", "proc", "rw"),
        ("/sys/fs/cgroup/memory", "cgroup", "cgroup", "rw,memory"),
        ("/mnt/with blank,\ttab,\nline,\\back", "ext4", "/dev/disk#one", "rw"),
        ("/mnt/\\040", "tmpfs", "none", "rw,size=1k"),
        ("/mnt/unicode\u2028line\x0cfeed\x85", "tmpfs", "none", "rw"),
        ("/mnt/nosource", "tmpfs", "", "rw"),
        ("/", "overlay", "overlay", "rw,lowerdir=/a:/b,upperdir=/c - d"),
    ]


def test_the_mounts_of_this_machine() -> None:
    found = mount_points()
    assert {p.path for p in found} >= {"/", "/proc"}
    assert [p.path for p in mount_points(str(os.getpid()))] == [p.path for p in found]


def test_unmounting_what_is_not_mounted(tmp_path: Path) -> None:
    needs("root, for mounts", os.geteuid(), os.geteuid() == 0)
    assert not unmount(str(tmp_path))
    assert not unmount(str(tmp_path / "no"), lazy=True)


def test_a_refused_mount_names_its_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="target") as caught:
        mount("none", str(tmp_path / "target"), "tmpfs")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    assert caught.value.filename == str(tmp_path / "target")


_REAL = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
from longshore.linux.mounts import *
said, top = [], sys.argv[1]
target = top + "/a b#\\u2028\\\\"
os.mkdir(target)
def mounted():
    return any(point.path == target for point in mount_points())
mount("some source", target, "tmpfs", 2 | 4, "size=64k,mode=700")  # nosuid, nodev
point = next(p for p in mount_points() if p.path == target)
said += [point.fstype, point.source, "size=64k" in point.options]
said += [mounted(), unmount(target), mounted(), unmount(target)]
mount("none", target, "tmpfs")
os.symlink(target, top + "/link")
said.append(unmount(top + "/link"))
held = os.open(target, os.O_RDONLY)
try:
    unmount(target)
except OSError as err:
    said += [err.strerror, err.filename == target]
said.append(unmount(target, lazy=True))
try:
    mount("none", target, "nosuchfs")
except OSError as err:
    said += [err.strerror, err.filename == target]
print(json.dumps(said))
"""


def test_mount_and_unmount_for_real(tmp_path: Path) -> None:
    needs("root, for mounts", os.geteuid(), os.geteuid() == 0)
    done = subprocess.run(
        [
            "unshare", "--mount", "--propagation", "private", sys.executable, "-I", "-S", "-c",
            _REAL, str(tmp_path), str(Path(mounts.__file__).parents[2]),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "tmpfs", "some source", True,
        True, True, False, False,
        False,  # through a link nothing is unmounted
        "Device or resource busy", True, True,
        "No such device", True,
    ]  # fmt: skip
