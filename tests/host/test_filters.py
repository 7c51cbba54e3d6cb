"""The second container of a profile is filtered by exactly the program of the first."""

from __future__ import annotations

import binascii
import struct
from pathlib import Path

import pytest

from longshore import Engine

pytestmark = pytest.mark.host


def test_the_kept_filter_is_the_runtime_s_own(
    engine: Engine, runtime: str, busybox_rootfs: Path
) -> None:
    programs: list[bytes] = []
    modes: list[str] = []
    for _ in range(2):
        box = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs)
        box.start()
        try:
            pid = box.inspect().pid
            status = Path(f"/proc/{pid}/status").read_text()
            modes += [
                line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:")
            ]
            made = Path(engine.settings.run_root, "runtimes", runtime, box.id, "seccomp.bpf")
            if made.exists():
                programs.append(made.read_bytes())
        finally:
            box.remove(force=True)
    assert modes == ["2", "2"]
    # runc keeps no program to show, and is given none
    assert len(programs) in (0, 2) and len(set(programs)) <= 1


def test_a_caller_s_own_program_is_not_kept_for_others(
    engine: Engine, busybox_rootfs: Path
) -> None:
    allow = binascii.b2a_base64(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000), newline=False)
    engine.run(
        command=["true"],
        rootfs=busybox_rootfs,
        annotations={"run.oci.seccomp_bpf_data": allow.decode()},
    )
    kept = Path(engine.settings.run_root, "cache", "filters")
    assert not kept.exists() or not list(kept.iterdir())
