"""Tests where SELinux is enforcing: `make selinux` runs them in an emulated machine."""

from __future__ import annotations

from hostkit import (
    _busybox_base,
    busybox_rootfs,
    dirs,
    engine,
    leak_check,
    runtime_trouble,
    short_tmp,
)
from longshore.linux.selinux import SELinux

__all__ = ["_busybox_base", "busybox_rootfs", "dirs", "engine", "leak_check", "short_tmp"]

if not SELinux().active():
    collect_ignore_glob = ["test_*.py"]


def pytest_generate_tests(metafunc):  # type: ignore[no-untyped-def]
    """Run what asks for a runtime once for each that works here."""
    if "runtime" in metafunc.fixturenames:
        names = [name for name in ("crun", "runc") if not runtime_trouble(name)]
        metafunc.parametrize("runtime", names, scope="session")
