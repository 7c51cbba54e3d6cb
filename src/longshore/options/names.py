"""Check names, ids and paths. Nothing here touches the host but `stat`."""

from __future__ import annotations

import os
import re

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.options.parse import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ID = (1 << 32) - 2  # 2**32 - 1 means "no change" to setuid(2)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_HOSTNAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?")


def check_name(value: object, what: str = "name") -> str:
    """Return a container's name: a letter or digit, then letters, digits, ``_``, ``.``, ``-``."""
    name = text(value, what)
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what}: {name!r} is not a name",
            hint="a letter or digit first, then letters, digits, '_', '.' and '-'",
        )
    if len(name) > 250:  # it is a file's name in the store
        raise InvalidArgument(
            f"{what}: {name[:20]}… has {len(name)} characters", hint="at most 250"
        )
    return name


def check_hostname(value: object, what: str = "hostname") -> str:
    """Return a host name that the kernel takes: at most 64 bytes (uname(2))."""
    name = text(value, what)
    if name and (len(name) > 64 or not _HOSTNAME.fullmatch(name)):
        raise InvalidArgument(
            f"{what}: {name!r} is not a host name",
            hint="at most 64 letters, digits, '.', '_' and '-', with a letter or digit at each end",
        )
    return name


def check_user(value: object, what: str = "user") -> str:
    """Return ``USER`` or ``USER:GROUP``, each a name or a number; who it is shows at the start."""
    spec = text(value, what)
    if not spec:
        return ""
    parts = spec.split(":")
    if len(parts) > 2 or not all(parts) or any(c.isspace() for c in spec):
        raise InvalidArgument(
            f"{what}: {spec!r} is not USER or USER:GROUP", hint="for example nobody, 1000, 1000:100"
        )
    for part in parts:
        check_id(part, what)
    return spec


def is_id(word: str) -> bool:
    """Whether this is a number that can be a user's or group's."""
    return word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= MAX_ID


def check_id(part: str, what: str) -> str:
    """Return a user's or group's name or number; a number has to fit the kernel's."""
    if part.startswith("-") or (part.isascii() and part.isdigit() and not is_id(part)):
        raise InvalidArgument(f"{what}: {part} is not an id", hint=f"ids are 0 to {MAX_ID}")
    return part


def absolute(value: Any, what: str) -> str:
    """Return an absolute path. Nothing is looked at."""
    if not isinstance(value, str):
        if not hasattr(value, "__fspath__"):
            raise InvalidArgument(f"{what}: {value!r} is not a path")
        value = value.__fspath__()
    path = text(value, what)
    if not path.startswith("/"):
        raise InvalidArgument(
            f"{what}: {path!r} is not an absolute path",
            hint=f"for the caller's directory: {os.path.join('$PWD', path)}" if path else None,
        )
    return path


def existing(value: Any, what: str) -> str:
    """Return an absolute path that leads to something."""
    path = absolute(value, what)
    try:
        os.stat(path)
    except OSError as err:
        raise InvalidArgument(f"{what}: {path}: {err.strerror}") from err
    return path


def regular(value: Any, what: str) -> str:
    """Return the absolute path of a file."""
    path = existing(value, what)
    if not os.path.isfile(path):
        raise InvalidArgument(f"{what}: {path} is not a regular file")
    return path


def directory(value: Any, what: str) -> str:
    """Return the real path of a directory."""
    path = existing(value, what)
    if not os.path.isdir(path):
        raise InvalidArgument(f"{what}: {path} is not a directory")
    return os.path.realpath(path)


def writable_file(value: Any, what: str, *, new: bool = False) -> str:
    """Return an absolute path of a file in a directory that is there."""
    path = absolute(value, what)
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise InvalidArgument(
            f"{what}: {path}: there is no directory {parent}", hint=f"mkdir -p {parent}"
        )
    if os.path.isdir(path):
        raise InvalidArgument(f"{what}: {path} is a directory", hint="name a file in it")
    if new and os.path.lexists(path):
        raise InvalidArgument(f"{what}: {path} exists", hint="remove it, or name another file")
    return path


def inside(value: object, what: str) -> str:
    """Return a clean absolute path inside a container."""
    path = text(value, what)
    if not path.startswith("/"):
        raise InvalidArgument(
            f"{what}: {path!r} is not an absolute path in the container", hint=f"/{path}"
        )
    return os.path.normpath("/" + path.lstrip("/"))


def split_rootfs(spec: str) -> tuple[str, bool]:
    """Return (path, overlay) of the command line's ``PATH`` or ``PATH:O``."""
    path, colon, word = text(spec, "rootfs").rpartition(":")
    if colon and word == "O":
        return path, True
    if colon and word.split("=")[0].split(",")[0] == "idmap":
        raise HostUnsupported(
            "rootfs: idmap needs user namespaces", "a later version will have them"
        )
    return spec, False
