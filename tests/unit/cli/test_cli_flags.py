"""The parser has pflag's manners."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.cli.flags import (
    ATTACHED,
    EACH,
    INT,
    LIST,
    MAYBE,
    NUMBER,
    SWITCH,
    TEXT,
    UINT,
    Command,
    Flag,
    Parsed,
    parse,
    split_commas,
)
from longshore.errors import InvalidArgument

FLAGS = (
    Flag("all", "a", SWITCH, "all"),
    Flag("brief", "b", SWITCH, "brief", default="true"),
    Flag("env", "e", EACH, "env"),
    Flag("filter", "f", LIST, "filter"),
    Flag("last", "n", INT, "last", default="-1"),
    Flag("shares", "", UINT, "shares"),
    Flag("time", "t", NUMBER, "time"),
    Flag("format", "", TEXT, "format"),
    Flag("sort", "", TEXT, "sort", choices=("id", "name"), default="id"),
    Flag("rootfs", "", MAYBE, "rootfs"),
    Flag("trace", "", ATTACHED, "trace", choices=("table", "json")),
    Flag("help-me", "", SWITCH, "a secret", hidden=True),
)


def read(*words: str, trailing: bool = False) -> Parsed:
    return parse(words, FLAGS, verb="ps", trailing=trailing)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--format=x"], "format", "x"),
        (["--format", "x"], "format", "x"),
        (["--format="], "format", ""),
        (["--format", "-x"], "format", "-x"),
        (["--format", "--all"], "format", "--all"),
        (["--format", "--"], "format", "--"),
        (["--format=a=b"], "format", "a=b"),
        (["--format", "x", "--format", "y"], "format", "y"),
        (["-n5"], "last", "5"),
        (["-n=5"], "last", "5"),
        (["-n", "5"], "last", "5"),
        (["-n", "-5"], "last", "-5"),
        (["-abn5"], "last", "5"),
        (["-an", "5"], "last", "5"),
        ([], "last", "-1"),
        (["--rootfs", "/:O"], "rootfs", "/:O"),
        (["--rootfs=/:O"], "rootfs", "/:O"),
        (["--rootfs", "-a"], "rootfs", "true"),
        (["--rootfs"], "rootfs", "true"),
        (["--trace", "x"], "trace", "table"),
        (["--trace=json"], "trace", "json"),
    ],
)
def test_values(words: list[str], name: str, value: str) -> None:
    assert read(*words).text(name) == value


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ([], False),
        (["-a"], True),
        (["--all"], True),
        (["--all=true"], True),
        (["--all=false"], False),
        (["-a=false"], False),
        (["-ba"], True),
        (["-a", "--all=0"], False),
    ],
)
def test_switches(words: list[str], on: bool) -> None:
    assert read(*words).on("all") is on


def test_a_switch_that_is_on_by_default() -> None:
    assert read().on("brief")
    assert not read("--brief=false").on("brief")


def test_repeated_flags_keep_their_order() -> None:
    parsed = read("-eA=1", "--env", "B=2", "--env=C=3,4", "-f", "a,b", "--filter", 'c,"d,e"')
    assert parsed.many("env") == ["A=1", "B=2", "C=3,4"]
    assert parsed.many("filter") == ["a", "b", "c", "d,e"]
    assert read().many("env") == []


def test_arguments_and_flags_may_be_mixed() -> None:
    parsed = read("x", "-a", "y", "-", "--", "-z")
    assert parsed.args == ["x", "y", "-", "-z"]
    assert parsed.on("all")


def test_flags_end_at_the_first_argument_of_a_command_line() -> None:
    parsed = read("-a", "sh", "-c", "--all=false", trailing=True)
    assert parsed.args == ["sh", "-c", "--all=false"]
    assert parsed.on("all")
    assert read("--", "-a", "--", "b", trailing=True).args == ["-a", "--", "b"]
    assert read("--rootfs", "/:O", "--all", "sh", "-a", trailing=True).args == ["sh", "-a"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ["--fromat"],
            "unknown flag: --fromat",
            "did you mean --format? see 'longshore ps --help'",
        ),
        (["--form=x"], "unknown flag: --form", "did you mean --format?"),  # no abbreviations
        (["--zzz"], "unknown flag: --zzz", "see 'longshore ps --help'"),
        (["--help-mee"], "unknown flag: --help-mee", "see 'longshore"),  # hidden stays hidden
        (["-Z"], "unknown shorthand flag: -Z in -Z", "see"),
        (["-aZ"], "unknown shorthand flag: -Z in -aZ", "see"),
        (["--format"], "flag needs an argument: --format", "see"),
        (["-n"], "flag needs an argument: -n in -n", "see"),
        (["--=x"], "unknown flag: --", "see"),
        (["---x"], "unknown flag: ---x", "see"),
        (["--last=x"], 'invalid value "x" for -n, --last: it takes a whole number', ""),
        (["--last=1_0"], "it takes a whole number", ""),
        (["--last=" + "1" * 5000], "it takes a whole number", ""),
        (["--last=٣"], "it takes a whole number", ""),
        (["--shares=-1"], "for --shares: it cannot be negative", ""),
        (["-t", "-1"], "it takes a number that is not negative", ""),
        (["-t", "nan"], "it takes a number that is not negative", ""),
        (["-t", "inf"], "it takes a number that is not negative", ""),
        (["--all=maybe"], "for -a, --all: it is true or false", ""),
        (["--sort=age"], 'invalid value "age" for --sort: it is one of id, name', ""),
        (["--trace=xml"], "it is one of table, json", ""),
    ],
)
def test_what_is_refused(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(*words)
    assert message in str(caught.value)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-ah"], ["x", "--help", "--zzz"]])
def test_help_ends_the_reading(words: list[str]) -> None:
    assert read(*words).helped


def test_help_can_be_a_value_and_h_a_flag() -> None:
    assert not read("--format", "--help").helped
    own = parse(["-h", "box"], (Flag("hostname", "h", TEXT, "name"),))
    assert own.text("hostname") == "box"


def test_outer_flags_are_taken_after_the_command_too() -> None:
    outer = (Flag("root", "", TEXT, "root"), Flag("all", "", TEXT, "another"))
    into = Parsed({flag.name: flag for flag in outer})
    parsed = parse(["--root", "/x", "--all"], FLAGS, inherited=outer, into=into)
    assert into.text("root") == "/x"
    assert parsed.on("all")
    assert not into.given("all")


def test_commas() -> None:
    assert split_commas("") == []
    assert split_commas("a,,b") == ["a", "", "b"]
    with pytest.raises(InvalidArgument):
        split_commas('a"b"c,"')


@pytest.mark.parametrize(
    ("least", "most", "count", "message"),
    [
        (0, 0, 1, "'x' takes no arguments"),
        (1, 1, 0, "'x' takes 1 argument, not 0"),
        (2, 2, 1, "'x' takes 2 arguments, not 1"),
        (1, None, 0, "'x' takes at least 1 argument, not 0"),
        (1, 2, 3, "'x' takes at most 2 arguments, not 3"),
    ],
)
def test_the_number_of_arguments(least: int, most: int | None, count: int, message: str) -> None:
    command = Command(lambda _app, _parsed: 0, usage="", least=least, most=most)
    with pytest.raises(InvalidArgument) as caught:
        command.check_count("x", count)
    assert str(caught.value) == message


WORDS = st.sampled_from(
    ["-a", "--all", "-n", "5", "--last", "-n5", "--", "-", "--format", "=", "-e", "A=1", "--rootfs",
     "/", "x", "--trace=json", "-abn", "--filter", 'a,"b', "--sort", "id", "-t", "1.5", "-h"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(WORDS | st.text(max_size=6), max_size=8), st.booleans())
def test_nothing_but_invalid_argument(words: list[str], trailing: bool) -> None:
    try:
        parsed = read(*words, trailing=trailing)
    except InvalidArgument:
        return
    for flag in FLAGS:
        parsed.text(flag.name)
        if flag.kind in (INT, UINT):
            parsed.integer(flag.name)
        if flag.kind == NUMBER:
            parsed.number(flag.name)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), max_size=6))
def test_after_the_dashes_all_are_arguments(words: list[str]) -> None:
    assert read("--", *words).args == words


@settings(deadline=None)
@given(st.text(min_size=1))
def test_any_value_survives(value: str) -> None:
    assert read("--format", value).text("format") == value
    assert read(f"--format={value}").text("format") == value
    assert read("-e", value).many("env") == [value]
