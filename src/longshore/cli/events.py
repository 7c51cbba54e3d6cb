"""``longshore events``: what happens to containers, as it happens."""

from __future__ import annotations

import sys
import time

from longshore.cli.flags import EACH, SWITCH, TEXT, Command, Flag
from longshore.errors import InvalidArgument
from longshore.models import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.models import Gap

    Test = Callable[[Event], bool]

# ruff: noqa: SIM905 - words are read as words
# podman's words (podman-events(1)), those for what does not happen here too
_ACTIONS = (
    "attach auto-update build checkpoint cleanup commit connect create died disconnect exec "
    "exec_died export health_status import init kill loadfromarchive mount pause prune pull "
    "pull-error push refresh remove rename renumber restart restore rotate save start stop sync "
    "tag unmount unpause untag update"
).split()
_SYNONYMS = {"exited": "died", "die": "died", "destroy": "remove"}  # podman's manual, and docker
_TYPES = ("container", "image", "machine", "network", "pod", "secret", "system", "volume")


def run(app: App, parsed: Parsed) -> int:
    """Print events until there are no more to come, or for ever."""
    wanted = _matcher(parsed.many("filter"))
    show = _printer(parsed)
    since, until = _bound(parsed, "since"), _bound(parsed, "until")
    if since is None and until is not None:
        since = 0  # as podman: from the first on
    with app.engine.events(since=since, until=until, follow=parsed.on("stream")) as events:
        for one in events:
            if not isinstance(one, Event):
                if parsed.given("since"):
                    _warn_of(one)
            elif wanted(one):
                sys.stdout.write(show(one))
                sys.stdout.flush()
    return 0


def _warn_of(gap: Gap) -> None:
    from longshore import _log

    if gap.end < gap.start:
        what = f"the log ends at number {gap.end}: it was begun anew"
    else:
        what = f"those above number {gap.start} and below {gap.end} are not kept any more"
    _log.warn(f"events are missing: {what}")


def _bound(parsed: Parsed, name: str) -> int | datetime | None:
    """Return a number, for ``seq:N``, or a moment; None when the flag was not given."""
    text = parsed.maybe(name)
    if text is None:
        return None
    if text.startswith("seq:"):
        number = text.removeprefix("seq:")
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            raise InvalidArgument(f'invalid value "{text}" for --{name}: it is not seq:NUMBER')
        return int(number)
    from datetime import UTC, datetime, timedelta

    from longshore.cli.when import duration_ns, moment_ns

    ahead = duration_ns(text) if name == "until" else None  # podman 4.3.1: --until 2s waits 2 s
    at = time.time_ns() + ahead if ahead is not None else moment_ns(text, f"--{name}")
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at // 1000)
    except OverflowError as err:
        raise InvalidArgument(f'invalid value "{text}" for --{name}: {err}') from err


def _matcher(filters: Sequence[str]) -> Test:
    """Return the test that all filters make; values of one key are alternatives, as podman has it.

    Those of `ps` are not used: an event is what was, and its container may be gone.
    """
    groups: dict[str, list[Test]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        make = _FILTERS.get(key)
        if make is None:
            raise InvalidArgument(
                f'unknown filter "{key}"', hint="the filters are " + ", ".join(sorted(_FILTERS))
            )
        if not equals or not value:
            raise InvalidArgument(f'the filter "{text}" needs a value: {key}=VALUE')
        groups.setdefault(_KEYS.get(key, key), []).append(make(value))
    return lambda event: all(any(test(event) for test in group) for group in groups.values())


def _container(value: str) -> Test:
    from longshore.engine.eventstream import is_of

    return lambda event: event.type == "container" and is_of(event, value)


def _event(value: str) -> Test:
    action = _SYNONYMS.get(value, value)
    if action not in _ACTIONS:
        from longshore.cli.help import nearest

        guess = nearest(value, _ACTIONS)
        raise InvalidArgument(
            f'unknown event "{value}" in a filter', hint=f"did you mean {guess}?" if guess else None
        )
    return lambda event: event.action == action


def _image(value: str) -> Test:
    def test(event: Event) -> bool:
        short = event.image.rpartition("/")[2]
        return bool(event.image) and value in (event.image, short, short.partition(":")[0])

    return test


def _label(value: str) -> Test:
    key, equals, wanted = value.partition("=")
    if not equals:
        return lambda event: key in event.labels
    return lambda event: event.labels.get(key) == wanted


def _type(value: str) -> Test:
    if value not in _TYPES:
        raise InvalidArgument(
            f'unknown type "{value}" in a filter', hint="a type is one of " + ", ".join(_TYPES)
        )
    return lambda event: event.type == value


_FILTERS: Mapping[str, Callable[[str], Test]] = {
    "container": _container,
    "event": _event,
    "image": _image,
    "label": _label,
    "status": _event,
    "type": _type,
}
_KEYS = {"status": "event"}


def _printer(parsed: Parsed) -> Callable[[Event], str]:
    """Return what makes the text of one event."""
    form = parsed.maybe("format")
    if form is None:
        whole = parsed.on("no-trunc")
        return lambda event: _line(event, whole=whole)
    from longshore.cli import formatting

    if formatting.is_json(form):
        from longshore.cli.govalues import to_json

        return lambda event: to_json(_json_row(event)) + "\n"
    from longshore.cli.template import Template

    template = Template(formatting.unescaped(form))
    return lambda event: template.render(_template_row(event)).rstrip("\n") + "\n"


def _line(event: Event, *, whole: bool) -> str:
    """Return the line of podman 4.3.1, with what is known beyond that at its end."""
    from longshore.cli import table

    said = [("image", event.image), ("name", event.name), *_attributes(event).items()]
    if event.exit_code is not None:
        said.append(("exitCode", str(event.exit_code)))
    inner = ", ".join(f"{key}={value}" for key, value in said)
    ident = table.short_id(event.id, whole=whole)
    when = table.go_time(event.time_ns)
    return table.printable(f"{when} {event.type} {event.action} {ident} ({inner})") + "\n"


def _attributes(event: Event) -> dict[str, Any]:
    from longshore.cli.govalues import GoMap

    return GoMap(sorted({**event.labels, **event.attributes}.items()))


def _json_row(event: Event) -> dict[str, Any]:
    """Return the object of ``--format json``: the keys of podman 4 (Time) and 5 (time, timeNano).

    ``Seq`` is our own: what ``--since seq:N`` takes.
    """
    from longshore.cli.table import rfc3339

    return {
        **({} if event.exit_code is None else {"ContainerExitCode": event.exit_code}),
        "ID": event.id,
        **({"Image": event.image} if event.image else {}),
        "Name": event.name,
        "Status": event.action,
        "Time": rfc3339(event.time_ns),
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
        "Type": event.type,
        "Attributes": _attributes(event) or None,
        "Seq": event.seq,
    }


def _template_row(event: Event) -> dict[str, Any]:
    """Return the fields that a template can ask for."""
    from longshore.cli.table import go_time

    return {
        "Attributes": _attributes(event),
        "ContainerExitCode": event.exit_code or 0,
        "HealthStatus": "",
        "ID": event.id,
        "Image": event.image,
        "Name": event.name,
        "Network": "",
        "Seq": event.seq,
        "Status": event.action,
        "Time": go_time(event.time_ns),
        "TimeNano": event.time_ns,
        "Type": event.type,
    }


COMMAND = Command(
    run,
    usage="[options]",
    about="""
Prints a line for each thing that happens to a container, and goes on until it is ended. With
--since or --until it begins with what has happened before; with --stream=false it ends there. Each
event has a number, Seq in the formats, and --since seq:NUMBER goes on after that one.""",
    examples=(
        "events",
        "events --since 1h --stream=false --filter event=died",
        "events --format json --since seq:123456",
        "events --filter container=box --format '{{.Time}} {{.Status}}'",
    ),
    flags=(
        Flag("filter", "f", EACH, "Show the events that match", metavar="KEY=VALUE"),
        Flag("format", "", TEXT, "Print as lines of JSON or through a Go template"),
        Flag("no-trunc", "", SWITCH, "Show whole ids", default="true"),
        Flag(
            "since", "", TEXT, "Begin at a moment, or so long ago, or after seq:N", metavar="TIME"
        ),
        Flag("stream", "", SWITCH, "Go on with what is yet to come", default="true"),
        Flag(
            "until", "", TEXT, "End at a moment, or so long from now, or at seq:N", metavar="TIME"
        ),
    ),
)
