"""Detach keys: how they are spelled, and that nothing else is swallowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.cli.terminal import DetachKeys, parse_detach_keys
from longshore.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("", b""),
        ("a", b"a"),
        ("ctrl-a,b,Z", b"\x01bZ"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("ctrl-z,DEL", b"\x1a\x7f"),
    ],
)
def test_spelled_as_podman_does(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["foo", "ctrl-", "ctrl-pq", "ctrl-1", "a,", ",", "ü", "ctrl-P"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InvalidArgument, match="there is no key"):
        parse_detach_keys(text)


def passed_on(keys: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
    """Type pieces; return what went on, with what was held back in the end, and if it detached."""
    parser = DetachKeys(keys)
    out = b""
    for piece in pieces:
        passed, detached = parser.feed(piece)
        out += passed
        if detached:
            return out, True
    held_any = parser.holds
    held = parser.give_up()
    assert held_any == bool(held)
    assert not parser.holds
    return out + held, False


# few different bytes, so that the sequence and its beginnings are frequent
few = st.lists(st.sampled_from([b"\x10", b"\x11", b"a"]), max_size=12).map(b"".join)
pieces = st.lists(few, max_size=6)


@given(pieces=pieces, keys=st.sampled_from([b"\x10\x11", b"\x10\x10\x11", b"a", b"aa\x10", b""]))
def test_everything_else_passes_unchanged(pieces: list[bytes], keys: bytes) -> None:
    typed = b"".join(pieces)
    at = typed.find(keys) if keys else -1
    out, detached = passed_on(keys, pieces)
    assert detached == (at >= 0)
    assert out == (typed[:at] if detached else typed)


@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes(pieces: list[bytes]) -> None:
    typed = b"".join(pieces)
    if b"\x10\x11" not in typed:
        assert passed_on(b"\x10\x11", pieces) == (typed, False)


def test_a_lone_prefix_is_held_and_not_swallowed() -> None:
    parser = DetachKeys(b"\x10\x11")
    assert parser.feed(b"a\x10") == (b"a", False)
    assert parser.holds
    assert parser.feed(b"b") == (b"\x10b", False)  # with the next key
    assert parser.feed(b"\x10") == (b"", False)
    assert parser.give_up() == b"\x10"  # or when none follows
    assert parser.feed(b"\x11") == (b"\x11", False)  # which is not the second key any more


def test_what_overlaps_itself() -> None:
    parser = DetachKeys(b"aab")
    assert parser.feed(b"aaa") == (b"a", False)
    assert parser.feed(b"b") == (b"", True)
