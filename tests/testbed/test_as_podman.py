"""What confines a container of ours, item by item beside what confines one of podman's.

The same flags, the same root, the same runtime, the same host; a program in each looks around
(`confinement_probe`). What differs is listed with its reason, and ours is never weaker.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli, needs, which

pytestmark = pytest.mark.user("root")

PROBE = Path(__file__).with_name("confinement_probe.py")
CASES: dict[str, tuple[str, ...]] = {
    "default": (),
    "privileged": ("--privileged",),
    "cap-add": ("--cap-add", "SYS_ADMIN,NET_RAW,SYS_PTRACE"),
    "cap-add all": ("--cap-add", "ALL"),
    "cap-drop": ("--cap-drop", "CHOWN,SETUID"),
    "cap-drop all": ("--cap-drop", "ALL"),
    "cap-drop all but": ("--cap-drop", "ALL", "--cap-add", "SYS_TIME"),
    "unmask": ("--security-opt", "unmask=/proc/kcore:/sys/firmware:/proc/sys"),
    "unmask all": ("--security-opt", "unmask=ALL"),
    "mask": ("--security-opt", "mask=/proc/version:/sys/module"),
    "no-new-privileges": ("--security-opt", "no-new-privileges"),
    "seccomp": ("--security-opt", "seccomp=unconfined"),
    "label": ("--security-opt", "label=disable"),
    "apparmor": ("--security-opt", "apparmor=unconfined"),
    "user": ("--user", "1000:1000"),
    "user with capabilities": ("--user", "1000", "--cap-add", "NET_ADMIN"),
    "read-only": ("--read-only",),
    "pid host": ("--pid", "host"),
    "ipc host": ("--ipc", "host"),
}
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_LIMITS = ("nosuid", "nodev", "noexec", "ro")  # options of a mount that take something away
_SHOWN = ("absent", "hidden", "read-only", "writable")
_REFUSED = ("EPERM", "ENOSYS", "EACCES", "killed")

# Item → why it is not as podman's (5.4, Debian 13).
KNOWN = {
    "paths /sys/dev/block": "podman masks it no more since 5.0; Longshore does, as 4.3 did",
    "mounts /sys/dev/block": "the mask itself",
    "environment": "container= says what kind of place it is; TERM is set, as podman 4.3 had it",
    "mounts /run/.containerenv": "podman tells the programs in it about itself",
    **dict.fromkeys(
        ("mounts /etc/hostname", "mounts /etc/hosts", "mounts /etc/resolv.conf"),
        "Longshore leaves a root's own files as they are where it has no network for it",
    ),
    "mounts /dev": "podman's may execute since 4.6 (for SGX enclaves); Longshore's may not",
    **dict.fromkeys(
        ("mounts /proc/keys", "mounts /proc/timer_list", "mounts /proc/version"),
        "runc masks a file with the container's own /dev/null: a mount of its /dev, see there",
    ),
}


class Differences:
    """What is not the same, and of that what would be weaker with us."""

    def __init__(self, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
        self.found: dict[str, tuple[Any, Any]] = {}
        self.weaker: list[str] = []
        for section in theirs:
            a, b = theirs[section], ours[section]
            if not isinstance(a, dict):
                a, b = {"": a}, {"": b}
            for key in sorted({*a, *b}):
                self.look(section, key, a.get(key), b.get(key))

    def look(self, section: str, key: str, theirs: Any, ours: Any) -> None:
        if theirs == ours:
            return
        item = f"{section} {key}".strip()
        self.found[item] = (theirs, ours)
        if self.is_weaker(section, key, theirs, ours):
            self.weaker.append(f"{item}: podman's {theirs}, ours {ours}")

    def is_weaker(self, section: str, key: str, theirs: Any, ours: Any) -> bool:
        if section == "status" and key in _CAPABILITIES:
            return bool(int(ours, 16) & ~int(theirs, 16))
        if section == "status" and key in ("NoNewPrivs", "Seccomp", "Seccomp_filters"):
            return int(ours) < int(theirs)
        if section == "status":
            return True  # who it is: always the same
        if section == "paths":
            return _SHOWN.index(ours) > _SHOWN.index(theirs)
        if section == "mounts":
            if ours is None:  # what it gave or hid is in the other sections
                return False
            return bool(set(_LIMITS) & set(theirs[1:] if theirs else ("ro",)) - set(ours[1:]))
        if section == "dev":
            return ours is not None
        if section == "namespaces":
            return (ours, theirs) == ("shared", "own")
        if section == "calls":
            return theirs in _REFUSED and ours not in _REFUSED
        if section == "rlimits":
            return any(_more(a, b) for a, b in zip(ours, theirs, strict=True))
        # what is not known to matter is for a person to look at
        return section in ("oom_score_adj", "sysctls", "cgroup", "descriptors", "label")

    @property
    def unknown(self) -> dict[str, tuple[Any, Any]]:
        return {item: pair for item, pair in self.found.items() if item not in KNOWN}


def _more(a: int, b: int) -> bool:
    """Whether a limit is higher; −1 is none."""
    return a != b and (a == -1 or (b != -1 and a > b))


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root into which /usr of the host is mounted, for its Python."""
    top = tmp_path_factory.mktemp("as-podman") / "root"
    for name in ("usr", "dev", "etc", "proc", "run", "sys", "tmp", "var/tmp", "root", "probe"):
        (top / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (top / name).symlink_to(f"usr/{name}")
    (top / "tmp").chmod(0o1777)
    (top / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (top / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    shutil.copy(PROBE, top / "probe/probe.py")
    for path in (top, *top.parents):
        if path.stat().st_mode & 0o055 != 0o055 and "pytest" in str(path):
            path.chmod(0o755)
    return top


def _flags(case: str, rootfs: Path) -> list[str]:
    return [
        *("run", "--rm", "--network", "none", "-v", "/usr:/usr:ro"),
        # Controllers are what this host lacks; podman's own defaults it may not raise.
        *("--pids-limit", "0", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"),
        *CASES[case],
        *("--rootfs", str(rootfs), "python3", "-I", "/probe/probe.py"),
    ]


def _read(text: str) -> dict[str, Any]:
    """Return an answer, with what differs from host to host made comparable."""
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in answer["namespaces"]}
    answer["namespaces"] = {
        name: "shared" if link == own[name] else "own"
        for name, link in answer["namespaces"].items()
    }
    answer["sysctls"].pop("kernel/hostname")  # each has its own
    answer["cgroup"] = "own" if answer["cgroup"] == "0::/" else "shared"
    return answer


@pytest.fixture(scope="session")
def theirs(
    rootfs: Path, runtime: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What podman's containers look like from inside."""
    needs("podman", which("podman"))
    machine = os.uname().machine
    needs("x86-64, whose numbers of system calls the probe has", machine, machine == "x86_64")
    top = tmp_path_factory.mktemp("podman")
    own = ["podman", "--root", f"{top}/root", "--runroot", f"{top}/run", "--storage-driver", "vfs"]
    found = {}
    for case in CASES:
        done = subprocess.run(
            [*own, "--runtime", runtime, *_flags(case, rootfs)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"podman, {case}: {done.stderr}"
        found[case] = _read(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_never_weaker(theirs: dict[str, dict[str, Any]], cli: Cli, rootfs: Path, case: str) -> None:
    done = cli(*_flags(case, rootfs))
    differences = Differences(theirs[case], _read(done.stdout))
    assert (differences.weaker, differences.unknown) == ([], {}), "weaker; without a reason"


@pytest.mark.parametrize(
    ("section", "key", "theirs_is", "ours_is", "weaker"),
    [
        ("status", "CapBnd", "00000000000005fb", "00000000000005ff", True),
        ("status", "CapBnd", "00000000000005fb", "00000000000005f3", False),
        ("status", "NoNewPrivs", "1", "0", True),
        ("status", "Uid", "0 0 0 0", "1 1 1 1", True),
        ("paths", "/proc/kcore", "hidden", "read-only", True),
        ("paths", "/proc/kcore", "read-only", "hidden", False),
        ("mounts", "/proc", ["proc", "nosuid", "rw"], ["proc", "rw"], True),
        ("mounts", "/x", None, ["tmpfs", "rw"], True),
        ("mounts", "/x", None, ["tmpfs", "ro"], False),
        ("dev", "sda", None, "brw------- 8:0", True),
        ("namespaces", "ipc", "own", "shared", True),
        ("calls", "bpf", "EPERM", "EINVAL", True),
        ("calls", "bpf", "EINVAL", "EPERM", False),
        ("rlimits", "RLIMIT_CORE", [0, 0], [0, -1], True),
        ("sysctls", "kernel/shmmax", "1", "2", True),
    ],
)
def test_what_is_weaker_is_seen(
    section: str, key: str, theirs_is: object, ours_is: object, weaker: bool
) -> None:
    seen = Differences({section: {key: theirs_is}}, {section: {key: ours_is}})
    assert bool(seen.weaker) == weaker
    assert list(seen.found) == [f"{section} {key}"]
