"""New ids, and names that a person can say."""

from __future__ import annotations

import os

from longshore.errors import NameInUse as InUse

__all__ = ["InUse", "new_id", "new_name"]

# ruff: noqa: SIM905 - words are read as words
_MANNERS = (
    "able bold brisk calm civil clear crisp deft eager fair firm fond frank fresh glad good "
    "grand happy hardy keen kind light lively loyal lucid merry mild neat nimble noble plain "
    "proud quick quiet rapid ready sharp shy smart snug sound spry steady stout sunny sure "
    "swift tidy true warm wise witty"
).split()
_SHIPS = (
    "barge bark boom brig buoy cable caique cargo clipper cog coracle crane crate cutter davit "
    "derrick dhow dinghy dock ferry galley gantry hawser hoist hold hull jetty junk keel ketch "
    "lash launch lighter lugger mast mole mooring packet pallet pier pilot pinnace punt quay "
    "rudder sail schooner skiff sling sloop tally tender tug wharf winch yawl"
).split()


def new_id() -> str:
    """Return 64 random hexadecimal digits."""
    return os.urandom(32).hex()


def new_name() -> str:
    """Return a name made of two words; the caller tries another when it is taken."""
    first, second, third = os.urandom(3)
    return f"{_MANNERS[first % len(_MANNERS)]}_{_SHIPS[second % len(_SHIPS)]}{third % 100}"
