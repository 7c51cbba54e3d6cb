"""What is done ahead of a move between cgroups changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.linux import grace

pytestmark = pytest.mark.host


def test_a_process_stays_where_it_is() -> None:
    before = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    grace._stay()
    assert Path("/proc/self/cgroup").read_text(encoding="utf-8") == before
