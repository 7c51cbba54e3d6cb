"""What a runtime says of itself: the JSON of ``features``, else its ``--version`` and ``--help``.

``features`` is of runtime-spec 1.1 (features.md): crun has it since 1.13, runc since 1.1. crun 1.8
lists what it was built with in its version, and runsc has neither.
"""

from __future__ import annotations

import json
import re

from longshore._value import Value, is_table
from longshore.errors import LongshoreError
from longshore.linux.procs import run
from longshore.runtime.features import takes_flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.runtime.driver import Runtime

_TIMEOUT = 10.0  # seconds
_CHECKPOINT = ("org.opencontainers.runc.checkpoint.enabled", "run.oci.crun.checkpoint.enabled")


class Abilities(Value):
    """What a runtime can do. None is not known: it does not say."""

    spec: str = ""  # the newest runtime-spec that it reads
    seccomp: bool | None = None
    apparmor: bool | None = None
    selinux: bool | None = None
    cgroup_v1: bool | None = None
    cgroup_v2: bool | None = None
    systemd: bool | None = None  # the cgroup manager
    idmapped_mounts: bool | None = None
    checkpoint: bool | None = None
    exec_cgroup: bool = False  # an exec has a cgroup of its own
    exec_terminal: bool = False
    update: bool = False  # the limits of what runs can be changed
    sandbox: bool = False  # its processes are on a kernel of its own

    def words(self) -> tuple[str, ...]:
        """Return what it can do, in words."""
        names = {
            "seccomp": self.seccomp,
            "apparmor": self.apparmor,
            "selinux": self.selinux,
            "cgroup v1": self.cgroup_v1,
            "cgroup v2": self.cgroup_v2,
            "systemd": self.systemd,
            "idmapped mounts": self.idmapped_mounts,
            "checkpoint": self.checkpoint,
            "a cgroup for an exec": self.exec_cgroup,
            "update": self.update,
            "a sandbox": self.sandbox,
        }
        spec = [f"runtime-spec {self.spec}"] if self.spec else []
        return (*spec, *(name for name, have in names.items() if have))


def ask(runtime: Runtime, version: str) -> Abilities:
    """Ask a runtime what it can do. ``version`` is its whole version text."""
    found = _features(runtime.path) or _version(version)
    if found.checkpoint is None:
        checkpoints = takes_flag(
            runtime.path, "checkpoint", "--image-path", cache_dir=runtime.cache
        )
        found = found.replace(checkpoint=checkpoints)
    return found.replace(
        exec_cgroup=runtime.confines(),
        update=runtime.updates(),
        exec_terminal=runtime.exec_has_terminal(),
        sandbox=runtime.sandboxes(),
    )


def _features(path: str) -> Abilities | None:
    try:
        done = run([path, "features"], timeout=_TIMEOUT)
        data: Any = json.loads(done.stdout) if done.returncode == 0 else None
    except (LongshoreError, ValueError):
        return None
    return parse_features(data) if is_table(data) else None


def parse_features(data: Any) -> Abilities:
    """Return what the JSON of ``features`` says; what it leaves out is not known."""

    def part(*names: str) -> Any:
        value: Any = data
        for name in names:
            value = value.get(name) if is_table(value) else None
        return value

    def flag(*names: str) -> bool | None:
        value = part(*names)
        return value if isinstance(value, bool) else None

    checkpoint = [part("annotations", name) for name in _CHECKPOINT]
    known = [word == "true" for word in checkpoint if word is not None]
    newest = part("ociVersionMax")
    return Abilities(
        spec=newest if isinstance(newest, str) else "",
        seccomp=flag("linux", "seccomp", "enabled"),
        apparmor=flag("linux", "apparmor", "enabled"),
        selinux=flag("linux", "selinux", "enabled"),
        cgroup_v1=flag("linux", "cgroup", "v1"),
        cgroup_v2=flag("linux", "cgroup", "v2"),
        systemd=flag("linux", "cgroup", "systemd"),
        idmapped_mounts=flag("linux", "mountExtensions", "idmap", "enabled"),
        checkpoint=any(known) if known else None,
    )


def _version(text: str) -> Abilities:
    """Return what a version text says: crun's "+SECCOMP", and "spec: 1.0.2" of all."""
    built = set(re.findall(r"\+([A-Z]+)\b", text))
    spec = re.search(r"^spec: *([\w.-]+)", text, re.MULTILINE)

    def has(name: str) -> bool | None:
        return name in built if built else None

    return Abilities(
        spec=spec[1] if spec else "",
        seccomp=has("SECCOMP"),
        apparmor=has("APPARMOR"),
        selinux=has("SELINUX"),
        systemd=has("SYSTEMD"),
        checkpoint=has("CRIU"),
    )
