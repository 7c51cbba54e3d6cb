"""``longshore top``: the processes of a container."""

from __future__ import annotations

import sys
import time

from longshore.cli import table, targets
from longshore.cli.flags import Command
from longshore.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.models import ProcessInfo

    Column = tuple[str, Callable[[ProcessInfo], str]]

_STANDARD = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")


def run(app: App, parsed: Parsed) -> int:
    """Print a line for each process."""
    args = list(parsed.args)
    if parsed.on("latest"):
        box = app.engine.get(targets.newest(app.engine.inspect_all()).id)
    elif args:
        box = app.engine.get(args.pop(0))
    else:
        raise InvalidArgument("you must give a name or id, or --latest")
    wanted = _columns(args)
    rows = [[show(process) for _, show in wanted] for process in box.top()]
    sys.stdout.write(table.columns([[heading for heading, _ in wanted], *rows]))
    return 0


def _columns(words: Sequence[str]) -> list[Column]:
    names = [name for word in words for name in word.replace(",", " ").split()]
    found: list[Column] = []
    for name in names or _STANDARD:
        column = _COLUMNS.get(name) or _COLUMNS.get(_AIX.get(name, ""))
        if column is None:
            raise InvalidArgument(
                f"there is no descriptor {name!r}",
                hint=f"it is one of {', '.join(sorted(_COLUMNS))}; "
                "for ps(1) inside the container: `longshore exec CONTAINER ps …`",
            )
        found.append(column)
    return found


def _elapsed(process: ProcessInfo) -> str:
    """Return its age in Go's spelling, as podman shows it: 1h2m3.5s."""
    return _go_duration((time.time_ns() - process.started_ns) / 1e9)


def _go_duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    hours, rest = divmod(int(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    left = whole + seconds % 1
    text = f"{left:.2f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _cpu_share(process: ProcessInfo) -> str:
    age = (time.time_ns() - process.started_ns) / 1e9
    used = process.cpu_user + process.cpu_system
    return f"{used / age * 100 if age > 0 else 0.0:.3f}"


def _capabilities(kind: str) -> Callable[[ProcessInfo], str]:
    def show(process: ProcessInfo) -> str:
        from longshore.options.parse import CAPABILITIES

        mask = process.capabilities.get(kind, 0)
        names = [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]
        if not names:
            return "none"
        whole = len(names) == len(CAPABILITIES)
        return "full" if whole else ",".join(name.removeprefix("CAP_") for name in names)

    return show


# podman-top(1)'s words, and their headings
_COLUMNS: Mapping[str, Column] = {
    "args": ("COMMAND", lambda p: " ".join(p.command)),
    "capbnd": ("BOUNDING CAPS", _capabilities("bounding")),
    "capeff": ("EFFECTIVE CAPS", _capabilities("effective")),
    "capinh": ("INHERITED CAPS", _capabilities("inheritable")),
    "capprm": ("PERMITTED CAPS", _capabilities("permitted")),
    "comm": ("COMMAND", lambda p: p.name),
    "etime": ("ELAPSED", _elapsed),
    "group": ("GROUP", lambda p: p.group),
    "groups": ("GROUPS", lambda p: ",".join(p.groups)),
    "hgroup": ("HGROUP", lambda p: str(p.host_gid)),
    "hpid": ("HPID", lambda p: str(p.host_pid)),
    "huser": ("HUSER", lambda p: str(p.host_uid)),
    "label": ("LABEL", lambda p: p.label),
    "nice": ("NI", lambda p: str(p.nice)),
    "pcpu": ("%CPU", _cpu_share),
    "pgid": ("PGID", lambda p: str(p.pgid)),
    "pid": ("PID", lambda p: str(p.pid)),
    "ppid": ("PPID", lambda p: str(p.ppid)),
    "rgroup": ("RGROUP", lambda p: p.real_group),
    "rss": ("RSS", lambda p: str(p.rss // 1024)),
    "ruser": ("RUSER", lambda p: p.real_user),
    "seccomp": ("SECCOMP", lambda p: p.seccomp),
    "state": ("STATE", lambda p: p.state),
    "stime": ("STIME", lambda p: time.strftime("%H:%M:%S", time.localtime(p.started_ns // 10**9))),
    "time": ("TIME", lambda p: _go_duration(p.cpu_user + p.cpu_system)),
    "tty": ("TTY", lambda p: p.terminal),
    "user": ("USER", lambda p: p.user),
    "vsz": ("VSZ", lambda p: str(p.virtual // 1024)),
}
# ps(1)'s AIX descriptors
_AIX = {
    "%C": "pcpu",
    "%G": "group",
    "%P": "ppid",
    "%U": "user",
    "%a": "args",
    "%c": "comm",
    "%g": "rgroup",
    "%n": "nice",
    "%p": "pid",
    "%r": "pgid",
    "%t": "etime",
    "%u": "ruser",
    "%x": "time",
    "%y": "tty",
    "%z": "vsz",
}

COMMAND = Command(
    run,
    usage="[options] CONTAINER [DESCRIPTOR...]",
    about="""
Lists the processes of a container, those of its execs too, with the pids and names of users that
it sees itself. Nothing is run inside. Descriptors are podman's: args, capeff, comm, etime, group,
hpid, huser, pcpu, pid, ppid, rss, seccomp, state, time, tty, user, vsz and more, or ps(1)'s %U, %p,
%a.""",
    examples=("top box", "top box pid user hpid args", "top box pid,seccomp,capeff"),
    flags=(targets.LATEST,),
    most=None,
    completes="running",
    trailing=True,
)
