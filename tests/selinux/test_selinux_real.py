"""Containers on a host where SELinux is enforcing: what they are labelled, and what that keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longshore import Engine
from longshore.errors import InvalidArgument, LongshoreError
from longshore.linux.selinux import Label, SELinux, label_of, relabel

HOST = SELinux()
CURRENT = "cat /proc/self/attr/current"


# As container-selinux labels what storage keeps. A program that a container maps is read where it
# lies, below the overlay: that has to be allowed too (Linux 6.1, measured).
_STORED = "system_u:object_r:container_ro_file_t:s0"


@pytest.fixture
def busybox_rootfs(busybox_rootfs: Path) -> Path:
    """The root of `hostkit`, labelled."""
    relabel(str(busybox_rootfs), _STORED)
    return busybox_rootfs


def box_of(engine: Engine, rootfs: Path, **options: Any) -> Any:
    box = engine.create(
        command=["sleep", "1000"], rootfs=rootfs, overlay=True, **{"stop_signal": 9} | options
    )
    box.start()
    return box


def says(box: Any, script: str) -> str:
    result = box.exec(["sh", "-c", script])
    return (result.text + result.stderr.decode()).strip("\0\n")


def test_it_is_enforcing() -> None:
    assert Path("/sys/fs/selinux/enforce").read_text() == "1"


def test_a_container_has_labels_of_its_own(engine: Engine, busybox_rootfs: Path) -> None:
    one, two = (box_of(engine, busybox_rootfs) for _ in range(2))
    seen = one.inspect()
    assert seen.pid is not None and seen.monitor_pid is not None
    process, files = Label.parse(seen.process_label), Label.parse(seen.mount_label)
    assert (process.type, files.type) == ("container_t", "container_file_t")
    assert process.level == files.level != Label.parse(two.inspect().process_label).level
    assert HOST.of_process(seen.pid) == seen.process_label
    assert label_of(f"{seen.rootfs_path}/bin/busybox") == seen.mount_label
    assert label_of(f"{busybox_rootfs}/bin/busybox") != seen.mount_label, "below it keeps its own"
    spec = json.loads(Path(seen.bundle_path, "config.json").read_text())
    assert spec["linux"]["mountLabel"] == seen.mount_label
    assert says(one, CURRENT) == seen.process_label
    one.stop()
    one.start()
    assert one.inspect().process_label == seen.process_label
    one.remove(force=True)
    two.remove(force=True)
    assert os.listdir(f"{engine.settings.root}/levels") == []


def test_conmon_is_at_level_s0_and_we_are_as_before(engine: Engine, busybox_rootfs: Path) -> None:
    before = HOST.current()
    box = box_of(engine, busybox_rootfs)
    monitor = box.inspect().monitor_pid
    assert monitor is not None
    assert Label.parse(HOST.of_process(monitor)) == Label.parse(before).replace(level="s0")
    assert HOST.current() == before
    assert HOST._attribute("thread-self", "exec") == ""
    child = subprocess.run(["cat", "/proc/self/attr/current"], capture_output=True, check=True)
    assert child.stdout.rstrip(b"\0\n").decode() == before
    box.remove(force=True)


def test_its_own_files_can_be_written(engine: Engine, busybox_rootfs: Path) -> None:
    box = box_of(engine, busybox_rootfs, tmpfs=["/scratch"])
    for path in ("/tmp/x", "/etc/x", "/dev/shm/x", "/scratch/x", "/root/x"):
        assert says(box, f"echo hi >{path} && cat {path}") == "hi", path
    box.remove(force=True)


def test_streams_can_be_opened(engine: Engine, busybox_rootfs: Path) -> None:
    script = "echo out >/dev/stdout; echo err >/dev/stderr; cat </dev/stdin"
    result = engine.run(
        command=["sh", "-c", script], rootfs=busybox_rootfs, overlay=True, input=b"in"
    )
    assert (result.stdout, result.stderr) == (b"out\nin", b"err\n")
    box = box_of(engine, busybox_rootfs)
    done = box.exec(["sh", "-c", script], input=b"in")
    assert (done.stdout, done.stderr) == (b"out\nin", b"err\n")
    session = box.popen(["sh", "-c", CURRENT], detach=True)
    session.wait(60)
    assert session.stdout.read().rstrip(b"\0\n").decode() == box.inspect().process_label
    box.remove(force=True)


def test_volumes(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    for name in ("plain", "own", "all"):
        (short_tmp / name / "sub").mkdir(parents=True)
        (short_tmp / name / "sub/file").write_text(name)
        (short_tmp / name / "link").symlink_to("/etc/passwd")
    passwd = label_of("/etc/passwd")
    volumes = [
        f"{short_tmp}/plain:/plain",
        f"{short_tmp}/own:/own:Z",
        f"{short_tmp}/all:/all:z",
    ]
    one = box_of(engine, busybox_rootfs, volumes=volumes)
    label = one.inspect().mount_label
    assert "Permission denied" in says(one, "cat /plain/sub/file")
    assert says(one, "cat /own/sub/file /all/sub/file; echo x >/own/new && cat /own/new") == (
        "ownallx"
    )
    assert label_of(f"{short_tmp}/own") == label_of(f"{short_tmp}/own/sub/file") == label
    shared = str(Label.parse(label).replace(level="s0"))
    assert label_of(f"{short_tmp}/all/sub/file") == shared
    assert label_of("/etc/passwd") == passwd, "a link is not followed"
    two = box_of(engine, busybox_rootfs, volumes=[v.removesuffix(":Z") for v in volumes])
    assert says(two, "cat /all/sub/file") == "all"
    assert "Permission denied" in says(two, "cat /own/sub/file"), "another's categories"
    one.remove(force=True)
    two.remove(force=True)


def test_what_is_not_relabelled(engine: Engine, busybox_rootfs: Path) -> None:
    before = label_of("/usr")
    with pytest.raises(InvalidArgument, match="not allowed"):
        engine.create(command=["true"], rootfs=busybox_rootfs, volumes=["/usr:/u:Z"])
    assert label_of("/usr") == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"security_opt": ["label=type:container_init_t"]}, "container_init_t"),
        ({"security_opt": ["label=disable"]}, "unconfined_t"),
        ({"privileged": True}, "unconfined_t"),
        ({"pid": "host"}, "unconfined_t"),
    ],
)
def test_options(
    engine: Engine, busybox_rootfs: Path, options: dict[str, Any], expected: str
) -> None:
    box = box_of(engine, busybox_rootfs, **options)
    assert Label.parse(says(box, CURRENT)).type == expected
    box.remove(force=True)


def test_a_level(engine: Engine, busybox_rootfs: Path) -> None:
    box = box_of(engine, busybox_rootfs, security_opt=["label=level:s0:c100,c200"])
    assert Label.parse(says(box, CURRENT)).level == "s0:c100,c200"
    assert Label.parse(box.inspect().mount_label).level == "s0:c100,c200"
    box.remove(force=True)


def test_who_joins_has_the_same(engine: Engine, busybox_rootfs: Path) -> None:
    one = box_of(engine, busybox_rootfs)
    two = box_of(engine, busybox_rootfs, pid=f"container:{one.name}")
    assert says(two, CURRENT) == one.inspect().process_label
    two.remove(force=True)
    one.remove(force=True)


def test_a_label_that_the_policy_does_not_know(engine: Engine, busybox_rootfs: Path) -> None:
    box = engine.create(
        command=["true"], rootfs=busybox_rootfs, security_opt=["label=type:no_such_t"]
    )
    with pytest.raises(LongshoreError, match=r"no label .*no_such_t"):
        box.start()
    box.remove()


def test_the_command_line(engine: Engine, busybox_rootfs: Path) -> None:
    own = ["--root", engine.settings.root, "--runroot", engine.settings.run_root]
    words = ["run", "--rm", "--rootfs", f"{busybox_rootfs}:O", "sh", "-c", CURRENT]
    done = subprocess.run(
        [sys.executable, "-m", "longshore", *own, *words], capture_output=True, check=True
    )
    assert b":container_t:s0:c" in done.stdout
