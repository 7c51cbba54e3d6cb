"""Templates do what Go's text/template does.

The rows of go_templates.json were captured from podman 4.3.1 (Go 1.19) with `podman version
--format`, whose document `CLIENT` is.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.cli.govalues import GoMap, show, show_float, sprintf, to_json
from longshore.cli.template import Template, TemplateError
from longshore.errors import InvalidArgument

CLIENT = {
    "APIVersion": "4.3.1",
    "Version": "4.3.1",
    "GoVersion": "go1.19.8",
    "GitCommit": "",
    "BuiltTime": "Thu Jan  1 00:00:00 1970",
    "Built": 0,
    "OsArch": "linux/amd64",
    "Os": "linux",
}
DATA = {"Client": CLIENT, "Server": None}

ROWS = json.loads(Path(__file__).with_name("go_templates.json").read_text(encoding="utf-8"))
CONFORMS: list[tuple[str, str]] = [(template, text) for template, text in ROWS["conforms"]]
REFUSED: list[str] = ROWS["refused"]

ROW = {
    "ID": "1234",
    "Names": ["a", "b"],
    "Labels": GoMap(z="1", app="web"),
    "Empty": GoMap(),
    "State": {"Running": True, "Exit": None, "Usage": {"CPU": 0.5}},
    "Label": lambda name: {"app": "web"}.get(name, ""),
}


@pytest.mark.parametrize(("template", "expected"), CONFORMS)
def test_what_go_prints(template: str, expected: str) -> None:
    assert Template(template).render(DATA) == expected


@pytest.mark.parametrize("template", REFUSED)
def test_what_go_refuses(template: str) -> None:
    with pytest.raises(TemplateError, match=r"^template \d+:\d+: "):
        Template(template).render(DATA)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Names}}", "[a b]"),
        ("{{.Labels}}", "map[app:web z:1]"),
        ("{{.Labels.app}}|{{.Labels.nope}}", "web|<no value>"),
        ('{{index .Labels "app"}}|{{index .Labels "nope"}}|', "web||"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "app=web;z=1;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Empty}}x{{else}}{{len $v}}{{end}}", "0"),
        ("{{json .Labels}}", '{"app":"web","z":"1"}'),
        ("{{json .Names}}", '["a","b"]'),
        ("{{json .State.Exit}}", "null"),
        ("{{.State.Exit}}", "<no value>"),
        ("{{.State}}", "{true <nil> {0.5}}"),
        ("{{.State.Usage.CPU}}", "0.5"),
        ('{{join .Names ","}}', "a,b"),
        ('{{.Label "app"}}|{{.Label "x"}}|', "web||"),
        ('{{eq (.Label "app") "web"}}', "true"),
        ("{{.id}}", "1234"),  # podman's two spellings of a field
        ("{{if .State.Running}}up{{end}}", "up"),
        ("{{len .Names}} {{len .Labels}}", "2 2"),
        ('{{trim "  a "}}|', "a|"),
        ("{{if gt .State.Usage.CPU 0}}busy{{end}}", "busy"),
        ("{{with .State.Exit}}x{{else with .ID}}{{.}}{{end}}", "1234"),
    ],
)
def test_structs_maps_and_functions(template: str, expected: str) -> None:
    assert Template(template).render(ROW) == expected


def test_an_unknown_field_says_where() -> None:
    with pytest.raises(TemplateError, match="template 2:3: can't evaluate field Foo") as caught:
        Template("a\n{{.Foo}}").render(ROW)
    assert isinstance(caught.value, InvalidArgument)
    assert caught.value.exit_code == 125


def test_an_unknown_function_gets_a_hint() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{{jsn .ID}}")
    assert caught.value.hint == "did you mean json?"


@pytest.mark.parametrize("deep", ["(" * 5000, "{{if 1}}" * 5000, ".a" * 20000, "1|print" * 5000])
def test_depth_is_an_error_of_its_own(deep: str) -> None:
    with pytest.raises(TemplateError):
        Template(deep if deep.startswith("{{") else "{{" + deep + "}}").render({"a": GoMap()})


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (-1.5, "-1.5"), (1e21, "1e+21"), (1e-7, "1e-07"), (123.25, "123.25")],
)
def test_floats(number: float, text: str) -> None:
    assert show_float(number) == text
    assert show(number) == text


def test_a_width_cannot_eat_the_memory() -> None:
    assert sprintf("%9999999999d", [1]) == "%!(BADWIDTH)1"
    assert sprintf("%*d", [10**9, 1]) == "%!(BADWIDTH)1"


def test_json_keeps_the_order_of_structs() -> None:
    assert to_json({"b": 1, "a": GoMap(d=1, c=2)}) == '{"b":1,"a":{"c":2,"d":1}}'


PIECES = st.sampled_from(
    ["{{", "}}", "{{-", " -}}", "if ", "else", "end", "range ", "with ", "$x", ":=", "=", "|", "(",
     ")", ",", ".", ".ID", ".Names", ".Labels.z", ".State.Usage", '"a"', "`b`", "'c'", "1", "-2.5",
     "0x1", "printf ", '"%*d%s%v"', "index ", "slice ", "len ", "eq ", "lt ", "json ", "join ",
     "split ", "pad ", "truncate ", "and ", "not ", "nil", "true", " ", "break", "continue", "/*",
     "*/", "\n", "9" * 25, '"\\x', "é"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(PIECES, max_size=20).map("".join) | st.text())
def test_nothing_but_its_own_error(template: str) -> None:
    try:
        Template(template).render(ROW)
    except TemplateError:
        pass


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_action_brings_the_renderer_down(action: str) -> None:
    try:
        Template("{{" + action + "}}").render(ROW)
    except TemplateError:
        pass


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@settings(deadline=None)
@given(st.text(alphabet="%+-# 0123456789.*vsdqxXobcUeEfgGtTz"), st.lists(VALUES, max_size=4))
def test_printf_never_fails(pattern: str, values: list[object]) -> None:
    assert isinstance(sprintf(pattern, values), str)


@settings(deadline=None)
@given(st.text())
def test_text_without_actions_is_itself(text: str) -> None:
    if "{{" not in text:
        assert Template(text).render(ROW) == text
