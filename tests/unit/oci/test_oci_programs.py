"""Whether a file could be executed at all, as it is inside a root."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from longshore.oci.programs import is_executable


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
