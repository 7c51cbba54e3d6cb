"""``longshore generate systemd``: print the unit of a service that runs a container."""

from __future__ import annotations

import os
import sys

from longshore.cli.app import GLOBALS
from longshore.cli.flags import EACH, LIST, NUMBER, SWITCH, TEXT, Command, Flag
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.units.services import RESTART_POLICIES, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.inspection import Inspection
    from longshore.options import ContainerConfig

# What the unit says itself, or what makes no sense in one.
_OWN = frozenset({
    "cgroups", "cidfile", "conmon-pidfile", "detach", "detach-keys", "interactive", "replace", "rm",
    "sdnotify", "sig-proxy", "trace", "tty",
})  # fmt: skip


def run(app: App, parsed: Parsed) -> int:
    """Print one unit, or write it to a file here."""
    service = _service(app, parsed, app.engine.get(parsed.args[0]).inspect())
    text = service.unit().text()
    if not parsed.on("no-header"):
        text = _header(service.name) + text
    if parsed.on("files"):
        path = os.path.abspath(f"{service.name}.service")
        _write(path, text)
        text = f"{path}\n"
    if parsed.text("format") == "json":
        import json

        text = json.dumps({service.name: text.removesuffix("\n")}, indent=1) + "\n"
    print(text, end="")
    return 0


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as err:
        raise InvalidArgument(f"cannot write {path}: {err.strerror}") from err


def _header(name: str) -> str:
    import time

    from longshore import __version__

    made = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"# {name}.service\n# made by Longshore {__version__}, {made}\n\n"


def _service(app: App, parsed: Parsed, found: Inspection) -> Service:
    config = found.config
    name = found.name if parsed.on("name") else found.id
    parts = (parsed.text("container-prefix"), name)
    timeout = parsed.number("time" if parsed.given("time") else "stop-timeout")
    settings = app.engine.settings
    own_program = program(app.argv[0])
    given = _globals(app.options, settings.root, settings.run_root)
    common = Service(
        name=parsed.text("separator").join(part for part in parts if part),
        program=(*own_program, *given),
        container=name,
        stop_timeout=config.stop_timeout if timeout is None else timeout,
        mounts=(settings.root, settings.run_root),
        restart_policy=parsed.text("restart-policy"),
        restart_sec=parsed.number("restart-sec"),
        start_timeout=parsed.number("start-timeout"),
        network=config.network not in ("", "none"),
        env=tuple(_environment(parsed.many("env"))),
        after=tuple(parsed.many("after")),
        wants=tuple(parsed.many("wants")),
        requires=tuple(parsed.many("requires")),
    )
    if parsed.on("new"):
        own, words = _created_by(config)
        return common.replace(program=(*own_program, *(own or given)), run=words)
    if os.geteuid() != 0 and config.cgroups != "no-conmon":
        # Such a manager takes a pid file's word only for what is in the service's cgroup
        # (systemd.service(5), PIDFile=).
        raise HostUnsupported(
            f"a user's service for container {found.name}, whose conmon has a cgroup of its own",
            "a user's systemd watches only what is in the service's",
            hint="make it with --cgroups=no-conmon, or use --new",
        )
    if config.remove:
        raise InvalidArgument(
            f"container {found.name} is removed when it ends (--rm), and cannot be started again",
            hint="--new makes a new one at each start",
        )
    from longshore.store import Layout

    layout = Layout(settings.root, settings.run_root)
    return common.replace(pidfile=layout.paths(found.id).conmon_pidfile)


def program(argv0: str) -> tuple[str, ...]:
    """Return the absolute command line of this program."""
    from longshore.engine.machinery import find_program

    found = find_program(argv0)
    if found is None or os.path.basename(found) == "__main__.py":
        return (sys.executable, "-m", "longshore")
    return (os.path.abspath(found),)


def _globals(options: Parsed, root: str, run_root: str) -> list[str]:
    """Return the global options of this call that a service needs too."""
    found: list[str] = []
    for flag in GLOBALS:
        if flag.kind == SWITCH or flag.name == "log-level" or not options.given(flag.name):
            continue
        places = {"root": root, "runroot": run_root}
        for value in options.many(flag.name):
            value = places.get(flag.name, value)
            found += [f"--{flag.name}", os.path.abspath(value) if flag.completes else value]
    return found


def _environment(words: Sequence[str]) -> Iterator[str]:
    from longshore.options.parse import parse_env

    pairs = [(n, v if e else None) for n, e, v in (word.partition("=") for word in words)]
    return (f"{name}={value}" for name, value in parse_env(pairs, "--env", os.environ).items())


# --- the command line that made a container ----------------------------------------------------


def _created_by(config: ContainerConfig) -> tuple[list[str], tuple[tuple[str, ...], ...]]:
    """Return the global options, and the options and the command of `run`, in groups of words.

    InvalidArgument where they cannot be repeated by a service, which runs in another directory.
    """
    from longshore.cli.flags import parse
    from longshore.cli.run import COMMAND

    if not config.create_command:
        raise InvalidArgument(
            f"container {config.name} was made by a program, so there is no command to repeat",
            hint="without --new the unit starts the container that exists",
        )
    outer = parse(config.create_command[1:], GLOBALS, trailing=True)
    verb = 2 if outer.args[0] == "container" else 1
    table = {flag.name: flag for flag in (*GLOBALS, *COMMAND.flags)}
    inner = parse(outer.args[verb:], table.values(), trailing=True)
    groups: list[tuple[str, ...]] = [
        ("--cgroups=no-conmon",),
        ("--rm",),
        (f"--sdnotify={_sdnotify(config)}",),
        ("-d",),
        *((("--replace",),) if inner.given("name") else ()),
        *((f"--{name}",) for name in ("interactive", "tty") if getattr(config, name)),
    ]
    words = list(inner.args)
    for name, values in inner._given.items():
        if name == "rootfs":
            groups.append(("--rootfs", config.rootfs + (":O" if config.overlay else "")))
            if values == ["true"]:
                words = words[1:]  # podman's way: the first argument was the directory
        elif name not in _OWN:
            groups += _spelled(config, table[name], values)
    own = [w for n, v in outer._given.items() for g in _spelled(config, table[n], v) for w in g]
    return own, (*groups, (*_ended(words), *words))


def _ended(words: Sequence[str]) -> tuple[str, ...]:
    """Return what keeps a command that begins with ``-`` from being a flag."""
    return ("--",) if words and words[0].startswith("-") else ()


def _sdnotify(config: ContainerConfig) -> str:
    # Few programs say READY=1; where nobody has asked for it, systemd would wait in vain.
    return "container" if config.sdnotify == "container" else "conmon"


def _spelled(config: ContainerConfig, flag: Flag, values: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a flag as it can be given again, by somebody else and anywhere."""
    if flag.kind == SWITCH:
        return [(f"--{flag.name}={values[0]}",)]
    if flag.name in ("pidfile",):
        values = [config.pidfile]
    if flag.name == "env":  # NAME alone took it from who made the container
        values = [word for value in values for word in _told(config, value)]
    for value in values:
        source = value.partition(":")[0]
        if source in (".", "..") or source.startswith(("./", "../")) or (
            flag.completes in ("file", "dir") and not value.startswith("/")
        ):  # fmt: skip
            raise InvalidArgument(
                f"--{flag.name} {value} is relative to where {config.name} was made",
                hint="make the container with an absolute path",
            )
    if flag.kind == LIST:
        values = [_as_csv(value) for value in values]
    return [(f"--{flag.name}", value) for value in values]


def _told(config: ContainerConfig, word: str) -> list[str]:
    name, equals, _ = word.partition("=")
    if equals:
        return [word]
    begins = name.removesuffix("*") if name.endswith("*") else None
    return [
        f"{key}={value}"
        for key, value in config.env.items()
        if key == name or (begins is not None and key.startswith(begins))
    ]


def _as_csv(value: str) -> str:
    if "," not in value and '"' not in value:
        return value
    doubled = value.replace('"', '""')
    return f'"{doubled}"'


def _seconds(name: str, text: str, *, short: str = "") -> Flag:
    return Flag(name, short, NUMBER, text, metavar="SECONDS")


SYSTEMD = Command(
    run,
    usage="[options] CONTAINER",
    about="""
Prints the unit of a service that starts and stops a container that exists, or with --new makes one
at each start as this one was made. It belongs into /etc/systemd/system; see docs/systemd.md.""",
    examples=(
        "generate systemd --new --name web >/etc/systemd/system/container-web.service",
        "generate systemd --files --restart-policy always web",
    ),
    flags=(
        Flag("after", "", EACH, "Units to be started before it", metavar="UNIT"),
        Flag("container-prefix", "", TEXT, "What the unit's name begins with", default="container"),
        Flag("env", "e", EACH, "Set environment variables in the unit; NAME alone takes yours"),
        Flag("files", "f", SWITCH, "Write a file here, and print its path"),
        Flag("format", "", TEXT, "json, for programs", choices=("json",)),
        Flag("name", "n", SWITCH, "Say the container's name, and not its id"),
        Flag("new", "", SWITCH, "Make a new container at each start, and remove it at the end"),
        Flag("no-header", "", SWITCH, "Leave out who made it and when"),
        Flag("requires", "", EACH, "Units without which it does not start", metavar="UNIT"),
        Flag(
            "restart-policy",
            "",
            TEXT,
            "Restart=",
            choices=RESTART_POLICIES,
            default="on-failure",
        ),
        _seconds("restart-sec", "Seconds before it is restarted"),
        Flag("separator", "", TEXT, "What is between prefix and name", default="-"),
        _seconds("start-timeout", "Seconds that its start may take"),
        _seconds("stop-timeout", "Seconds of grace before it is killed"),
        _seconds("time", "The same as --stop-timeout", short="t"),
        Flag("wants", "", EACH, "Units to be started with it", metavar="UNIT"),
    ),
    least=1,
    most=1,
    completes="container",
)
