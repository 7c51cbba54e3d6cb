"""Read security options, sysctls and namespace modes."""

from __future__ import annotations

import re

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.options.names import absolute, existing, regular
from longshore.options.parse import nearest, parse_bool, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypedDict

    class SecurityOptions(TypedDict):
        """What security options say, under the names of `ContainerConfig`."""

        no_new_privileges: bool
        seccomp: str
        apparmor: str
        selinux_opts: tuple[str, ...]
        mask: tuple[str, ...]
        unmask: tuple[str, ...]


_SECURITY = ("seccomp", "no-new-privileges", "apparmor", "label", "mask", "unmask")
_LABEL = re.compile(r"disable|nested|(?:user|role|type|level|filetype):[A-Za-z0-9_.:,-]+")
_IPC = "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced"
_IPC_SYSCTLS = frozenset("kernel." + name for name in _IPC.split())
_SYSCTL = re.compile(r"[a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_*-]+)+")
_NAMED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def parse_security(values: Iterable[str], what: str = "security_opt") -> SecurityOptions:
    """Return what ``NAME=VALUE`` options say; podman's older ``NAME:VALUE`` is read too."""
    found: SecurityOptions = {
        "no_new_privileges": False,
        "seccomp": "",
        "apparmor": "",
        "selinux_opts": (),
        "mask": (),
        "unmask": (),
    }
    for item in values:
        name, separator, value = _split(text(item, what))
        if name == "no-new-privileges":
            found["no_new_privileges"] = parse_bool(value, f"{what} {name}")
            continue
        if name not in _SECURITY:
            later = {"proc-opts", "systempaths", "writable-cgroups"}
            if name in later:
                raise HostUnsupported(f"{what}: {item!r}", "this version does not have it yet")
            raise InvalidArgument(
                f"{what}: {item!r} is not known",
                hint=nearest(name, _SECURITY) or "known are " + ", ".join(_SECURITY),
            )
        if not separator or not value:
            raise InvalidArgument(f"{what}: {item!r} has no value", hint=f"{name}=VALUE")
        if name == "seccomp":
            found["seccomp"] = value if value == "unconfined" else regular(value, f"{what} {name}")
        elif name == "apparmor":
            found["apparmor"] = value
        elif name == "label":
            if not _LABEL.fullmatch(value):
                raise InvalidArgument(
                    f"{what}: label={value} is not known",
                    hint="disable, nested, or user:, role:, type:, level:, filetype: and a value",
                )
            found["selinux_opts"] += (value,)
        elif name == "mask":
            found["mask"] += parse_paths(value, f"{what} {name}")
        else:
            found["unmask"] += parse_paths(value, f"{what} {name}")
    return found


def _split(item: str) -> tuple[str, str, str]:
    # whichever comes first separates: "mask=/a:/b" and "label:type:x_t" are both meant
    match = re.search(r"[=:]", item)
    if match is None:
        return item, "", ""
    return item[: match.start()], match[0], item[match.end() :]


def parse_paths(value: str, what: str) -> tuple[str, ...]:
    """Return the paths of ``/a:/b``, or ("ALL",)."""
    if value.upper() == "ALL":
        return ("ALL",)
    return tuple(absolute(path, what) for path in value.split(":"))


def check_sysctls(
    values: Mapping[str, str], *, ipc: str, network: str, what: str = "sysctls"
) -> dict[str, str]:
    """Return the kernel settings; only those that belong to a namespace of the container's own."""
    result: dict[str, str] = {}
    for name, value in values.items():
        if not _SYSCTL.fullmatch(text(name, what)):
            raise InvalidArgument(
                f"{what}: {name!r} is not a setting", hint="NAME=VALUE, with dots"
            )
        if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            mode, option = ipc, "ipc"
        elif name.startswith("net."):
            mode, option = network, "network"
        else:
            raise InvalidArgument(
                f"{what}: {name} belongs to the whole host, not to a container",
                hint="net.*, fs.mqueue.* and kernel.msg*, sem and shm* are a container's own",
            )
        if mode == "host":
            raise InvalidArgument(
                f"{what}: {name} would change the host, because {option} is host",
                hint=f"leave one of them out: the setting or {option}=host",
            )
        result[name] = text(value, f"{what} {name}")
        if not value:
            raise InvalidArgument(f"{what}: {name} has no value", hint=f"{name}=VALUE")
        if "\n" in value:
            raise InvalidArgument(f"{what}: the value of {name} contains a newline")
    return result


def namespace(kind: str, value: object) -> str:
    """Return a namespace mode: "", host, private, none, ``container:ID`` or ``ns:PATH``.

    none is for network, and for ipc, where it means one of its own without /dev/shm. shareable is
    for ipc only, and what it is without a word; private there means that nobody joins it.
    """
    mode = "" if value is None else text(value, kind)
    word, colon, rest = mode.partition(":")
    if mode in ("", "host", "private") or (mode == "none" and kind in ("network", "ipc")):
        return mode
    if mode == "shareable" and kind == "ipc":
        return mode
    if word == "container" and colon:
        if not _NAMED.fullmatch(rest):
            raise InvalidArgument(f"{kind}: {rest!r} is not a container's name or id")
        return mode
    if word == "ns" and colon:
        return "ns:" + existing(rest, kind)
    if kind == "network" and _NAMED.fullmatch(word):
        raise HostUnsupported(
            f"network={mode}",
            "this version has the networks none and host, and those of others",
            hint="network=none, host, container:ID or ns:PATH",
        )
    raise InvalidArgument(
        f"{kind}: {mode!r} is not a namespace mode",
        hint="host, private, container:ID or ns:PATH",
    )
