"""What this host is, what it has and what it lacks: info, version, doctor."""

from __future__ import annotations

import os
import re

from longshore import __version__
from longshore._value import Value
from longshore.cgroup.placement import NONE
from longshore.engine.machinery import RUNTIMES, find_program
from longshore.errors import LongshoreError
from longshore.linux.procs import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery


class RuntimeInfo(Value):
    """One OCI runtime of this host. ``version`` is its own text, first line."""

    name: str
    path: str
    version: str


class VersionInfo(Value):
    """Versions of Longshore and of what it drives; "" is not installed."""

    longshore: str
    python: str
    kernel: str
    conmon: str
    runtimes: tuple[RuntimeInfo, ...] = ()


class HostInfo(Value):
    """This host and this engine."""

    version: VersionInfo
    root: str
    run_root: str
    rootless: bool
    cgroup_mode: str  # v1, v2, hybrid, none
    cgroup_manager: str
    cgroup_controllers: tuple[str, ...]
    default_runtime: str  # "" when there is none
    conmon_path: str
    kernel: str
    hostname: str
    arch: str
    cpus: int
    memory: int  # bytes
    seccomp: bool
    apparmor: bool
    selinux: bool
    containers: int
    running: int


class Limit(Value):
    """What will not work on this host, why, and what mends it ("": nothing does)."""

    what: str
    why: str
    hint: str = ""


class Finding(Value):
    """One thing that was checked. ``hint`` is the command that mends it, when it is not ok."""

    name: str
    ok: bool
    found: str
    needed_for: str
    hint: str = ""
    essential: bool = True  # containers need it; else only what ``needed_for`` names does
    features: tuple[str, ...] = ()  # what a program can do, in words
    limits: tuple[Limit, ...] = ()  # what will not work with it here


def version(machinery: Machinery) -> VersionInfo:
    """Ask every program for its version."""
    import sys

    runtimes: list[RuntimeInfo] = []
    for name in dict.fromkeys((*RUNTIMES, *machinery.settings.runtimes)):
        try:
            runtime = machinery.runtime(name)
            words = runtime.version().splitlines()
        except LongshoreError:
            continue
        runtimes.append(
            RuntimeInfo(name=name, path=runtime.path, version=words[0] if words else "")
        )
    return VersionInfo(
        longshore=__version__,
        python=sys.version.split()[0],
        kernel=os.uname().release,
        conmon=_conmon_version(machinery),
        runtimes=tuple(runtimes),
    )


def _conmon_version(machinery: Machinery) -> str:
    try:
        done = run([machinery.conmon, "--version"], timeout=10)
    except LongshoreError:
        return ""
    return done.stdout.decode("utf-8", "replace").partition("\n")[0].removeprefix("conmon version ")


def info(machinery: Machinery) -> HostInfo:
    """Describe this host and this engine."""
    from longshore.engine.inspection import inspect_all
    from longshore.lifecycle import Status

    uname = os.uname()
    found = inspect_all(machinery)
    try:
        default = machinery.runtime().name
    except LongshoreError:
        default = ""
    try:
        conmon = machinery.conmon
    except LongshoreError:
        conmon = ""
    layout = machinery.cgroup_layout
    return HostInfo(
        version=version(machinery),
        root=machinery.settings.root,
        run_root=machinery.settings.run_root,
        rootless=machinery.user is not None,
        cgroup_mode=layout.mode,
        cgroup_manager=machinery.cgroup_manager,
        cgroup_controllers=tuple(sorted(machinery.controllers)),
        default_runtime=default,
        conmon_path=conmon,
        kernel=uname.release,
        hostname=uname.nodename,
        arch=uname.machine,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        seccomp=os.path.exists("/proc/sys/kernel/seccomp"),
        apparmor=os.path.isdir("/sys/kernel/security/apparmor"),
        selinux=os.path.isdir("/sys/fs/selinux/class"),
        containers=len(found),
        running=sum(f.status is Status.RUNNING for f in found),
    )


def doctor(machinery: Machinery) -> list[Finding]:
    """Check everything that containers need here; what is not ok says what mends it."""
    from longshore.engine import checkup

    return [
        _kernel(),
        _privilege(machinery),
        checkup.conmon(machinery, _conmon_version(machinery)),
        *checkup.runtimes(machinery),
        _cgroups(machinery),
        _controllers(machinery),
        _overlay(),
        _seccomp_profile(machinery),
        _program("flock", "a cheap exit command of conmon", install("util-linux"), essential=False),
        _program("catatonit", "--init", install("catatonit"), essential=False),
        checkup.criu(),
        checkup.subordinate_ids(),
        checkup.security_modules(),
        _rlimits(),
    ]


def install(package: str) -> str:
    """Return this host's command that installs a package."""
    for program, command in (("apt-get", "apt-get install"), ("dnf", "dnf install")):
        if find_program(program):
            return f"{command} {package}"
    return f"install {package}"


def _kernel() -> Finding:
    release = os.uname().release
    # "6.1.0-18-amd64", and "5.10+" or "6.18-rc1" of a kernel that somebody built
    numbers = tuple(int(n) for n in re.findall(r"\d+", release)[:2])
    return Finding(
        name="kernel",
        ok=numbers >= (5, 4),
        found=release,
        needed_for="pidfds, on which every wait rests",
        hint="" if numbers >= (5, 4) else "boot a kernel of 5.4 or later",
    )


def _privilege(machinery: Machinery) -> Finding:
    hint, found = "", "root"
    if machinery.user is not None:
        found = f"uid {machinery.user}, with a user namespace of its own"
        try:
            machinery.entering()
        except LongshoreError as err:
            found, hint = (
                f"uid {machinery.user}, and no user namespace: {err}",
                err.hint or "use sudo",
            )
    return Finding(name="privilege", ok=not hint, found=found, needed_for="containers", hint=hint)


def _cgroups(machinery: Machinery) -> Finding:
    layout = machinery.cgroup_layout
    places = [h.mount for h in layout.hierarchies]
    if machinery.user is not None:
        manager = machinery.cgroup_manager
        return Finding(
            name="cgroups",
            ok=manager != NONE,
            found=f"{layout.mode}, " + (f"made by {manager}" if manager != NONE else "none given"),
            needed_for="limits, usage, pause, killing whole trees",
            hint="" if manager != NONE else "log in through systemd, on a host with cgroup v2",
            essential=False,
        )
    writable = bool(places) and all(os.access(p, os.W_OK) for p in places)
    return Finding(
        name="cgroups",
        ok=writable,
        found=f"{layout.mode}" + ("" if writable else ", not writable"),
        needed_for="limits, usage, killing whole trees",
        hint="" if writable else "run as root, with /sys/fs/cgroup mounted read-write",
    )


def _controllers(machinery: Machinery) -> Finding:
    have = machinery.controllers
    enable = "enable them at boot"
    if machinery.user is not None:
        enable = "root can give them, with Delegate= in a drop-in of user@.service"
    wanted = {"memory", "pids", "cpu", "cpuset"}
    io = {"blkio"} if machinery.cgroup_layout.version == 1 else {"io"}
    missing = sorted((wanted | io) - have)
    return Finding(
        name="cgroup controllers",
        ok=not missing,
        found=" ".join(sorted(have)) or "none",
        needed_for="--memory, --cpus, --pids-limit and their like",
        hint=f"missing: {' '.join(missing)}; {enable}" if missing else "",
        essential=machinery.user is None,
    )


def _overlay() -> Finding:
    with open("/proc/filesystems", encoding="ascii") as file:
        have = "\toverlay\n" in file.read()
    return Finding(
        name="overlay",
        ok=have,
        found="in the kernel" if have else "not in /proc/filesystems",
        needed_for="--rootfs PATH:O",
        hint="" if have else "modprobe overlay",
    )


def _seccomp_profile(machinery: Machinery) -> Finding:
    from longshore.engine.context import seccomp_profile

    path = seccomp_profile(machinery)
    return Finding(
        name="seccomp profile",
        ok=bool(path),
        found=path or "none",
        needed_for="the default system call filter",
        hint="" if path else install("golang-github-containers-common or containers-common"),
    )


def _program(name: str, needed_for: str, hint: str, *, essential: bool = True) -> Finding:
    found = find_program(name, ("/usr/libexec/podman", "/usr/lib/podman"))
    return Finding(
        name=name,
        ok=found is not None,
        found=found or "not found",
        needed_for=needed_for,
        hint="" if found else hint,
        essential=essential,
    )


def _rlimits() -> Finding:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(
        name="open files",
        ok=hard == resource.RLIM_INFINITY or hard >= 1024,
        found="unlimited" if hard == resource.RLIM_INFINITY else str(hard),
        needed_for="many containers at once",
        hint="" if hard >= 1024 or hard < 0 else "raise the hard limit of open files (ulimit -Hn)",
    )
