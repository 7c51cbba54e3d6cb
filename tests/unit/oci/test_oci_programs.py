"""Whether a file could be executed at all, as it is inside a root."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from longshore.oci.programs import could_run, is_executable


def elf(machine: bytes, loader: bytes = b"", *, wide: bool = True) -> bytes:
    """Make the head of an ELF program."""
    size = 64 if wide else 52
    head = bytearray(size)
    head[:6] = (
        b"\x7fELF" + (b"\2" if wide else b"\1") + (b"\1" if sys.byteorder == "little" else b"\2")
    )
    head[18:20] = machine
    if wide:
        struct.pack_into("=Q", head, 32, size)
        struct.pack_into("=HH", head, 54, 56, 1)
        entry = bytearray(56)
        struct.pack_into("=I", entry, 0, 3)
        struct.pack_into("=Q", entry, 8, size + 56)
        struct.pack_into("=Q", entry, 32, len(loader))
    else:
        struct.pack_into("=I", head, 28, size)
        struct.pack_into("=HH", head, 42, 32, 1)
        entry = bytearray(32)
        struct.pack_into("=I", entry, 0, 3)
        struct.pack_into("=I", entry, 4, size + 32)
        struct.pack_into("=I", entry, 16, len(loader))
    if not loader:
        entry = bytearray(len(entry))
    return bytes(head + entry) + loader


OWN = Path("/proc/self/exe").read_bytes()[18:20]


@pytest.mark.parametrize(
    ("content", "there"),
    [
        (b"", False),
        (b"words\n", False),
        (b"#!/bin/sh\n", True),
        (b"#! /bin/sh -e\n", True),
        (b"#!/no/such\n", False),
        (b"#!\n", False),
        (b"\x7fELF", False),
        (elf(OWN), True),
        (elf(OWN, b"/bin/sh\0"), True),
        (elf(OWN, b"/lib/no-such-loader.so\0"), False),
        (elf(OWN, b"/bin/sh\0", wide=False), True),
        (elf(OWN, b"/lib/no-such-loader.so\0", wide=False), False),
        (elf(b"\xff\xff"), False),
        (elf(OWN)[:70], True),  # cut: it cannot be told
    ],
)
def test_files(tmp_path: Path, content: bytes, there: bool) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(b"")
    (tmp_path / "program").write_bytes(content)
    assert is_executable(str(tmp_path), "/program") is there


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for path in ("/no", "/directory", "/directory/no"):
        assert not is_executable(str(tmp_path), path)


def test_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "program").symlink_to("/bin/busybox-that-is-not-there")
    assert not is_executable(str(tmp_path), "/program")
    (tmp_path / "python").symlink_to(sys.executable)
    assert not is_executable(str(tmp_path), "/python")


def test_a_file_system_without_programs(tmp_path: Path) -> None:
    """/proc is mounted noexec everywhere."""
    if "noexec" in next(
        line for line in Path("/proc/self/mounts").read_text().splitlines() if " /proc " in line
    ):
        assert not is_executable("/proc/self", "exe/..")
    assert is_executable("/", sys.executable)


# --- as somebody, from somewhere -----------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "bin/sh": 0o755, "opt/tool": 0o755, "bin/tool": 0o644, "secret/tool": 0o755,
        "work/own": 0o700, "bin/text": 0o755,
    }  # fmt: skip
    for path, mode in files.items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True, mode=0o755)
        file.write_bytes(b"words\n" if path == "bin/text" else b"#!/bin/sh\n")
        file.chmod(mode)
    (tmp_path / "secret").chmod(0o710)
    tmp_path.chmod(0o755)
    return tmp_path


def could(root: Path, program: str, *, uid: int = 0, gid: int = 0, **process: Any) -> bool:
    described: Any = {
        "args": [program], "cwd": "/", "env": ["PATH=/bin:/opt"],
        "user": {"uid": uid, "gid": gid, "additionalGids": [gid]}, **process,
    }  # fmt: skip
    return could_run(str(root), described, program)


def test_a_path_and_a_name(root: Path) -> None:
    assert could(root, "sh")
    assert could(root, "/opt/tool")
    assert could(root, "tool")  # the one in /bin is not executable, so it is not that one
    assert not could(root, "/bin/tool")
    assert not could(root, "/bin/text")
    assert not could(root, "text")
    assert not could(root, "nope")
    assert not could(root, "/no/such")
    assert not could(root, "tool", env=["A=1"])


def test_relative_to_the_working_directory(root: Path) -> None:
    assert could(root, "./tool", cwd="/opt")
    assert could(root, "../opt/tool", cwd="/bin")
    assert not could(root, "./tool", cwd="/bin")
    assert could(root, "tool", cwd="/opt", env=["PATH=:/bin"])


def test_who_may(root: Path) -> None:
    owner = (root / "secret").stat()
    assert could(root, "/secret/tool")
    assert not could(root, "/secret/tool", uid=owner.st_uid + 4711, gid=owner.st_gid + 4711)
    assert could(root, "/secret/tool", uid=owner.st_uid + 4711, gid=owner.st_gid)
    assert not could(root, "/work/own", uid=owner.st_uid + 4711, gid=owner.st_gid)
    assert could(root, "/opt/tool", uid=4711, gid=4711)


def test_more_than_the_kernel_may_take(root: Path) -> None:
    assert could(root, "/opt/tool", args=["/opt/tool", "x" * 100_000])
    assert not could(root, "/opt/tool", args=["/opt/tool", "x" * 131_072])
    assert not could(root, "/opt/tool", env=["A=" + "x" * 131_072])
