"""Read volumes, ``--mount`` and tmpfs texts and devices into `Mount` and `Device` values."""

from __future__ import annotations

import os
import re
import stat

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Device, Mount
from longshore.options.names import existing, inside
from longshore.options.parse import integer, nearest, parse_bool, parse_size, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PROPAGATION = "private rprivate shared rshared slave rslave unbindable runbindable"
PROPAGATION: tuple[str, ...] = tuple(_PROPAGATION.split())
_FLAGS = (
    ("ro", "rw"),
    ("bind", "rbind"),
    ("exec", "noexec"),
    ("dev", "nodev"),
    ("suid", "nosuid"),
    ("sync", "async"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("z", "Z"),
    ("tmpcopyup", "notmpcopyup"),
)
_OPPOSITE = {a: b for pair in _FLAGS for a, b in (pair, pair[::-1])}
_BIND = frozenset((*_OPPOSITE, *PROPAGATION)) - {"tmpcopyup", "notmpcopyup"}
_TMPFS = frozenset((*_OPPOSITE, *PROPAGATION)) - {"bind", "rbind", "z", "Z"}
_TMPFS_DATA = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "huge", "mpol"})
_LATER = {
    "O": "an overlay on a volume",
    "U": "changing a volume's owner",
    "copy": "named volumes",
    "nocopy": "named volumes",
    "idmap": "mapped mounts",
}
_LATER_TYPES = ("volume", "image", "glob", "artifact")
_PLAIN_SIZE = re.compile(r"\d{1,19}[kKmMgG%]?", re.ASCII)


def _later(what: str, thing: str, hint: str | None = None) -> HostUnsupported:
    return HostUnsupported(f"{what}: {thing}", "this version does not have it yet", hint=hint)


def parse_volume(spec: str, what: str = "volumes") -> Mount:
    """Return the bind mount of ``SRC:DST[:OPTIONS]``; SRC is an absolute path of the host."""
    source, colon, rest = text(spec, what).partition(":")
    if not colon:
        raise _later(what, f"{spec!r} is a volume without a name", "give SRC:DST")
    target, _, words = rest.partition(":")
    if not source.startswith("/"):
        if source.startswith(".") or "/" in source or not source:
            raise InvalidArgument(
                f"{what}: the source of {spec!r} is not an absolute path",
                hint=f"for the caller's directory: {os.path.join('$PWD', source)}",
            )
        raise _later(what, f"{source!r} is a named volume", "give an absolute path of the host")
    options = [w for w in words.split(",") if w]
    return _bind(source, target, options, f"{what} {spec!r}")


def _bind(source: str, target: str, options: Sequence[str], what: str) -> Mount:
    given = _checked(options, _BIND, what)
    for pair, default in ((("ro", "rw"), "rw"), (PROPAGATION, "rprivate"), (("bind",), "rbind")):
        if default not in given and not any(word in given for word in pair):
            given.append(default)
    return Mount(
        type="bind",
        source=existing(source, what),
        target=_target(target, what),
        options=tuple(given),
    )


def _target(value: str, what: str) -> str:
    path = inside(value, what)
    if path == "/":
        raise InvalidArgument(f"{what}: the target is /", hint="rootfs= is what becomes /")
    return path


def _checked(options: Iterable[str], known: frozenset[str], what: str) -> list[str]:
    """Return the options, each once; refuse those that are unknown or contradict each other."""
    given: list[str] = []
    for word in options:
        if word in given:
            continue
        name = word.partition("=")[0]
        if name in _LATER:
            raise _later(what, f"option {word!r} ({_LATER[name]})")
        if word not in known and not ("=" in word and name in known):
            raise InvalidArgument(
                f"{what}: {word!r} is not an option of this mount", hint=nearest(name, known)
            )
        if (other := _OPPOSITE.get(word)) in given:
            raise InvalidArgument(f"{what}: {other} and {word} contradict each other")
        given.append(word)
    modes = [word for word in given if word in PROPAGATION]
    if len(modes) > 1:
        raise InvalidArgument(f"{what}: {' and '.join(modes)} contradict each other")
    return given


def parse_tmpfs(target: str, options: str, what: str = "tmpfs") -> Mount:
    """Return a tmpfs; options are those of tmpfs(5), such as ``size=64m,mode=1777``."""
    return _tmpfs(target, [w for w in text(options, what).split(",") if w], f"{what} {target!r}")


def _tmpfs(target: str, options: Sequence[str], what: str) -> Mount:
    given = _checked(options, _TMPFS | _TMPFS_DATA, what)
    for index, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name in _TMPFS_DATA:
            if not equals or not value:
                raise InvalidArgument(f"{what}: {name} has no value", hint=f"{name}=VALUE")
            given[index] = f"{name}={_tmpfs_data(name, value, what)}"
        elif equals:
            raise InvalidArgument(f"{what}: {name} takes no value")
    # podman's own defaults for --tmpfs (4.3.1, measured)
    for default in ("rw", "rprivate", "nosuid", "nodev", "tmpcopyup"):
        if default == "rprivate" and any(word in PROPAGATION for word in given):
            continue
        if default not in given and _OPPOSITE.get(default) not in given:
            given.append(default)
    return Mount(
        type="tmpfs",
        source="tmpfs",
        target=_target(target, what),
        options=tuple(word for word in given if word != "notmpcopyup"),
    )


def _tmpfs_data(name: str, value: str, what: str) -> str:
    if name == "size":
        # the kernel reads no fractions and no "mb"
        return value if _PLAIN_SIZE.fullmatch(value) else str(parse_size(value, f"{what} size"))
    if name == "mode" and not re.fullmatch(r"[0-7]{1,5}", value):
        raise InvalidArgument(f"{what}: mode {value!r} is not octal", hint="for example mode=1777")
    if name in ("uid", "gid"):
        return str(integer(value, f"{what} {name}", 0, 2**32 - 2))
    return value


def parse_mount(spec: str, what: str = "mounts") -> Mount:
    """Return the mount of ``type=bind,source=…,target=…[,ro]`` and its like, as ``--mount``.

    Types: bind, tmpfs, devpts, ramfs, mqueue. A value with commas stands in quotes, as CSV has it.
    """
    fields = split_csv(text(spec, what))
    what = f"{what} {spec!r}"
    kind = source = target = ""
    options: list[str] = []
    recursive = True
    for field in fields:
        key, equals, value = field.partition("=")
        if key == "type":
            kind = value
        elif key in ("source", "src"):
            source = value
        elif key in ("target", "destination", "dst"):
            target = value
        elif key in ("ro", "readonly"):
            options.append("ro" if parse_bool(value, f"{what}: {key}") else "rw")
        elif key == "rw":
            options.append("rw" if parse_bool(value, f"{what}: {key}") else "ro")
        elif key == "bind-propagation":
            if value not in PROPAGATION:
                raise InvalidArgument(
                    f"{what}: bind-propagation={value} is not known", hint=_PROPAGATION
                )
            options.append(value)
        elif key == "bind-nonrecursive":
            recursive = not parse_bool(value, f"{what}: {key}")
        elif key == "relabel":
            if value not in ("shared", "private"):
                raise InvalidArgument(f"{what}: relabel is shared or private, not {value!r}")
            options.append("z" if value == "shared" else "Z")
        elif key in ("tmpfs-size", "tmpfs-mode"):
            options.append(f"{key.removeprefix('tmpfs-')}={value}")
        elif key in ("U", "chown"):
            if parse_bool(value, f"{what}: {key}"):
                options.append("U")
        elif key == "consistency":
            pass  # Docker for Mac's; every engine on Linux takes it and does nothing
        else:
            options.append(field if equals else key)
    if not kind:
        raise InvalidArgument(f"{what}: type= is missing", hint="type=bind or type=tmpfs")
    if not target:
        raise InvalidArgument(f"{what}: target= is missing")
    if kind == "bind":
        if not source:
            raise InvalidArgument(f"{what}: source= is missing")
        return _bind(source, target, options if recursive else [*options, "bind"], what)
    if not recursive:
        raise InvalidArgument(f"{what}: bind-nonrecursive is for type=bind")
    if source and kind not in _LATER_TYPES:
        raise InvalidArgument(f"{what}: type={kind} has no source")
    if kind == "tmpfs":
        return _tmpfs(target, options, what)
    if kind in ("devpts", "ramfs", "mqueue"):
        return Mount(type=kind, source=kind, target=_target(target, what), options=tuple(options))
    if kind in _LATER_TYPES:
        raise _later(what, f"type={kind}")
    raise InvalidArgument(
        f"{what}: type={kind} is not known", hint="bind, tmpfs, devpts, ramfs or mqueue"
    )


def split_csv(spec: str) -> list[str]:
    """Return the fields of a ``--mount``; InvalidArgument for quotes that are not closed."""
    if '"' not in spec:
        return spec.split(",")
    import csv

    try:
        rows = list(csv.reader([spec], strict=True))
    except csv.Error as err:
        raise InvalidArgument(f"mounts: {spec!r}: {err}") from None
    return rows[0] if rows else []


def check_mount(mount: Mount, what: str = "mounts") -> Mount:
    """Return a caller's `Mount` with its paths and options checked and completed."""
    label = f"{what} {mount.target!r}"
    options = [text(word, label) for word in mount.options]
    if mount.type == "bind":
        return _bind(mount.source, mount.target, options, label)
    if mount.type == "tmpfs":
        return _tmpfs(mount.target, options, label)
    if not re.fullmatch(r"[a-z0-9_.]+", mount.type):
        raise InvalidArgument(f"{label}: {mount.type!r} is not a type of file system")
    source = text(mount.source, label) or mount.type
    return Mount(
        type=mount.type, source=source, target=_target(mount.target, label), options=tuple(options)
    )


def check_targets(mounts: Iterable[Mount]) -> None:
    """Refuse two mounts on one target: which of them wins would be a guess."""
    seen: dict[str, Mount] = {}
    for mount in mounts:
        if (other := seen.get(mount.target)) is not None:
            first, second = (m.source or m.type for m in (other, mount))
            raise InvalidArgument(
                f"mounts: {first} and {second} are both to be mounted on {mount.target}",
                hint="leave one of them out",
            )
        seen[mount.target] = mount


def parse_device(spec: str, what: str = "devices") -> Device:
    """Return the device of ``SRC[:DST[:rwm]]`` or ``SRC:rwm``."""
    source, *rest = text(spec, what).split(":")
    target, permissions = source, "rwm"
    if len(rest) == 1 and not rest[0].startswith("/"):
        permissions = rest[0]
    elif rest:
        target, *more = rest
        permissions = more[0] if more else permissions
    if len(rest) > 2:
        raise InvalidArgument(f"{what}: {spec!r} has too many parts", hint="SRC[:DST[:rwm]]")
    return check_device(Device(source=source, target=target, permissions=permissions), what)


def check_device(device: Device, what: str = "devices") -> Device:
    """Return a device that is there, with a clean target; a directory stands for all in it."""
    source = existing(device.source, what)
    permissions = text(device.permissions, what)
    if not permissions or set(permissions) - set("rwm") or len(set(permissions)) < len(permissions):
        raise InvalidArgument(
            f"{what}: {source}: permissions {permissions!r} are not some of r, w and m"
        )
    mode = os.stat(source).st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise InvalidArgument(
            f"{what}: {source} is not a device", hint="volumes= takes files and directories"
        )
    return Device(
        source=source, target=_target(device.target or source, what), permissions=permissions
    )
