"""What people see: columns, ages, sizes, statuses, moments."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cli_standin import NOW, SECOND, ended, inspection
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.cli import table
from longshore.cli.when import duration_ns, moment_ns
from longshore.errors import InvalidArgument
from longshore.lifecycle import Status

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert table.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_980_000, "1.98MB"), (64 * 2**20, "67.1MB"),
     (999_999, "1MB"), (5 * 10**18, "5EB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert table.size(count) == text


@pytest.mark.parametrize(
    ("status", "fields", "words"),
    [
        (Status.RUNNING, {"started_ns": NOW - 5 * SECOND}, "Up 5 seconds"),
        (Status.RUNNING, {}, "Up"),
        (Status.CREATED, {}, "Created"),
        (Status.PAUSED, {"started_ns": NOW}, "Paused"),
        (Status.DAMAGED, {}, "Damaged"),
        (
            Status.EXITED,
            {"exit": ended(3), "finished_ns": NOW - 180 * SECOND},
            "Exited (3) 3 minutes ago",
        ),
        (
            Status.STOPPED,
            {"exit": ended(), "finished_ns": NOW},
            "Exited (0) Less than a second ago",
        ),
        (Status.EXITED, {}, "Exited (0)"),
    ],
)
def test_statuses(status: Status, fields: dict[str, object], words: str) -> None:
    assert table.status_words(inspection("a", status, **fields), NOW) == words


def test_columns_are_as_wide_as_podman_makes_them() -> None:
    rows = [("CONTAINER ID", "IMAGE", "NAMES"), ("0123456789ab", "", "a"), ("x", "a" * 12, "b")]
    assert table.columns(rows) == (
        "CONTAINER ID  IMAGE         NAMES\n"
        "0123456789ab                a\n"
        "x             aaaaaaaaaaaa  b\n"
    )
    assert table.columns([]) == ""


def test_a_cell_cannot_break_the_table_or_the_terminal() -> None:
    assert table.columns([("a\nb", "\x1b[31m")]) == "a\\nb        \\x1b[31m\n"


def test_commands_are_cut() -> None:
    assert table.short_command(["/bin/sh", "-c", "exit 3"]) == "/bin/sh -c exit 3"
    assert table.short_command(["/bin/sh", "-c", "exit 33"]) == "/bin/sh -c exit 3..."
    assert table.short_command(["/bin/sh", "-c", "exit 33"], whole=True) == "/bin/sh -c exit 33"


def test_moments(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "UTC")
    time.tzset()
    assert table.rfc3339(None) == "0001-01-01T00:00:00Z"
    assert table.rfc3339(NOW) == "2027-01-15T08:00:00Z"
    assert table.rfc3339(NOW + 120) == "2027-01-15T08:00:00.00000012Z"
    assert table.rfc3339(NOW, digits=True) == "2027-01-15T08:00:00.000000000Z"
    assert table.go_time(NOW + 5) == "2027-01-15 08:00:00.000000005 +0000 UTC"
    assert table.go_time(None) == "0001-01-01 00:00:00 +0000 UTC"


def test_moments_have_their_zone(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "XXX-05:30")
    time.tzset()
    assert table.rfc3339(NOW) == "2027-01-15T13:30:00+05:30"
    assert table.go_time(NOW) == "2027-01-15 13:30:00 +0530 XXX"
    zone.setenv("TZ", "YYY+03:00")
    time.tzset()
    assert table.rfc3339(NOW) == "2027-01-15T05:00:00-03:00"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10m", 600 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5s", 1_500_000_000),
        ("250ms", 250_000_000),
        ("3us", 3000),
        ("", None),
        ("m", None),
        ("10", None),
        ("10m5", None),
    ],
)
def test_go_durations(text: str, ns: int | None) -> None:
    assert duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10m", NOW - 600 * SECOND),
        ("-10m", NOW - 600 * SECOND),
        ("1800000000", NOW),
        ("1800000000.000000001", NOW + 1),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00.123456789Z", NOW + 123456789),
        ("2027-01-15T09:30:00+01:30", NOW),
    ],
)
def test_when(text: str, ns: int) -> None:
    assert moment_ns(text, "--since", NOW) == ns


def test_a_date_alone_is_local(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "UTC")
    time.tzset()
    assert moment_ns("2027-01-15", "--since", NOW) == NOW - 8 * HOUR * SECOND


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_other_moment_is_refused(text: str) -> None:
    try:
        moment_ns(text, "--since")
    except InvalidArgument as err:
        assert "--since" in str(err)


@settings(deadline=None)
@given(st.lists(st.lists(st.text(), min_size=1, max_size=4), max_size=4))
def test_columns_take_any_text(rows: list[list[str]]) -> None:
    assert table.columns(rows).count("\n") == len(rows)
