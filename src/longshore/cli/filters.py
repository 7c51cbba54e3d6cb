"""``--filter KEY=VALUE``: which containers match.

Values of one key are alternatives; different keys, and every label, must all match.
"""

from __future__ import annotations

import re

from longshore.errors import InvalidArgument
from longshore.lifecycle import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longshore.engine.engine import Engine
    from longshore.engine.inspection import Inspection

    Test = Callable[[Inspection], bool]

__all__ = ["KNOWN", "matcher"]

_WORDS = {"configured": Status.CREATED, **{status.value: status for status in Status}}


def matcher(filters: Sequence[str], engine: Engine) -> Test:
    """Return the test that all filters make together. Bad filters are refused before it runs."""
    tests: dict[str, list[Test]] = {}
    for number, text in enumerate(filters):
        key, equals, value = text.partition("=")
        make = KNOWN.get(key)
        if make is None:
            raise InvalidArgument(
                f'unknown filter "{key}"', hint="the filters are " + ", ".join(sorted(KNOWN))
            )
        if not equals:
            raise InvalidArgument(f'the filter "{text}" needs a value: {key}=VALUE')
        group = f"{key} {number}" if key in _EVERY else key
        tests.setdefault(group, []).append(make(value, engine))
    groups = list(tests.values())
    return lambda one: all(any(test(one) for test in group) for group in groups)


def _id(value: str, _: Engine) -> Test:
    if re.fullmatch("[0-9a-f]*", value):
        return lambda one: one.id.startswith(value)
    pattern = _pattern("id", value)
    return lambda one: pattern.search(one.id) is not None


def _name(value: str, _: Engine) -> Test:
    pattern = _pattern("name", value)
    return lambda one: pattern.search(one.config.name) is not None


def _pattern(key: str, value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as err:
        raise InvalidArgument(f'the filter {key}="{value}" is not a pattern: {err}') from err


def _status(value: str, _: Engine) -> Test:
    wanted = _WORDS.get(value)
    if wanted is None:
        raise InvalidArgument(
            f'unknown status "{value}" in a filter', hint="a status is " + ", ".join(_WORDS)
        )
    return lambda one: one.status is wanted


def _label(value: str, _: Engine) -> Test:
    key, equals, wanted = value.partition("=")
    if not equals:
        return lambda one: key in one.config.labels
    return lambda one: one.config.labels.get(key) == wanted


def _no_label(value: str, engine: Engine) -> Test:
    has = _label(value, engine)
    return lambda one: not has(one)


def _exited(value: str, _: Engine) -> Test:
    if not re.fullmatch("-?[0-9]{1,9}", value):
        raise InvalidArgument(f'the filter exited="{value}" needs an exit code')
    code = int(value)
    ended = (Status.EXITED, Status.STOPPED)
    return lambda one: one.status in ended and one.exit is not None and one.exit.code == code


def _before(value: str, engine: Engine) -> Test:
    border = engine.get(value).inspect().created_ns
    return lambda one: one.created_ns < border


def _since(value: str, engine: Engine) -> Test:
    border = engine.get(value).inspect().created_ns
    return lambda one: one.created_ns > border


def _until(value: str, _: Engine) -> Test:
    from longshore.cli.when import moment_ns

    border = moment_ns(value, "the filter until")
    return lambda one: one.created_ns <= border


def _ancestor(value: str, _: Engine) -> Test:
    def test(one: Inspection) -> bool:
        image = one.config.image
        short = image.rpartition("/")[2]
        return bool(image) and value in (image, short, short.partition(":")[0])

    return test


def _command(value: str, _: Engine) -> Test:
    def test(one: Inspection) -> bool:
        words = one.config.entrypoint + one.config.command
        return value in (" ".join(words), words[0] if words else "")

    return test


def _volume(value: str, _: Engine) -> Test:
    source, colon, target = value.partition(":")

    def test(one: Inspection) -> bool:
        for mount in one.config.mounts:
            if colon and (mount.source, mount.target) == (source, target):
                return True
            if not colon and value in (mount.source, mount.target):
                return True
        return False

    return test


def _network(value: str, engine: Engine) -> Test:
    kind, colon, ref = value.partition(":")
    if kind == "container" and colon:
        value = f"container:{engine.get(ref).id}"  # a record has the id
    return lambda one: (one.config.network or "none") == value


def _runtime(value: str, _: Engine) -> Test:
    return lambda one: value in (one.runtime_name, one.runtime_path)


KNOWN: Mapping[str, Callable[[str, Engine], Test]] = {
    "ancestor": _ancestor,
    "before": _before,
    "command": _command,
    "exited": _exited,
    "id": _id,
    "label": _label,
    "label!": _no_label,
    "name": _name,
    "network": _network,
    "runtime": _runtime,
    "since": _since,
    "status": _status,
    "until": _until,
    "volume": _volume,
}
_EVERY = frozenset({"label", "label!"})  # keys whose values must all match
