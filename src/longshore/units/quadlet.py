"""Quadlet: a ``.container`` file becomes the service that runs it.

The keys are podman-systemd.unit(5)'s. What a key says becomes an option of `longshore run`, other
sections go on as they are, and specifiers (%i, %h) and variables stay for systemd to fill in. A key
that this version has nothing for is an error, because a container without it is another one.
"""

from __future__ import annotations

import os

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.units.services import restarting
from longshore.units.unitfile import UnitFile, boolean, command, quoted, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTAINER = "Container"
_CIDFILE = "--cidfile=%t/%N.cid"
_GRACE = 60  # seconds that stopping may take beyond the container's own
_DEFAULT_STOP = 90  # seconds: systemd's own TimeoutStopSec=

# key → option; the last value counts
_ONE: Mapping[str, str] = {
    "CgroupsMode": "cgroups",
    "Entrypoint": "entrypoint",
    "HostName": "hostname",
    "LogDriver": "log-driver",
    "Memory": "memory",
    "PidsLimit": "pids-limit",
    "ShmSize": "shm-size",
    "StopSignal": "stop-signal",
    "StopTimeout": "stop-timeout",
    "UserNS": "userns",
    "WorkingDir": "workdir",
}
# each value is an option
_EACH: Mapping[str, str] = {
    "GroupAdd": "group-add",
    "LogOpt": "log-opt",
    "Mount": "mount",
    "Network": "network",
    "Tmpfs": "tmpfs",
    "Ulimit": "ulimit",
    "Volume": "volume",
}
# each word of each value is
_WORDS: Mapping[str, str] = {
    "AddCapability": "cap-add",
    "Annotation": "annotation",
    "DropCapability": "cap-drop",
    "Environment": "env",
    "Label": "label",
    "Sysctl": "sysctl",
}
_SWITCHES: Mapping[str, str] = {
    "ReadOnly": "read-only",
    "ReadOnlyTmpfs": "read-only-tmpfs",
    "RunInit": "init",
}
# a truth or a value → what --security-opt takes
_SECURITY_SWITCHES: Mapping[str, str] = {
    "NoNewPrivileges": "no-new-privileges",
    "SecurityLabelDisable": "label=disable",
    "SecurityLabelNested": "label=nested",
}
_SECURITY: Mapping[str, str] = {
    "Mask": "mask=",
    "SeccompProfile": "seccomp=",
    "SecurityLabelFileType": "label=filetype:",
    "SecurityLabelLevel": "label=level:",
    "SecurityLabelType": "label=type:",
    "Unmask": "unmask=",
}
_OTHERS = frozenset({
    "AddDevice", "ContainerName", "EnvironmentFile", "Exec", "GlobalArgs", "Group", "Notify",
    "PodmanArgs", "Rootfs", "User",
})  # fmt: skip
KEYS = _OTHERS.union(_ONE, _EACH, _WORDS, _SWITCHES, _SECURITY_SWITCHES, _SECURITY)
# Quadlet's, and nothing here does them yet.
LATER = frozenset({
    "AddHost", "AutoUpdate", "ContainersConfModule", "DNS", "DNSOption", "DNSSearch",
    "EnvironmentHost", "ExposeHostPort", "GIDMap", "HealthCmd", "HealthInterval",
    "HealthLogDestination", "HealthMaxLogCount", "HealthMaxLogSize", "HealthOnFailure",
    "HealthRetries", "HealthStartPeriod", "HealthStartupCmd", "HealthStartupInterval",
    "HealthStartupRetries", "HealthStartupSuccess", "HealthStartupTimeout", "HealthTimeout", "IP",
    "IP6", "Image", "NetworkAlias", "Pod", "PublishPort", "Pull", "Secret", "StartWithPod",
    "SubGIDMap", "SubUIDMap", "Timezone", "UIDMap",
})  # fmt: skip
_CGROUPS = ("enabled", "no-conmon")


def service(
    source: UnitFile,
    *,
    path: str,
    name: str,
    program: str,
    exists: Callable[[str], bool] = os.path.exists,
) -> UnitFile:
    """Return the service for a file's sections.

    ``path`` is where it lies, ``name`` the unit's without a suffix, ``program`` how longshore is
    called. ``exists`` is asked for devices that need not be there. InvalidArgument or
    HostUnsupported names the key that it fails for.
    """
    _check_keys(source)
    oneshot = source.last("Service", "Type") == "oneshot"
    kind = source.last("Service", "Type", "notify")
    if kind not in ("notify", "oneshot"):
        raise InvalidArgument(
            f"[Service] Type={kind}: such a service does not know when its container runs",
            hint="leave it out (notify), or Type=oneshot for a container that ends by itself",
        )
    program = " ".join(
        (program, *(command(words(v, "GlobalArgs")) for v in _all(source, "GlobalArgs")))
    )
    result = UnitFile()
    if boolean(source.last("Quadlet", "DefaultDependencies", "yes"), "DefaultDependencies") and any(
        value not in ("", "none") for value in _all(source, "Network")
    ):
        result.add("Unit", "Wants", "network-online.target")
        result.add("Unit", "After", "network-online.target")
    for section, lines in source.sections.items():
        # kept, so that `systemctl cat` shows what was asked for; systemd skips X- sections
        own = section in (CONTAINER, "Quadlet")
        result.sections.setdefault(f"X-{section}" if own else section, []).extend(lines)
    result.add("Unit", "SourcePath", path)
    for needed in _mounts(source, os.path.dirname(path)):
        result.add("Unit", "RequiresMountsFor", needed)
    for key, value in _lines(source, name, program, os.path.dirname(path), exists, oneshot=oneshot):
        result.add("Service", key, value)
    return result


def _lines(
    source: UnitFile,
    name: str,
    program: str,
    directory: str,
    exists: Callable[[str], bool],
    *,
    oneshot: bool,
) -> list[tuple[str, str]]:
    """Return what the service's own section has beside what was written there."""
    found: list[tuple[str, str]] = []

    def default(key: str, value: str) -> None:
        if not source.has("Service", key):
            found.append((key, value))

    default("KillMode", "mixed")
    default("SyslogIdentifier", "%N")
    for key, value in restarting(source.last("Service", "Restart", "no")):
        default(key, value)
    timeout = source.last(CONTAINER, "StopTimeout")
    if timeout.isdecimal() and int(timeout) + _GRACE > _DEFAULT_STOP:
        default("TimeoutStopSec", str(int(timeout) + _GRACE))
    if not oneshot:
        default("Type", "notify")
        default("NotifyAccess", "all")
    # one is left where the machine lost its power
    found.append(("ExecStartPre", "-/bin/rm -f %t/%N.cid"))
    run = command(_run(source, name, directory, exists, oneshot=oneshot))
    found.append(("ExecStart", f"{program} run {run}"))
    found.append(("ExecStop", f"{program} stop --ignore {_CIDFILE}"))
    found.append(("ExecStopPost", f"-{program} rm -f --ignore {_CIDFILE}"))
    return found


def _check_keys(source: UnitFile) -> None:
    if CONTAINER not in source.sections:
        raise InvalidArgument("there is no [Container] section")
    for key, value in source.sections[CONTAINER]:
        if key in KEYS:
            continue
        if key == "Image":
            raise HostUnsupported(
                f"Image={value}",
                "this version runs containers from a directory only",
                hint="Rootfs=DIRECTORY, or Rootfs=DIRECTORY:O to leave it untouched",
            )
        if key in LATER:
            raise HostUnsupported(f"{key}={value}", "this version does not have it yet")
        from longshore.options.parse import nearest

        raise InvalidArgument(f"{key}= is not a key of [Container]", hint=nearest(key, KEYS))
    if not source.last(CONTAINER, "Rootfs"):
        raise InvalidArgument("there is nothing to run from", hint="Rootfs=DIRECTORY[:O]")
    for key in ("ExecStart", "ExecStop", "ExecStopPost"):
        if source.has("Service", key):
            raise InvalidArgument(
                f"[Service] {key}= is what the container is made of",
                hint="ExecStartPre= and ExecStartPost= are yours; what runs inside is Exec=",
            )


def _run(
    source: UnitFile, name: str, directory: str, exists: Callable[[str], bool], *, oneshot: bool
) -> list[str]:
    """Return the options and the command of `run`."""
    # "@" is in no container's name
    default_name = "systemd-%p_%i" if "@" in name else "systemd-%N"
    container = source.last(CONTAINER, "ContainerName") or default_name
    argv = ["--name", container, _CIDFILE, "--replace", "--rm"]
    if not source.last(CONTAINER, "CgroupsMode"):
        argv.append("--cgroups=no-conmon")
    if not oneshot:
        argv += ["-d", f"--sdnotify={_notify(source)}"]
    for key, option in _ONE.items():
        value = source.last(CONTAINER, key)
        if value:
            argv += [f"--{option}", _checked(key, value)]
    for key, option in _SWITCHES.items():
        if source.has(CONTAINER, key):
            state = boolean(source.last(CONTAINER, key), key)
            argv.append(f"--{option}={'true' if state else 'false'}")
    for key, word in _SECURITY_SWITCHES.items():
        if source.has(CONTAINER, key) and boolean(source.last(CONTAINER, key), key):
            argv += ["--security-opt", word]
    for key, word in _SECURITY.items():
        value = source.last(CONTAINER, key)
        if value:
            argv += ["--security-opt", word + value]
    for key, option in _EACH.items():
        for value in _all(source, key):
            argv += [f"--{option}", _placed(key, _checked(key, value), directory)]
    for key, option in _WORDS.items():
        for value in _all(source, key):
            for word in words(value, key):
                argv += [f"--{option}", word]
    for value in _all(source, "AddDevice"):
        optional = value.startswith("-")
        device = value.removeprefix("-")
        if not optional or exists(device.partition(":")[0]):
            argv += ["--device", device]
    for value in _all(source, "EnvironmentFile"):
        argv += ["--env-file", _from(directory, value)]
    argv += _user(source)
    for value in _all(source, "PodmanArgs"):
        argv += words(value, "PodmanArgs")
    argv += ["--rootfs", _rootfs(source.last(CONTAINER, "Rootfs"))]
    own = words(source.last(CONTAINER, "Exec"), "Exec")
    return [*argv, *(["--"] if own and own[0].startswith("-") else []), *own]


def _all(source: UnitFile, key: str) -> list[str]:
    return source.all(CONTAINER, key)


def _notify(source: UnitFile) -> str:
    value = source.last(CONTAINER, "Notify", "no")
    if value.lower() == "healthy":
        raise HostUnsupported("Notify=healthy", "this version has no health checks")
    return "container" if boolean(value, "Notify") else "conmon"


def _checked(key: str, value: str) -> str:
    if key == "CgroupsMode" and value not in _CGROUPS:
        raise HostUnsupported(f"CgroupsMode={value}", f"it is one of {', '.join(_CGROUPS)} here")
    source = value.partition(":")[0]
    if key == "Volume" and not source.startswith(("/", "%", ".", "$")):
        raise HostUnsupported(
            f"Volume={value}",
            "this version has no named volumes",
            hint="give a directory of the host: Volume=/DIRECTORY:/TARGET",
        )
    if key == "Network" and source.endswith((".network", ".container", ".pod")):
        raise HostUnsupported(f"Network={value}", "this version has no networks of units yet")
    return value


def _user(source: UnitFile) -> list[str]:
    user, group = source.last(CONTAINER, "User"), source.last(CONTAINER, "Group")
    if group and not user:
        raise InvalidArgument(f"Group={group}: there is no User=", hint="give both")
    both = f"{user}:{group}" if group else user
    return ["--user", both] if both else []


def _rootfs(value: str) -> str:
    if not value.startswith(("/", "%")):
        raise InvalidArgument(f"Rootfs={value} is not an absolute path")
    return value


def _from(directory: str, value: str) -> str:
    """Return a path that is relative to where the file lies; specifiers are systemd's."""
    return value if value.startswith(("/", "%")) else os.path.normpath(f"{directory}/{value}")


def _placed(key: str, value: str, directory: str) -> str:
    """Return a mount whose source starts with a dot with one that is absolute."""
    source = _source_of(key, value)
    if not source.startswith("."):
        return value
    whole = _from(directory, source)
    if key == "Volume":
        return whole + value.removeprefix(source)
    import csv
    import io

    text = io.StringIO()
    fields = (f"source={whole}" if _is_source(f) else f for f in _fields(value))
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _source_of(key: str, value: str) -> str:
    """Return what is mounted by a Volume= or Mount=; "" for other keys, or if nothing is named."""
    if key == "Volume":
        return value.partition(":")[0]
    fields = _fields(value) if key == "Mount" else []
    return next((f.partition("=")[2] for f in reversed(fields) if _is_source(f)), "")


def _fields(mount: str) -> list[str]:
    from longshore.options.mounts import split_csv

    return split_csv(mount)


def _is_source(field: str) -> bool:
    return field.startswith(("source=", "src="))


def _mounts(source: UnitFile, directory: str) -> list[str]:
    """Return the directories that have to be there before the container is."""
    found = [_rootfs(source.last(CONTAINER, "Rootfs")).removesuffix(":O")]
    for key in ("Volume", "Mount"):
        placed = (_placed(key, value, directory) for value in _all(source, key))
        found += [_source_of(key, value) for value in placed]
    return [quoted(path) for path in dict.fromkeys(found) if path.startswith("/")]


def enabled(source: UnitFile, name: str) -> list[tuple[str, str]]:
    """Return the links that [Install] asks for, as (path below the unit directory, target).

    That of a template is for its DefaultInstance=; without one there is none.
    """
    unit = f"{name}.service"
    base, at, instance = name.partition("@")
    if at and not instance:
        default = source.last("Install", "DefaultInstance")
        unit = f"{base}@{default}.service" if default else ""
    found: list[tuple[str, str]] = []
    for alias in _install(source, "Alias"):
        found.append((alias, f"{name}.service"))
    if unit:
        for key, suffix in (
            ("WantedBy", "wants"),
            ("RequiredBy", "requires"),
            ("UpheldBy", "upholds"),
        ):
            for other in _install(source, key):
                found.append((f"{other}.{suffix}/{unit}", f"../{name}.service"))
    return found


def _install(source: UnitFile, key: str) -> list[str]:
    found = [word for value in source.all("Install", key) for word in words(value, key)]
    for word in found:
        if "/" in word or word in ("", ".", ".."):
            raise InvalidArgument(f"[Install] {key}={word}: that is not a unit")
    return found
