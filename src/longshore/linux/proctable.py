"""What the kernel says of a process that a person may want to see; proc(5)."""

from __future__ import annotations

import functools
import os

from longshore._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_CAPABILITIES = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
}


class ProcessFacts(Value):
    """One process; sizes in bytes, times in seconds. Ids are those of the reader's namespaces."""

    pid: int
    inner_pid: int  # in the innermost pid namespace that it is in
    parent: int
    name: str
    command: tuple[str, ...]
    state: str
    inner_group: int
    terminal: int  # device number; 0 is none
    nice: int
    threads: int
    cpu_user: float
    cpu_system: float
    start: float  # seconds after boot
    virtual: int
    rss: int
    uids: tuple[int, ...]  # real, effective, saved, file system
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    capabilities: Mapping[str, int]
    seccomp: str
    label: str


def read_process(pid: int) -> ProcessFacts | None:
    """Look at one process; None when it has ended."""
    try:
        stat = _bytes(pid, "stat")
        status = _status(pid)
        command = _bytes(pid, "cmdline")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name is in parentheses and may hold any byte, parentheses too
    name = os.fsdecode(stat[stat.index(b"(") + 1 : stat.rindex(b")")])
    fields = stat[stat.rindex(b")") + 2 :].split()
    ticks, page = _units()
    words = (
        tuple(os.fsdecode(word) for word in command.rstrip(b"\0").split(b"\0")) if command else ()
    )
    return ProcessFacts(
        pid=pid,
        inner_pid=int(status.get("NSpid", str(pid)).split()[-1]),
        parent=int(fields[1]),
        name=name,
        command=words or (f"[{name}]",),
        state=fields[0].decode(),
        inner_group=int(status.get("NSpgid", fields[2].decode()).split()[-1]),
        terminal=int(fields[4]),
        nice=int(fields[16]),
        threads=int(fields[17]),
        cpu_user=int(fields[11]) / ticks,
        cpu_system=int(fields[12]) / ticks,
        start=int(fields[19]) / ticks,
        virtual=int(fields[20]),
        rss=int(fields[21]) * page,
        uids=_numbers(status.get("Uid", "")),
        gids=_numbers(status.get("Gid", "")),
        groups=_numbers(status.get("Groups", "")),
        capabilities={
            word: int(status[key], 16) for key, word in _CAPABILITIES.items() if key in status
        },
        seccomp=_SECCOMP.get(status.get("Seccomp", "0"), "disabled"),
        label=_label(pid),
    )


def boot_time_ns() -> int:
    """Return when this host was booted, in nanoseconds since the epoch (btime of /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("btime "):
                return int(line.split()[1]) * 10**9
    return 0


def terminal_name(device: int) -> str:
    """Return the name of a process's terminal as ps(1) shows it, from its device number."""
    if not device:
        return "?"
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:  # the kernel's Documentation/admin-guide/devices.txt
        return f"pts/{(major - 136) * 256 + minor}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return f"{major}:{minor}"


def _status(pid: int) -> dict[str, str]:
    text = _bytes(pid, "status").decode("utf-8", "surrogateescape")
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _label(pid: int) -> str:
    try:
        return _bytes(pid, "attr/current").rstrip(b"\0\n").decode("utf-8", "replace")
    except OSError:  # no security module, or none that labels processes
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


def _bytes(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read()


@functools.cache
def _units() -> tuple[int, int]:
    return os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
