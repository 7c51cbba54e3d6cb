"""What `doctor` looks at in other people's programs, and in what the kernel offers them."""

from __future__ import annotations

import os
import pwd
import re

from longshore.engine import trial
from longshore.engine.host import Finding, Limit, install
from longshore.engine.machinery import RUNTIMES, find_program
from longshore.errors import LongshoreError
from longshore.linux.files import read_file
from longshore.linux.procs import run
from longshore.runtime import abilities
from longshore.runtime.features import takes_flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.runtime import Runtime
    from longshore.runtime.abilities import Abilities

_TIMEOUT = 10.0  # seconds
_NEEDS = "running containers"

# conmon's option → what it is for; those that every start uses come first
_NEEDED = ("--full-attach", "--api-version", "--replace-listen-pid")
_MORE = {
    "--leave-stdin-open": "input that survives its writer",
    "--log-rotate": "rotates logs itself",
    "--sdnotify-socket": "passes sd_notify on",
    "--persist-dir": "keeps out-of-memory marks",
}
_CONFINING = ("apparmor", "selinux")
_MODULES = "/sys/kernel/security/lsm"
_OF_ROOT = "containers"  # whose ids root's containers get: podman-create(1), --userns auto
_SUBORDINATE = ("/etc/subuid", "/etc/subgid")


# --- runtimes ------------------------------------------------------------------------------------


def runtimes(machinery: Machinery) -> list[Finding]:
    """Look at every runtime of this host, each tried out; the last one says if none will do."""
    try:
        default = machinery.runtime().path
    except LongshoreError:
        default = ""
    found: list[Finding] = []
    for name in dict.fromkeys((*RUNTIMES, *machinery.settings.runtimes)):
        try:
            runtime = machinery.runtime(name)
            version = runtime.version()
        except LongshoreError as err:
            if name in machinery.settings.runtimes and not _is_everyones(name):
                found.append(_missing(name, err))
            continue
        found.append(_runtime(machinery, runtime, version, essential=runtime.path == default))
    if not any(one.ok for one in found):
        other = "runc" if machinery.cgroup_layout.mode == "hybrid" else "crun"
        found.append(
            Finding(
                name="runtime",
                ok=False,
                found="none that works here",
                needed_for="every container",
                hint=install(other),
            )
        )
    return found


def _is_everyones(name: str) -> bool:
    """Whether a name stands in the containers.conf that everybody gets, there or not."""
    return name in RUNTIMES or name in ("kata", "krun", "ocijail", "crun-vm", "crun-wasm")


def _missing(name: str, error: LongshoreError) -> Finding:
    return Finding(
        name=f"runtime {name}",
        ok=False,
        found=str(error),
        needed_for=f"--runtime {name}",
        hint="install it, or take it out of [engine.runtimes] in containers.conf",
        essential=False,
    )


def _runtime(machinery: Machinery, runtime: Runtime, version: str, *, essential: bool) -> Finding:
    can = abilities.ask(runtime, version)
    trouble = trial.trouble(machinery, runtime)
    limits = _limits(machinery, runtime, can)
    hint = ""
    if trouble is not None:
        why = str(trouble).rpartition(f"{runtime.name}: ")[2]
        hint = trouble.hint or "use another one with --runtime"
        limits.insert(0, Limit(what="containers", why=why, hint=hint))
    return Finding(
        name=f"runtime {runtime.name}",
        ok=trouble is None,
        found=f"{runtime.path}: {version.partition(chr(10))[0]}",
        needed_for=_NEEDS if essential else f"--runtime {runtime.name}",
        hint=hint,
        essential=essential,
        features=can.words(),
        limits=tuple(limits),
    )


def _limits(machinery: Machinery, runtime: Runtime, can: Abilities) -> list[Limit]:
    """Return what will not work with a runtime here, as far as it says so itself."""
    found: list[Limit] = []
    version = machinery.cgroup_layout.version
    built = f"{runtime.path} was built without"
    other = f"{install(runtime.name)}: a distribution's own has it"
    if can.seccomp is False:
        found.append(Limit(what="system call filters", why=f"{built} seccomp", hint=other))
    for module, have in (("apparmor", can.apparmor), ("selinux", can.selinux)):
        if have is False and module in _modules():
            found.append(
                Limit(what=f"{module} profiles and labels", why=f"{built} {module}", hint=other)
            )
    if (can.cgroup_v1, can.cgroup_v2)[version - 1] is False:
        found.append(Limit(what="cgroups", why=f"it knows no cgroup v{version}", hint=other))
    if can.systemd is False:
        found.append(Limit(what="--cgroup-manager systemd", why=f"{built} systemd", hint=other))
    if can.checkpoint is False:
        found.append(Limit(what="checkpoint and restore", why="it has none of CRIU", hint=other))
    if not can.update:
        found.append(
            Limit(
                what="update while it runs",
                why=f"it has no `{runtime.name} update`",
                hint="stop it first: the limits hold from the next start on",
            )
        )
    if can.sandbox:
        found += _sandbox_limits(runtime, can)
    elif not can.exec_cgroup:
        found.append(
            Limit(
                what="usage of an exec, and the end of all that it has begun",
                why="its exec has no --cgroup: processes are told by their parents",
                hint="use another one with --runtime",
            )
        )
    if runtime.name in machinery.settings.runtimes_kvm and not os.access("/dev/kvm", os.W_OK):
        found.append(
            Limit(
                what="containers",
                why="it runs them in virtual machines, and there is no /dev/kvm for this user",
                hint="modprobe kvm_intel or kvm_amd; usermod --append --groups kvm USER",
            )
        )
    if not machinery.logs_json(runtime.name):
        found.append(
            Limit(
                what="telling an exec's own exit code from a failure of the runtime",
                why="containers.conf does not name it in runtime_supports_json",
                hint="add it there, if it has --log and --log-format=json",
            )
        )
    return found


def _sandbox_limits(runtime: Runtime, can: Abilities) -> list[Limit]:
    why = "its processes are in a sandbox, and none of the host's"
    found = [
        Limit(what="top", why=why, hint="exec a ps inside"),
        Limit(what="cp while it runs", why=why, hint="stop it first, or exec a tar"),
        Limit(what="usage of an exec, and a cgroup for it", why=why),
        Limit(what="an early end of a stop whose signal nobody takes", why=why),
        Limit(what="devices, and what only the host's own kernel can do", why=why),
    ]
    if not can.exec_terminal:
        no_flag = f"exec of {runtime.name} has no --tty"
        found.append(Limit(what="exec --tty", why=no_flag, hint="leave --tty out"))
    return found


# --- conmon and CRIU -----------------------------------------------------------------------------


def conmon(machinery: Machinery, version: str) -> Finding:
    """Look for conmon, and for the options that a start gives it."""
    try:
        path = machinery.conmon
    except LongshoreError as err:
        return Finding(
            name="conmon",
            ok=False,
            found=str(err),
            needed_for="every container",
            hint=install("conmon"),
        )

    def has(flag: str) -> bool:
        return takes_flag(path, "", flag, cache_dir=machinery.layout.cache)

    lacking = [flag for flag in _NEEDED if not has(flag)]
    limits = () if has("--log-rotate") else (
        Limit(
            what="logs that conmon rotates itself",
            why=f"conmon {version} has no --log-rotate",
            hint="nothing to do: longshore's own supervisor rotates them",
        ),
    )  # fmt: skip
    return Finding(
        name="conmon",
        ok=not lacking,
        found=f"{path} {version}" + (f", without {' '.join(lacking)}" if lacking else ""),
        needed_for="every container",
        hint=f"{install('conmon')}: 2.1.2 or later" if lacking else "",
        features=tuple(words for flag, words in _MORE.items() if has(flag)),
        limits=limits,
    )


def criu() -> Finding:
    """Look for CRIU, and ask it whether it works with this kernel."""
    needed_for = "checkpoint and restore"
    path = find_program("criu")
    if path is None:
        return Finding(
            name="criu",
            ok=False,
            found="not found",
            needed_for=needed_for,
            hint=install("criu"),
            essential=False,
        )
    version, words, works = "", "", False
    try:
        version = run([path, "--version"], timeout=_TIMEOUT).stdout.decode("utf-8", "replace")
        done = run([path, "check"], timeout=_TIMEOUT)
        works = done.returncode == 0
        words = (done.words or done.stdout.decode("utf-8", "replace")).strip()
    except LongshoreError as err:
        words = str(err)
    number = re.search(r"Version: *(\S+)", version)
    said = words.splitlines()[-1] if words and not works else ""
    return Finding(
        name="criu",
        ok=works,
        found=f"{path} {number[1] if number else ''}".strip() + (f": {said}" if said else ""),
        needed_for=needed_for,
        hint="" if works else f"{install('criu')}: a newer one, or `sudo criu check` for more",
        essential=False,
    )


# --- users and security modules ------------------------------------------------------------------


def subordinate_ids() -> Finding:
    """Look for the ids that this user may give to containers."""
    uid = os.geteuid()
    user = _OF_ROOT
    if uid != 0:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
    counts = [_subordinate(path, user, uid) for path in _SUBORDINATE]
    helpers = [name for name in ("newuidmap", "newgidmap") if find_program(name) is None]
    found = f"{counts[0]} uids and {counts[1]} gids of {user}"
    hint = ""
    if not all(counts):
        ids = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        hint = f"usermod {ids} {user}"
        if uid == 0:
            hint = f"echo {_OF_ROOT}:2147483647:2147483648 | tee -a {' '.join(_SUBORDINATE)}"
    elif helpers and uid != 0:
        found += f", without {' '.join(helpers)}"
        hint = install("uidmap" if find_program("apt-get") else "shadow-utils")
    return Finding(
        name="subordinate ids",
        ok=not hint,
        found=found,
        needed_for="user namespaces with ids of their own" if uid == 0 else "containers",
        hint=hint,
        essential=False,
    )


def _subordinate(path: str, user: str, uid: int) -> int:
    """Return how many ids a file gives to a user (subuid(5): NAME-OR-UID:FIRST:COUNT)."""
    try:
        text = (read_file(path) or b"").decode("utf-8", "replace")
    except OSError:
        return 0
    rows = [line.strip().split(":") for line in text.splitlines()]
    return sum(
        int(row[2])
        for row in rows
        if len(row) == 3 and row[0] in (user, str(uid)) and row[2].isdecimal()
    )


def _modules() -> tuple[str, ...]:
    """Return the kernel's security modules that are on; () when it does not say."""
    try:
        text = (read_file(_MODULES) or b"").decode("ascii", "replace").strip()
    except OSError:
        text = ""
    if text:
        return tuple(text.split(","))
    places = {"apparmor": "/sys/kernel/security/apparmor", "selinux": "/sys/fs/selinux/class"}
    return tuple(name for name, path in places.items() if os.path.isdir(path))


def security_modules() -> Finding:
    """Look for a security module that confines containers."""
    modules = _modules()
    confining = [name for name in _CONFINING if name in modules]
    return Finding(
        name="security modules",
        ok=bool(confining),
        found=" ".join(modules) or "none that the kernel tells of",
        needed_for="apparmor profiles or selinux labels of containers",
        hint=""
        if confining
        else "boot with lsm=…,apparmor (or selinux) on the kernel's command line",
        essential=False,
    )
