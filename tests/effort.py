"""How hard tests try that search by trying: all of it in `make test`, a part in `make check`."""

from __future__ import annotations

import os

# scripts/check sets it; nothing else does.
QUICK = bool(os.environ.get("LONGSHORE_QUICK_TESTS"))


def effort(whole: int, quick: int) -> int:
    """Return the number of rounds; ``quick`` is enough to see what is plainly broken."""
    return quick if QUICK else whole
