"""User namespaces as they are asked for: modes and id maps, checked and in normal form.

The words are podman's (podman-run(1), --userns, --uidmap).
"""

from __future__ import annotations

from longshore.errors import InvalidArgument
from longshore.options.names import existing
from longshore.options.parse import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = ("", "host", "private", "nomap")
_SETTINGS = {"keep-id": ("uid", "gid"), "auto": ("size",)}
LAST_ID = 0xFFFF_FFFE  # the one after it means "no id" to the kernel
_HINT = "host, keep-id[:uid=N,gid=N], auto[:size=N], nomap, private, container:ID or ns:PATH"


def mode(value: object) -> str:
    """Return the mode of --userns: "" (not asked), or a word with its settings."""
    asked = "" if value is None else text(value, "userns")
    word, colon, rest = asked.partition(":")
    if asked in _PLAIN:
        return asked
    if word in _SETTINGS and (rest or not colon):
        settings_of(asked)
        return asked
    if word == "ns" and colon:
        return "ns:" + existing(rest, "userns")
    if word == "container" and rest:
        return asked
    raise InvalidArgument(f"userns: {asked!r} is not a user namespace mode", hint=_HINT)


def settings_of(asked: str) -> dict[str, int]:
    """Return the settings behind the word of a mode, such as uid and gid of keep-id."""
    word, _, rest = asked.partition(":")
    found: dict[str, int] = {}
    for item in filter(None, rest.split(",")):
        name, _, number = item.partition("=")
        if name not in _SETTINGS.get(word, ()):
            raise InvalidArgument(
                f"userns: {word} has no setting {name!r}",
                hint=f"{word}:" + ",".join(f"{known}=N" for known in _SETTINGS.get(word, ())),
            )
        found[name] = _number(number, f"userns {name}", 1 if name == "size" else 0)
    return found


def id_map(values: Iterable[object], what: str) -> tuple[str, ...]:
    """Return ``INSIDE:OUTSIDE[:COUNT]`` items in full. They must not overlap, on either side."""
    found: list[tuple[int, int, int]] = []
    for value in values:
        words = text(value, what).split(":")
        if len(words) not in (2, 3):
            raise InvalidArgument(
                f"{what}: {value!r} is not INSIDE:OUTSIDE[:COUNT]", hint="such as 0:100000:65536"
            )
        inside, outside = (_number(word, what, 0) for word in words[:2])
        count = _number(words[2], what, 1, LAST_ID + 1) if len(words) == 3 else 1
        if max(inside, outside) + count - 1 > LAST_ID:
            raise InvalidArgument(f"{what}: {value!r} goes beyond the last id, {LAST_ID}")
        for other in found:
            for mine, theirs in ((inside, other[0]), (outside, other[1])):
                if mine < theirs + other[2] and theirs < mine + count:
                    before = ":".join(map(str, other))
                    raise InvalidArgument(f"{what}: {value!r} and {before} overlap")
        found.append((inside, outside, count))
    return tuple(":".join(map(str, item)) for item in found)


def check_together(fields: dict[str, object]) -> None:
    """Refuse ways to say it that exclude each other."""
    asked = fields["userns"]
    given = [name for name in ("uidmap", "gidmap", "subuidname", "subgidname") if fields[name]]
    if given and asked not in ("", "private"):
        raise InvalidArgument(
            f"userns: {asked} says already which ids there are, and so does {given[0]}",
            hint="leave one of them out",
        )
    for ids, name in (("uidmap", "subuidname"), ("gidmap", "subgidname")):
        if fields[ids] and fields[name]:
            raise InvalidArgument(f"{ids}: {name} says the same", hint="leave one of them out")


def _number(word: str, what: str, least: int, most: int = LAST_ID) -> int:
    if not word.isascii() or not word.isdigit() or not least <= int(word) <= most:
        raise InvalidArgument(f"{what}: {word!r} is not a number from {least} to {most}")
    return int(word)
