"""engine/names.py: ids and names that the rest of Longshore accepts."""

from __future__ import annotations

import os
import re

import pytest

from longshore.engine import names
from longshore.engine.names import new_id, new_name
from longshore.errors import NameInUse
from longshore.options.names import check_name


def test_ids() -> None:
    found = {new_id() for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in found)


def test_names_are_names() -> None:
    for _ in range(200):
        name = new_name()
        assert re.fullmatch(r"[a-z]+_[a-z]+\d{1,2}", name)
        check_name(name)


def test_a_name_never_looks_like_an_id() -> None:
    """ "_" is no hexadecimal digit, so a made-up name never hides the beginning of an id."""
    assert not re.fullmatch(r"[0-9a-f]+", new_name())


@pytest.mark.parametrize("byte", [0, 255])
def test_the_ends_of_the_lists(monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    monkeypatch.setattr(names.os, "urandom", lambda n: bytes([byte]) * n)
    check_name(new_name())


def test_the_words() -> None:
    for words in (names._MANNERS, names._SHIPS):
        assert len(set(words)) == len(words) >= 40
        assert all(word.isalpha() and word.islower() for word in words)


def test_the_error_that_a_caller_tries_again_at() -> None:
    assert names.InUse is NameInUse
    assert os.urandom(1)
