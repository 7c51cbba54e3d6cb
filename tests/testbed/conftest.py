"""Tests on a booted Debian with systemd, made by scripts/testbed.

`@pytest.mark.user("root")` and `@pytest.mark.user("tester")` say who runs a test; without
them both do.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from hostkit import (
    CGROUPS,
    RUNTIMES,
    _busybox_base,
    busybox_rootfs,
    cli,
    dirs,
    engine,
    layout,
    leak_check,
    on_testbed,
    short_tmp,
    working_runtimes,
)

__all__ = [
    "_busybox_base",
    "busybox_rootfs",
    "cli",
    "dirs",
    "engine",
    "layout",
    "leak_check",
    "short_tmp",
]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what somebody else runs: that is no skip."""
    me = getpass.getuser()
    others = []
    for item in items:
        marks = item.iter_markers("user")
        if HERE in item.path.parents and on_testbed() and any(m.args != (me,) for m in marks):
            others.append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a runtime once for each that works here."""
    if "runtime" in metafunc.fixturenames:
        names = working_runtimes() or ["any"]
        metafunc.parametrize("runtime", names, ids=names, scope="session")


def pytest_report_header() -> list[str]:
    """Say on what the tests ran."""
    if not on_testbed():
        return []
    found = [f"testbed as {getpass.getuser()}: kernel {os.uname().release}"]
    for program in ("systemctl", "conmon", *RUNTIMES, "runsc", "criu"):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        found += said.stdout.splitlines()[:1]
    controllers = Path(CGROUPS, "cgroup.controllers").read_text().split()
    return [", ".join(found), f"cgroup controllers: {' '.join(controllers) or 'none'}"]


@pytest.fixture(autouse=True, scope="session")
def testbed() -> None:
    """Skip elsewhere: these tests lean on what is installed and running there."""
    if not on_testbed():
        pytest.skip(
            "needs the testbed; found: another host. "
            "`scripts/testbed run python -m pytest tests/testbed`, or `make testbed`"
        )
