"""Host tests: the real conmon, runtimes and kernel, on a host made by scripts/testhost."""

from __future__ import annotations

import pytest

from hostkit import (
    _busybox_base,
    busybox_rootfs,
    cli,
    dirs,
    engine,
    layout,
    leak_check,
    on_test_host,
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a runtime once for each that works here; no skip stands for the others."""
    if "runtime" in metafunc.fixturenames:
        names = working_runtimes() if on_test_host() else ["any"]
        metafunc.parametrize("runtime", names, ids=names, scope="session")


@pytest.fixture(autouse=True, scope="session")
def test_host() -> None:
    """Skip outside of a test host: these tests would change the machine, and could not clean up."""
    if not on_test_host():
        pytest.skip(
            "needs a test host; found: the machine itself. "
            "`scripts/testhost v1 .venv/bin/python -m pytest tests/host`, or `make test`"
        )
