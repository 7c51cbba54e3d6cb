"""Unit files are read and written as systemd.syntax(7) and systemd.service(5) say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import InvalidArgument
from longshore.units.unitfile import boolean, command, parse, quoted, words

TEXT = """\
\ufeff# a comment
[Unit]
Description = two  words
; another
[Container]
Exec=a \\
# in between
   b \\
   c
Env=1

Env=2
Env=
Env=3
[Unit]
After=x
"""


def test_sections_and_lines() -> None:
    unit = parse(TEXT, "x")
    assert list(unit.sections) == ["Unit", "Container"]
    assert unit.sections["Unit"] == [("Description", "two  words"), ("After", "x")]
    assert unit.last("Container", "Exec").split() == ["a", "b", "c"]
    assert unit.all("Container", "Env") == ["3"]  # an empty one clears the list
    assert unit.last("Container", "Env") == "3"
    assert unit.has("Unit", "After") and not unit.has("Unit", "Env")
    assert unit.last("None", "x", "default") == "default"


def test_a_drop_in_comes_last() -> None:
    unit = parse("[A]\nx=1\n", "x")
    unit.merge(parse("[A]\nx=2\n[B]\ny=3\n", "y"))
    assert unit.text() == "[A]\nx=1\nx=2\n\n[B]\ny=3\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x=1\n", "u.container, line 1: 'x=1' is in no section"),
        ("[A]\nwords\n", "line 2: 'words' is not KEY=VALUE"),
        ("[A]\n=1\n", "line 2: '=1' is not KEY=VALUE"),
        ("[A\n", "line 1: '\\[A' is not a section's name"),
        ("[]\n", "is not a section's name"),
        ("[A]\n\n\nb \\\n c\n", "line 4: 'b  c' is not KEY=VALUE"),
    ],
)
def test_what_is_no_unit_file(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        parse(text, "u.container")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c 'd'\" e\"f g\"", ["a b", "c 'd'", "ef g"]),
        (r'"a\"b" \x41\u00e9 \101 \s \t', ['a"b', "Aé", "A", " ", "\t"]),
        (r"'' %n $x \q", ["", "%n", "$x", r"\q"]),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text, "Exec") == found


@pytest.mark.parametrize("text", ["'a", '"a', r"\xzz", r"\x0", r"\u12"])
def test_what_are_no_words(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Exec="):
        words(text, "Exec")


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\v\f", exclude_categories=("Cs",)))))
def test_what_is_written_is_read(argv: list[str]) -> None:
    assert words(command(argv), "x") == argv


def test_a_literal_word_means_nothing_to_systemd() -> None:
    assert quoted("100% $x") == '"100% $x"'
    assert quoted("100% $x", literal=True) == '"100%% $$x"'
    assert quoted("plain") == "plain"
    assert quoted("") == '""'
    assert quoted(";") == '";"'


def test_truths() -> None:
    assert [boolean(w, "x") for w in ("yes", "TRUE", "1", "on")] == [True] * 4
    assert [boolean(w, "x") for w in ("no", "False", "0", "off")] == [False] * 4
    with pytest.raises(InvalidArgument, match="x=maybe: it is neither yes nor no"):
        boolean("maybe", "x")
