"""Go's patterns in Python.

What each of them finds was asked of RE2 (google-re2 1.1), whose syntax is Go's; so were 160,000
random ones, without a difference.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.oci.goregex import compile_go


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("", ["", "x"], []),
        ("^/usr/bin/", ["/usr/bin/x"], ["/bin/usr/bin/"]),
        (".*/init$", ["/sbin/init", "/init"], ["/init\n", "/initx"]),
        ("a|b", ["b", "xa"], ["c"]),
        ("^$", [""], ["\n", "a"]),
        ("(?m)^b$", ["a\nb\nc", "b"], ["ab"]),
        ("(?i)^GPU", ["gpu0"], ["xgpu"]),
        ("a.b", ["axb"], ["a\nb"]),
        ("(?s)a.b", ["a\nb"], ["ab"]),
        ("(?is)A.B", ["a\nb"], []),
        (r"^\s$", [" ", "\t"], ["\v", "\u00a0", "x"]),
        (r"^\S$", ["\v", "x"], [" ", ""]),
        (r"^[\sx]$", [" ", "x"], ["\v"]),
        (r"^\d$", ["1"], ["\u0661"]),
        (r"^\w$", ["a", "_"], ["ä"]),
        (r"^[\w-]+$", ["a-b"], ["a b"]),
        (r"a\b", ["a b", "aä"], ["ab"]),
        (r"\B", [""], ["a"]),
        (r"\Aa\z", ["a"], ["a\n"]),
        ("a{2}", ["aa"], ["a"]),
        ("^a{1,2}?$", ["aa"], ["aaa"]),
        ("a{,2}", ["a{,2}"], ["a", "aa"]),
        ("{", ["{"], [""]),
        ("^[[:alpha:]]+$", ["aB"], ["a1"]),
        ("^[^[:space:]_]$", ["\\", "a"], ["_", "\v", " "]),
        ("^[[:punct:]]$", ["!", "[", "`", "~", "\\"], ["a", " "]),
        ("^[[]$", ["["], ["a"]),
        ("^[]a]$", ["]", "a"], ["b"]),
        ("^[a&&b]$", ["&", "a", "b"], ["ab"]),
        ("^[a~~|b]$", ["~", "|"], ["c"]),
        (r"^\x41\.\-\_$", ["A.-_"], []),
        (r"^com\.example\.department$", ["com.example.department"], ["comXexample.department"]),
        ("(?P<n>a)(?:b)", ["ab"], ["a"]),
    ],
)
def test_patterns(pattern: str, found: list[str], not_found: list[str]) -> None:
    compiled = compile_go(pattern)
    assert [text for text in found if not compiled.search(text)] == []
    assert [text for text in not_found if compiled.search(text)] == []


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a++", "a*+", "a?+", "a**",
     "a{2}{3}", "a{2}+", "a???", "(?>a)", "(?#x)", "(?x)a", "(?a)b", "a(?i)b", "(?i:a)", "(?-s)a",
     "(?U)a*", r"\Z", r"\N{DASH}", r"\u0041", r"\p{Greek}", r"\pL", r"\Qa.b\E", r"\x{41}", r"\07",
     r"\C", "[[:^alpha:]]", "[[:nosuch:]]", r"[\b]", r"[\S]", "[a--b]", "[a", "(", ")", "*",
     "a{1001}", "a{2,1}", "(?i)ä", "(?P<1>a)", "(?", "\\", "[z-a]"],
)  # fmt: skip
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_go(pattern)


@given(st.text(alphabet=r"ab1\[](){}?*+^$|.:-=<>PidsS&~", max_size=12))
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        compiled = compile_go(pattern)
    except ValueError:
        return
    compiled.search("ab1")
