"""What a caller may ask of a second process in a container, and its checked, normal form."""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.options import names as n
from longshore.options import parse as p
from longshore.options import read as r

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypedDict

    class ExecOptions(TypedDict, total=False):
        """Options of `exec` and `popen`. What is not asked for is as in the container itself."""

        env: (
            Mapping[str, str] | Iterable[str] | None
        )  # {"A": "1"}, or "A=1"; "A" takes the caller's
        workdir: str | None
        user: str | None  # name or uid, with :group or :gid; looked up inside the container
        privileged: bool  # all capabilities that this process may hand on; the filter stays
        cap_add: Iterable[str]
        no_new_privileges: bool
        tty: bool
        console_size: tuple[int, int] | None  # (rows, columns) of the terminal at its beginning
        preserve_fds: Iterable[int]  # descriptors of the caller: 3, 4, … inside, in this order


KNOWN = (
    "env", "workdir", "user", "privileged", "cap_add", "no_new_privileges", "tty", "console_size",
    "preserve_fds",
)  # fmt: skip
_MOST_FDS = 1000
_LARGEST_SIDE = (1 << 16) - 1  # struct winsize has unsigned shorts


class ExecConfig(Value):
    """A second process as it was asked for: checked, complete, and free of the caller's objects."""

    command: tuple[str, ...]
    env: Mapping[str, str] = {}  # beyond the container's own
    workdir: str = ""  # "" is the container's
    user: str = ""  # "" is the container's
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # CAP_… names; "ALL" is kept as CAP_ALL
    no_new_privileges: bool = False
    tty: bool = False
    stdin: bool = False  # somebody writes to its standard input; else that is /dev/null
    console_size: tuple[int, ...] | None = None  # (rows, columns)
    preserve_fds: tuple[int, ...] = ()


def normalize_exec(
    command: Sequence[str], options: ExecOptions, *, stdin: bool = False
) -> ExecConfig:
    """Check everything that was asked and return its normal form; nothing is touched.

    An option that is None is not given. Raises `InvalidArgument` for what makes no sense. Who the
    user is, and whether this host has the capabilities, shows when the process is described
    (`oci.process`).
    """
    for key in options:
        if key not in KNOWN:
            raise InvalidArgument(f"{key!r} is not an option of exec", hint=p.nearest(key, KNOWN))
    words = r.argv(command, "command")
    if not words:
        raise InvalidArgument("there is no command to run", hint='give one, such as ["ps"]')
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    if not given:
        return ExecConfig(command=words, stdin=stdin)
    config = ExecConfig(
        command=words,
        env=p.parse_env(r.pairs(given, "env"), "env", os.environ),
        workdir=n.inside(given["workdir"], "workdir") if given.get("workdir") else "",
        user=n.check_user(given.get("user", "")),
        privileged=r.flag(given, "privileged"),
        cap_add=p.parse_capabilities(r.strings(given, "cap_add"), "cap_add"),
        no_new_privileges=r.flag(given, "no_new_privileges"),
        tty=r.flag(given, "tty"),
        stdin=stdin,
        console_size=console_size(given.get("console_size")),
        preserve_fds=_descriptors(given),
    )
    if config.console_size is not None and not config.tty:
        raise InvalidArgument(
            "console_size: there is no terminal, because tty is not asked for",
            hint="tty=True, or leave it out",
        )
    return config


def console_size(value: Any, what: str = "console_size") -> tuple[int, int] | None:
    """Return the size of a terminal, (rows, columns), or raise `InvalidArgument`; None is none."""
    if value is None:
        return None
    try:
        rows, columns = value
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"{what}: {value!r} is not (rows, columns)", hint="for example (24, 80)"
        ) from None
    return (
        p.integer(rows, f"{what}: rows", 0, _LARGEST_SIDE),
        p.integer(columns, f"{what}: columns", 0, _LARGEST_SIDE),
    )


def _descriptors(given: Mapping[str, Any]) -> tuple[int, ...]:
    found: list[int] = []
    for item in r.items(given, "preserve_fds", (int,)):
        fd = p.integer(item, "preserve_fds", 0, (1 << 31) - 1)
        try:
            os.fstat(fd)
        except OSError as err:
            raise InvalidArgument(
                f"preserve_fds: descriptor {fd} is not open", hint="open it before, keep it open"
            ) from err
        found.append(fd)
    if len(found) > _MOST_FDS:
        raise InvalidArgument(f"preserve_fds: {len(found)} are more than {_MOST_FDS}")
    return tuple(found)
