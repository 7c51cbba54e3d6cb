"""linux/namespaces.py: what a path leads to."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from longshore import Engine, InvalidArgument
from longshore.linux.namespaces import kind_of

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@pytest.mark.parametrize("kind", KINDS)
def test_namespaces(kind: str) -> None:
    assert kind_of(f"/proc/self/ns/{kind}") == kind


def test_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")  # opening it would block
    for path in (tmp_path / "file", tmp_path / "fifo", tmp_path, "/dev/null", "/proc/uptime"):
        assert kind_of(str(path)) is None
    with pytest.raises(FileNotFoundError):
        kind_of(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        *((name, 0xB703) for name in ("x86_64", "aarch64", "armv7l", "riscv64", "s390x", "i686")),
        *((name, 0x2000B703) for name in ("ppc64le", "ppc64", "mips64", "mips", "sparc64")),
    ],
)
def test_the_number_of_the_call_is_the_machine_s(
    machine: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def ioctl(fd: int, request: int) -> int:
        asked.append(request)
        return 0x40000000

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    uname = os.uname_result(("Linux", "here", "6.1", "#1", machine))
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert kind_of("/proc/self/ns/net") == "net"
    assert asked == [number]


OPTIONS = {"network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup"}


@pytest.mark.parametrize("field", OPTIONS)
@pytest.mark.parametrize("other", [*KINDS, ""])
def test_a_container_with_a_wrong_one_is_not_made(tmp_path: Path, field: str, other: str) -> None:
    engine = Engine(root=tmp_path / "root", run_root=tmp_path / "run")
    (tmp_path / "file").write_text("")
    path = f"/proc/self/ns/{other}" if other else str(tmp_path / "file")
    asked = OPTIONS[field]
    options = {"command": ["true"], "rootfs": "/", "overlay": True, field: f"ns:{path}"}
    if other == asked:
        engine.create(**options)
        return
    words = {"ipc": "an IPC", "mnt": "a mount", "net": "a network", "uts": "a UTS"}
    found, wanted = (
        f"{words.get(kind, f'a {kind}')} namespace" if kind else "no namespace"
        for kind in (other, asked)
    )
    with pytest.raises(InvalidArgument) as caught:
        engine.create(**options)
    assert str(caught.value) == f"{field}: {path} is {found}, and {wanted} was asked for"
    assert f"/proc/PID/ns/{asked}" in str(caught.value.hint)
    assert engine.list(all=True) == []
