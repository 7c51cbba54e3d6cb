"""Templates do what Go's text/template does.

The rows of go_templates.json were captured from podman 4.3.1 (Go 1.19) with `podman version
--format`, whose document `CLIENT` is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.cli.gotime import GoTime
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


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


MOMENT = GoTime(1_764_280_743_704_050_000)  # 2025-11-27 21:59:03.70405 UTC, a Thursday


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.}}", "2025-11-27 21:59:03.70405 +0000 UTC"),
        ('{{.Format "2006-01-02"}}', "2025-11-27"),
        ('{{.Format "Mon, 02 Jan 2006 15:04:05 MST"}}', "Thu, 27 Nov 2025 21:59:03 UTC"),
        ('{{.Format "Monday January _2 3:4:5 PM pm 06 002"}}',
         "Thursday November 27 9:59:3 PM pm 25 331"),
        ('{{.Format "2006-01-02T15:04:05.999999999Z07:00"}}', "2025-11-27T21:59:03.70405Z"),
        ('{{.Format "05.000 05,9999999 -0700 -07:00 Z0700 -07"}}',
         "03.704 03,70405 +0000 +00:00 Z +00"),
        ('{{.Format "Janus Money 2"}}', "Janus Money 27"),  # no words of a layout
        ("{{.Year}} {{.Month}} {{.Day}} {{.Weekday}} {{.YearDay}}",
         "2025 November 27 Thursday 331"),
        ('{{printf "%d %s %v" .Month .Month .Month}}', "11 November November"),
        ("{{if eq .Month 11}}autumn{{end}}", "autumn"),
        ("{{.Hour}}:{{.Minute}}:{{.Second}} {{.Nanosecond}}", "21:59:3 704050000"),
        ("{{.Unix}} {{.UnixMilli}} {{.UnixNano}}",
         "1764280743 1764280743704 1764280743704050000"),
        ('{{.UTC.Format "15:04 MST"}}|{{.Local.Year}}|{{.String}}',
         "21:59 UTC|2025|2025-11-27 21:59:03.70405 +0000 UTC"),
        ("{{.IsZero}} {{.Equal .}} {{.Before .}}", "false true false"),
        ("{{json .}}", '"2025-11-27T21:59:03.70405Z"'),
        ("{{json .Month}}", "11"),
        ('{{printf "%s" .}}', "2025-11-27 21:59:03.70405 +0000 UTC"),
        ('{{printf "%T" .}}', "time.Time"),
    ],
)  # fmt: skip
def test_times(zone: Callable[[str], None], template: str, expected: str) -> None:
    zone("UTC")
    assert Template(template).render(MOMENT) == expected


def test_times_of_a_zone(zone: Callable[[str], None]) -> None:
    zone("XST+3:30")  # POSIX: west of Greenwich

    def shown(template: str) -> str:
        return Template(template).render(MOMENT)

    assert shown("{{.}}") == "2025-11-27 18:29:03.70405 -0330 XST"
    assert shown('{{.Format "15:04 MST Z07:00 -070000"}}') == "18:29 XST -03:30 -033000"
    assert shown("{{.UTC}}") == "2025-11-27 21:59:03.70405 +0000 UTC"
    assert shown("{{json .}} {{json .UTC}}") == (
        '"2025-11-27T18:29:03.70405-03:30" "2025-11-27T21:59:03.70405Z"'
    )


def test_the_time_that_never_was() -> None:
    never = GoTime(None)
    assert Template("{{.}}").render(never) == "0001-01-01 00:00:00 +0000 UTC"
    assert Template("{{.IsZero}} {{.Year}} {{.Weekday}} {{.Unix}}").render(never) == (
        "true 1 Monday -62135596800"
    )
    assert to_json(never) == '"0001-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    "template", ["{{.Nope}}", "{{.Format}}", "{{.Format 1}}", "{{len .}}", '{{eq . "x"}}',
                 "{{.Format.Year}}", "{{.Before 3}}"],
)  # fmt: skip
def test_what_a_time_does_not_have(template: str) -> None:
    with pytest.raises(TemplateError):
        Template(template).render(MOMENT)
