"""What the contract suites share with the host tests."""

from __future__ import annotations

from hostkit import leak_check, short_tmp

__all__ = ["leak_check", "short_tmp"]
