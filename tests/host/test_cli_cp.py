"""``longshore cp``: the words of its command line, and its streams."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from hostkit import Cli


def test_cp(cli: Cli, busybox_rootfs: Path, short_tmp: Path) -> None:
    cli("create", "--name", "box", "--user", "1000", "--rootfs", f"{busybox_rootfs}:O", "true")
    (short_tmp / "a:b").write_text("words")
    cli("cp", "./a:b", "box:/tmp/f", cwd=short_tmp)
    cli("container", "cp", "--archive=false", f"{short_tmp}/a:b", "box:tmp/g")
    packed = cli("cp", "box:/tmp/.", "-", text=False).stdout
    assert isinstance(packed, bytes)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert (tar.getmember("f").uid, tar.getmember("g").uid) == (1000, 0)
    cli("cp", "-", "box:/root", input=packed, text=False)
    cli("cp", "--pause", "box:/root", "back", cwd=short_tmp)
    assert (short_tmp / "back/f").read_text() == "words"
    cli("cp", "box:/root/f", "box:/root/h")
    cli("cp", "--overwrite", "box:/root/h", "back", cwd=short_tmp)
    assert (short_tmp / "back/h").read_text() == "words"
    for words, said in (
        (("a", "b"), "neither path is in a container"),
        (("none:/a", "b"), "none"),
        (("box:/none", "b"), "box:/none: no such file or directory"),
        (("box:/etc", "/dev/null"), "is a device"),
        (("-", "box:/etc"), "not a whole tar archive"),
        ((":/x", "b"), "no container before the colon"),
    ):
        done = cli("cp", *words, code=125, cwd=short_tmp)
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    cli("rm", "box")


def test_a_reader_that_leaves(cli: Cli, busybox_rootfs: Path) -> None:
    cli("create", "--name", "box", "--rootfs", f"{busybox_rootfs}:O", "true")
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as gone:
        gone.wait()
        done = cli("cp", "box:/bin", "-", code=None, stdout=gone.stdin, stderr=subprocess.PIPE,
                   capture_output=False)  # fmt: skip
    assert done.returncode == 141, done.stderr
    assert done.stderr == ""
    cli("rm", "box")
