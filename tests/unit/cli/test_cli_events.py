"""`longshore events`: what it asks of the engine, and how events look."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cli_standin import NOW

from longshore.models import Event, Gap

if TYPE_CHECKING:
    from conftest import Shell

WEB, JOB = "ab" * 32, "cd" * 32


def event(seq: int, action: str, name: str = "web", **fields: Any) -> Event:
    values = {
        "seq": seq,
        "time_ns": NOW + seq * 1000,
        "type": "container",
        "action": action,
        "id": WEB if name == "web" else JOB,
        "name": name,
        **fields,
    }
    return Event(**values)


EVENTS: list[Event | Gap] = [
    event(1, "create", labels={"name": "x", "b": "1"}, image="docker.io/library/alpine:latest"),
    event(2, "start"),
    event(3, "create", "job"),
    event(4, "rename", "old", attributes={"oldName": "job"}),
    event(5, "exec_died", exit_code=0, attributes={"execID": "e1"}),
    event(6, "died", exit_code=137, labels={"b": "2"}, attributes={"reason": "killed"}),
]


class Stream:
    """The part of `EventStream` that the command uses."""

    def __init__(self, found: list[Event | Gap]) -> None:
        self._found = found

    def __enter__(self) -> Stream:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Event | Gap]:
        return iter(self._found)


@pytest.fixture
def asked(shell: Shell) -> list[dict[str, Any]]:
    """What the engine was asked for."""
    found: list[dict[str, Any]] = []

    def events(**how: Any) -> Stream:
        found.append(how)
        return Stream(EVENTS)

    shell.engine.events = events  # type: ignore[attr-defined]
    return found


def actions(shell: Shell, *words: str) -> list[str]:
    done = shell("events", "--format", "{{.Status}}", *words)
    assert (done.code, done.err) == (0, "")
    return done.out.split()


# --- what is asked for ------------------------------------------------------------------------


def test_by_default_what_is_yet_to_come(shell: Shell, asked: list[dict[str, Any]]) -> None:
    shell("events")
    shell("system", "events", "--stream=false")
    assert asked == [
        {"since": None, "until": None, "follow": True},
        {"since": None, "until": None, "follow": False},
    ]


def test_moments_and_numbers(shell: Shell, asked: list[dict[str, Any]]) -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    shell("events", "--since", "2026-01-31T12:00:00Z", "--until", "seq:7")
    assert asked.pop() == {"since": moment, "until": 7, "follow": True}
    shell("events", "--until", "2026-01-31T12:00:00Z")
    assert asked.pop() == {"since": 0, "until": moment, "follow": True}, (
        "podman begins at the first"
    )
    shell("events", "--since", "seq:0", "--stream=false")
    assert asked.pop() == {"since": 0, "until": None, "follow": False}
    shell("events", "--since", "10m", "--until", "10m")
    how = asked.pop()
    assert how["since"].timestamp() == pytest.approx(time.time() - 600, abs=60)
    assert how["until"].timestamp() == pytest.approx(time.time() + 600, abs=60), "as podman's"


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (["--since", "seq:x"], "not seq:NUMBER"),
        (["--since", "seq:"], "not seq:NUMBER"),
        (["--since", "seq:-1"], "not seq:NUMBER"),
        (["--since", "yesterday"], "not a moment"),
        (["--until", "99999999999999h"], "--until"),
        (["--since", "999999999999"], "--since"),
        (["--filter", "foo=x"], 'unknown filter "foo"'),
        (["--filter", "event"], "needs a value"),
        (["--filter", "event="], "needs a value"),
        (["--filter", "event=strat"], "did you mean start?"),
        (["--filter", "event=died,create"], "unknown event"),
        (["--filter", "type=nothing"], "unknown type"),
        (["--format", "{{.Nothing"], "template"),
        (["box"], "takes no arguments"),
    ],
)
def test_what_is_refused(
    shell: Shell, asked: list[dict[str, Any]], words: list[str], err: str
) -> None:
    done = shell("events", *words)
    assert (done.code, done.out) == (125, "")
    assert err in done.err
    assert not asked


# --- which are shown --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ((), ["create", "start", "create", "rename", "exec_died", "died"]),
        (("event=died",), ["died"]),
        (("event=died", "event=start"), ["start", "died"]),
        (("event=start", "status=died"), ["start", "died"]),
        (("event=exited",), ["died"]),
        (("event=mount",), []),
        (("container=web",), ["create", "start", "exec_died", "died"]),
        (("container=job",), ["create", "rename"]),
        (("container=old",), ["rename"]),
        (("container=cd",), ["create", "rename"]),
        (("container=web", "event=create"), ["create"]),
        (("type=container",), ["create", "start", "create", "rename", "exec_died", "died"]),
        (("type=image",), []),
        (("image=alpine",), ["create"]),
        (("image=docker.io/library/alpine:latest",), ["create"]),
        (("image=busybox",), []),
        (("label=b",), ["create", "died"]),
        (("label=b=2",), ["died"]),
        (("label=b=1", "label=b=2"), ["create", "died"]),
        (("label=b=3",), []),
    ],
)
def test_filters(
    shell: Shell, asked: list[dict[str, Any]], filters: tuple[str, ...], shown: list[str]
) -> None:
    assert actions(shell, *(word for text in filters for word in ("-f", text))) == shown
    assert asked


# --- how they look ----------------------------------------------------------------------------


def test_lines(shell: Shell, asked: list[dict[str, Any]]) -> None:
    lines = shell("events").out.splitlines()
    assert lines[0] == (
        f"2027-01-15 08:00:00.000001 +0000 UTC container create {WEB} "
        "(image=docker.io/library/alpine:latest, name=web, b=1, name=x)"
    )
    assert lines[1].endswith(f"container start {WEB} (image=, name=web)")
    assert lines[5].endswith("(image=, name=web, b=2, reason=killed, exitCode=137)")
    short = shell("events", "--no-trunc=false", "-f", "event=start").out
    assert f" start {WEB[:12]} (" in short


def test_json(shell: Shell, asked: list[dict[str, Any]]) -> None:
    rows = [json.loads(line) for line in shell("events", "--format", "json").out.splitlines()]
    assert rows[5] == {
        "ContainerExitCode": 137,
        "ID": WEB,
        "Name": "web",
        "Status": "died",
        "Time": "2027-01-15T08:00:00.000006Z",
        "time": NOW // 10**9,
        "timeNano": NOW + 6000,
        "Type": "container",
        "Attributes": {"b": "2", "reason": "killed"},
        "Seq": 6,
    }
    assert rows[4]["ContainerExitCode"] == 0
    assert rows[0]["Image"] == "docker.io/library/alpine:latest"
    assert "ContainerExitCode" not in rows[1]
    assert rows[1]["Attributes"] is None
    assert shell("events", "--format", "{{json .}}").out == shell("events", "--format=json").out


def test_templates(shell: Shell, asked: list[dict[str, Any]]) -> None:
    form = r"{{.Seq}}\t{{.Name}}\t{{.ContainerExitCode}}\t{{.Attributes}}\t{{.Attributes.b}}"
    shown = shell("events", "--format", form).out.splitlines()
    assert shown[5] == "6\tweb\t137\tmap[b:2 reason:killed]\t2"
    form = "{{.Time}}|{{.TimeNano}}|{{.Type}}|{{.ID}}|{{.Image}}|{{.Network}}{{.HealthStatus}}"
    assert shell("events", "--format", form, "-f", "event=start").out == (
        f"2027-01-15 08:00:00.000002 +0000 UTC|{NOW + 2000}|container|{WEB}||\n"
    )


def test_nothing_that_a_terminal_would_obey(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, asked: list[dict[str, Any]]
) -> None:
    nasty = [event(1, "start", labels={"a": "x\x1b[2J\ny"})]
    monkeypatch.setattr(shell.engine, "events", lambda **_: Stream([*nasty]))
    out = shell("events").out
    assert "\x1b" not in out
    assert out.count("\n") == 1


def test_a_gap_is_said_to_who_asked_for_more(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def events(**_: object) -> Stream:
        return Stream([Gap(start=5, end=4000), event(4001, "start"), Gap(start=9000, end=10)])

    monkeypatch.setattr(shell.engine, "events", events, raising=False)
    done = shell("events", "--since", "seq:5", "--format", "{{.Seq}}")
    assert (done.code, done.out) == (0, "4001\n")
    first, second = done.err.splitlines()
    assert first == (
        "longshore: warning: events are missing: "
        "those above number 5 and below 4000 are not kept any more"
    )
    assert "the log ends at number 10: it was begun anew" in second
    assert shell("events", "--until", "1s").err == ""
