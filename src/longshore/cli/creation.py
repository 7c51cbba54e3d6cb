"""The flags that `run` and `create` share, and what they become: `CreateOptions`.

Values are handed on as they were typed; `longshore.options` judges them. Only what has to be read
here (files that flags name, paths that are relative to the caller) is.
"""

from __future__ import annotations

import json
import os

from longshore.cli.flags import (
    ATTACHED,
    EACH,
    INT,
    LIST,
    MAYBE,
    NUMBER,
    SWITCH,
    TEXT,
    UINT,
    Flag,
)
from longshore.errors import InvalidArgument, NameInUse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from longshore.cli.flags import Parsed
    from longshore.engine.container import Container
    from longshore.engine.engine import Engine
    from longshore.options import CreateOptions

__all__ = ["FLAGS", "make", "options_of", "value_of"]

_SIZE = "NUMBER[UNIT]"
_FILE = "file"

FLAGS: tuple[Flag, ...] = (
    Flag("annotation", "", LIST, "Add annotations", metavar="KEY=VALUE"),
    Flag("blkio-weight", "", UINT, "Block IO weight, 10 to 1000"),
    Flag("blkio-weight-device", "", LIST, "Weight of a block device", metavar="PATH:WEIGHT"),
    Flag("cap-add", "", LIST, "Add capabilities", metavar="CAP"),
    Flag("cap-drop", "", LIST, "Take capabilities away", metavar="CAP"),
    Flag("cgroup-manager", "", TEXT, "Who makes the cgroup (cgroupfs or systemd)", metavar="NAME"),
    Flag("cgroup-parent", "", TEXT, "The cgroup to make the container's in", metavar="PATH"),
    Flag("cgroupns", "", TEXT, "Cgroup namespace to use", metavar="MODE"),
    Flag("cgroups", "", TEXT, "enabled, or no-conmon: conmon stays where it is", metavar="MODE"),
    Flag(
        "cidfile",
        "",
        TEXT,
        "Write the id to a file that must be new",
        metavar="FILE",
        completes=_FILE,
    ),
    Flag(
        "conmon-pidfile",
        "",
        TEXT,
        "Write the pid of conmon to a file",
        metavar="FILE",
        completes=_FILE,
    ),
    Flag("cpu-period", "", UINT, "Period of the CPU quota, in microseconds"),
    Flag("cpu-quota", "", INT, "CPU time in each period, in microseconds"),
    Flag("cpu-shares", "c", UINT, "Weight against other containers when CPU is scarce"),
    Flag("cpus", "", TEXT, "Number of CPUs, such as 1.5", metavar="NUMBER"),
    Flag("cpuset-cpus", "", TEXT, "CPUs to run on, such as 0-3 or 0,1", metavar="LIST"),
    Flag("cpuset-mems", "", TEXT, "Memory nodes to use", metavar="LIST"),
    Flag(
        "device",
        "",
        LIST,
        "Add a device of the host, or a CDI device (VENDOR/CLASS=NAME)",
        metavar="DEVICE",
    ),
    Flag("device-read-bps", "", LIST, "Bytes a second read from a device", metavar="PATH:SIZE"),
    Flag("device-read-iops", "", LIST, "Reads a second from a device", metavar="PATH:NUMBER"),
    Flag("device-write-bps", "", LIST, "Bytes a second written to a device", metavar="PATH:SIZE"),
    Flag("device-write-iops", "", LIST, "Writes a second to a device", metavar="PATH:NUMBER"),
    Flag("entrypoint", "", TEXT, "Program to run the command with; text or a JSON list"),
    Flag("env", "e", EACH, "Set environment variables; NAME alone takes the caller's"),
    Flag(
        "env-file",
        "",
        LIST,
        "Read environment variables from a file",
        metavar="FILE",
        completes=_FILE,
    ),
    Flag("gidmap", "", LIST, "Group ids of its own user namespace", metavar="IN:OUT[:N]"),
    Flag(
        "gpus",
        "",
        LIST,
        "Add GPUs, all or such as 0,1: CDI devices of nvidia.com/gpu",
        metavar="GPU",
    ),
    Flag("group-add", "", LIST, "Add groups to the process", metavar="GROUP"),
    Flag("hostname", "h", TEXT, "Host name inside the container", metavar="NAME"),
    Flag("init", "", SWITCH, "Run an init that forwards signals and reaps processes"),
    Flag("init-path", "", TEXT, "The init program", metavar="PATH", completes=_FILE),
    Flag("interactive", "i", SWITCH, "Keep standard input open"),
    Flag("ipc", "", TEXT, "IPC namespace to use", metavar="MODE"),
    Flag("label", "l", EACH, "Set labels", metavar="KEY=VALUE"),
    Flag("label-file", "", LIST, "Read labels from a file", metavar="FILE", completes=_FILE),
    Flag("log-driver", "", TEXT, "Where output is kept (k8s-file or none)", metavar="NAME"),
    Flag("log-opt", "", LIST, "Of the log: path=, max-size=, max-file=", metavar="KEY=VALUE"),
    Flag("memory", "m", TEXT, "Memory limit, such as 64m", metavar=_SIZE),
    Flag("memory-reservation", "", TEXT, "Soft memory limit", metavar=_SIZE),
    Flag("memory-swap", "", TEXT, "Limit of memory and swap together; -1: none", metavar=_SIZE),
    Flag("memory-swappiness", "", INT, "Readiness to swap, 0 to 100; -1 is the host's"),
    Flag("mount", "", EACH, "Mount a file system", metavar="type=TYPE,…"),
    Flag("name", "", TEXT, "Name of the container", metavar="NAME"),
    Flag("net", "", TEXT, "Network to use", metavar="MODE", hidden=True),
    Flag("network", "", TEXT, "Network to use: none, host, container:ID, ns:PATH", metavar="MODE"),
    Flag("oom-score-adj", "", INT, "How soon the kernel kills it for memory, -1000 to 1000"),
    Flag("pid", "", TEXT, "PID namespace to use", metavar="MODE"),
    Flag(
        "pidfile",
        "",
        TEXT,
        "Write the pid of the process to a file",
        metavar="FILE",
        completes=_FILE,
    ),
    Flag("pids-limit", "", INT, "Number of processes at most; -1: no limit"),
    Flag("privileged", "", SWITCH, "Give every privilege of the host"),
    Flag("read-only", "", SWITCH, "Make the root file system read-only"),
    Flag(
        "read-only-tmpfs",
        "",
        SWITCH,
        "With --read-only, put a tmpfs on /run, /tmp and /var/tmp",
        default="true",
    ),
    Flag("replace", "", SWITCH, "Remove the container that has the name, whatever it does"),
    Flag("rm", "", SWITCH, "Remove the container when it has ended"),
    Flag(
        "rootfs",
        "",
        MAYBE,
        "Run from a directory instead of an image; with :O it stays untouched",
        metavar="PATH[:O]",
        completes="dir",
    ),
    Flag("runtime", "", TEXT, "The OCI runtime, by name or path", metavar="NAME"),
    Flag(
        "sdnotify",
        "",
        TEXT,
        "What NOTIFY_SOCKET is for: container, conmon or ignore (default container)",
        metavar="MODE",
    ),
    Flag(
        "security-opt", "", EACH, "Security options, such as seccomp=unconfined", metavar="OPTION"
    ),
    Flag("shm-size", "", TEXT, "Size of /dev/shm", metavar=_SIZE),
    Flag(
        "spec-patch",
        "",
        TEXT,
        "Change the OCI configuration by a JSON merge patch (RFC 7396)",
        metavar="FILE",
        completes=_FILE,
    ),
    Flag("stop-signal", "", TEXT, "Signal that stops it", metavar="SIGNAL"),
    Flag("stop-timeout", "", NUMBER, "Seconds that `stop` waits before it kills"),
    Flag("subgidname", "", TEXT, "Whose subordinate group ids it has", metavar="NAME"),
    Flag("subuidname", "", TEXT, "Whose subordinate user ids it has", metavar="NAME"),
    Flag("sysctl", "", LIST, "Set kernel parameters", metavar="KEY=VALUE"),
    Flag("timeout", "", NUMBER, "Seconds after which the container is killed"),
    Flag("tmpfs", "", EACH, "Mount a tmpfs", metavar="PATH[:OPTIONS]"),
    Flag(
        "trace",
        "",
        ATTACHED,
        "Show the time of each phase",
        choices=("table", "json"),
        metavar="FORM",
    ),
    Flag("tty", "t", SWITCH, "Give the process a terminal"),
    Flag("uidmap", "", LIST, "User ids of its own user namespace", metavar="IN:OUT[:N]"),
    Flag("ulimit", "", LIST, "Resource limits", metavar="NAME=SOFT[:HARD]"),
    Flag("umask", "", TEXT, "File mode mask of the process, in octal", metavar="MASK"),
    Flag("user", "u", TEXT, "User to run as", metavar="USER[:GROUP]"),
    Flag("userns", "", TEXT, "User namespace to use", metavar="MODE"),
    Flag("uts", "", TEXT, "UTS namespace to use", metavar="MODE"),
    Flag("volume", "v", EACH, "Mount a directory or file of the host", metavar="SRC:DST[:OPTIONS]"),
    Flag("workdir", "w", TEXT, "Directory to start in", metavar="DIR"),
)

# Flags whose option has another name; all others only change - to _.
_NAMES: Mapping[str, str] = {
    "annotation": "annotations",
    "device": "devices",
    "label": "labels",
    "mount": "mounts",
    "net": "network",
    "rm": "remove",
    "sysctl": "sysctls",
    "timeout": "run_timeout",
    "ulimit": "ulimits",
    "volume": "volumes",
}
_READ_HERE = frozenset({"env-file", "label-file", "replace", "rootfs", "spec-patch", "trace"})
_NOT_EMPTY = frozenset({"annotation", "device"})  # which nobody gives by an unset variable
_PATHS = frozenset({"cidfile", "conmon-pidfile", "pidfile"})


def options_of(parsed: Parsed, argv: Sequence[str]) -> tuple[str | None, list[str], CreateOptions]:
    """Return the image, the command and the options that a command line asks for."""
    options: dict[str, Any] = {"create_command": list(argv)}
    for flag in FLAGS:
        if flag.name not in _READ_HERE and parsed.given(flag.name):
            options[_NAMES.get(flag.name, flag.name.replace("-", "_"))] = value_of(flag, parsed)
    if options.get("memory_swappiness") == -1:
        del options["memory_swappiness"]
    if "volumes" in options:
        options["volumes"] = [_from_here(volume) for volume in options["volumes"]]
    if parsed.given("env-file"):
        options["env"] = [*_environment(parsed.many("env-file")), *options.get("env", ())]
    if parsed.given("label-file"):
        lines = [line for path in parsed.many("label-file") for line in _label_lines(path)]
        options["labels"] = [*lines, *options.get("labels", ())]
    if parsed.given("spec-patch"):
        options["spec_patch"] = _patch(parsed.text("spec-patch"))
    words = list(parsed.args)
    image = _root(parsed, words, options)
    return image, words, options  # type: ignore[return-value]  # keys are those of the table


def value_of(flag: Flag, parsed: Parsed) -> object:
    """Return what a command line gives for a flag, as an option takes it."""
    if flag.kind == SWITCH:
        return parsed.on(flag.name)
    if flag.kind in (EACH, LIST):
        values = parsed.many(flag.name)
        if not values and flag.name in _NOT_EMPTY:
            raise InvalidArgument(f"--{flag.name} is empty", hint=f"--{flag.name} {flag.metavar}")
        return values
    if flag.kind in (INT, UINT):
        return parsed.integer(flag.name)
    if flag.kind == NUMBER:
        return parsed.number(flag.name)
    text = parsed.text(flag.name)
    return os.path.abspath(text) if flag.name in _PATHS and text else text


def _root(parsed: Parsed, words: list[str], options: dict[str, Any]) -> str | None:
    """Take the image or the root directory off the words, and return the image."""
    where = parsed.maybe("rootfs")
    if where in (None, "false"):
        if not words:
            raise InvalidArgument(
                "there is nothing to run from",
                hint="give --rootfs DIRECTORY; --rootfs /:O runs on an untouched view of this host",
            )
        return words.pop(0)
    if where == "true":  # podman's way: the first argument is the directory
        if not words:
            raise InvalidArgument("--rootfs needs a directory", hint="--rootfs DIRECTORY[:O]")
        where = words.pop(0)
    from longshore.options.names import split_rootfs

    path, overlay = split_rootfs(where or "")
    options["rootfs"] = os.path.abspath(path) if path else path
    options["overlay"] = overlay
    return None


def _from_here(volume: str) -> str:
    """Make the source of a volume absolute where it is relative by its looks, as podman does."""
    source, colon, rest = volume.partition(":")
    if source in (".", "..") or source.startswith(("./", "../")):
        return os.path.abspath(source) + colon + rest
    return volume


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as err:
        raise InvalidArgument(f"cannot read the {what} {path}: {err.strerror}") from err


def _environment(paths: Sequence[str]) -> list[str]:
    from longshore.options.parse import parse_env_file

    found: dict[str, str] = {}
    for path in paths:
        found |= parse_env_file(_read(path, "env file"), what=path)
    return [f"{name}={value}" for name, value in found.items()]


def _label_lines(path: str) -> list[str]:
    lines = [line.strip() for line in _read(path, "label file").split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def _patch(path: str) -> Mapping[str, Any]:
    text = _read(path, "spec patch")
    try:
        patch = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise InvalidArgument(f"the spec patch {path} is not JSON: {err}") from err
    if not isinstance(patch, dict):
        raise InvalidArgument(f"the spec patch {path} is not a JSON object")
    return patch  # pyright: ignore[reportUnknownVariableType]


def make(engine: Engine, parsed: Parsed, argv: Sequence[str], *, starts: bool = False) -> Container:
    """Create the container that a command line asks for, which ``starts`` at once or later."""
    image, command, options = options_of(parsed, argv)
    replaces, name = parsed.on("replace"), options.get("name")
    if replaces and not name:
        raise InvalidArgument("--replace: no --name says which container")
    try:
        return engine._create(image, command or None, options, checked=not starts)
    except NameInUse:
        if not replaces or not name:
            raise
    engine.get(name).remove(force=True, missing_ok=True)
    return engine._create(image, command or None, options, checked=not starts)
