"""Which SELinux labels a container's processes and files are to have. Pure.

The rules are podman's (github.com/opencontainers/selinux, ``label.InitLabels``; podman-run(1),
``--security-opt label=``).
"""

from __future__ import annotations

from longshore._value import Value
from longshore.errors import HostUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CATEGORIES = 1024  # c0 … c1023, as every policy with categories has them
# Nothing that is confined has these: the files of a container whose processes are not labelled
UNCONFINED_LEVEL = f"s0:c{CATEGORIES - 2},c{CATEGORIES - 1}"
_PARTS = ("user", "role", "type", "level")
# For which podman (--systemd=true) takes the label of a container with an init system
_INITS = ("systemd", "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init")
# containers.conf(5), runtime_supports_kvm
_KVM = ("kata", "kata-runtime", "kata-qemu", "kata-fc", "krun")


class Labels(Value):
    """What the runtime gives to the container's processes and to its mounts; "" is none."""

    process: str = ""
    mount: str = ""


def kind_of(program: str, runtime: str) -> str:
    """Return the key of the contexts file for a container's processes."""
    if runtime in _KVM:
        return "kvm_process"
    if program in _INITS or program.rpartition("/")[2] == "systemd":
        return "init_process"
    return "process"


def is_disabled(options: Sequence[str]) -> bool:
    """Whether a container's processes are not labelled."""
    return "disable" in options


def choose(contexts: Mapping[str, str], options: Sequence[str], *, kind: str, level: str) -> Labels:
    """Return the labels for ``label=`` options, the later ones winning.

    ``contexts`` is what the policy has for containers, ``level`` the one of this container alone.
    HostUnsupported when parts were asked for, and the policy has nothing to complete them with.
    """
    asked = {name: value for name, _, value in (word.partition(":") for word in options)}
    process = _parts(contexts.get("process", ""))
    mount = _parts(contexts.get("file", ""))
    if is_disabled(options):
        return Labels(mount=_text({**mount, "level": UNCONFINED_LEVEL})) if mount else Labels()
    if "type" not in asked and (special := _parts(contexts.get(kind, ""))):
        process["type"] = special["type"]
    if not process or not mount:
        wanted = [name for name in (*_PARTS, "filetype") if name in asked]
        if wanted and not set(_PARTS) <= set(asked):
            raise HostUnsupported(
                f"label={wanted[0]}:{asked[wanted[0]]}",
                "the SELinux policy of this host has no labels for containers to complete it with",
                hint="install container-selinux, or give all of user:, role:, type: and level:",
            )
    if process.get("level"):
        process["level"] = level
        mount["level"] = level
    process.update((name, asked[name]) for name in _PARTS if name in asked)
    if mount:
        mount.update((name, asked[name]) for name in ("user", "level") if name in asked)
        mount["type"] = asked.get("filetype", mount["type"])
    return Labels(process=_text(process), mount=_text(mount))


def copied(label: str) -> tuple[str, ...]:
    """Return the options that give another container's label; none for none."""
    parts = _parts(label)
    return tuple(f"{name}:{value}" for name, value in parts.items() if value)


def level_of(label: str) -> str:
    """Return the level of a label; "" when it has none."""
    return _parts(label).get("level", "")


def _parts(label: str) -> dict[str, str]:
    words = label.split(":", 3)
    return dict(zip(_PARTS, (*words, ""), strict=False)) if len(words) >= 3 else {}


def _text(parts: Mapping[str, str]) -> str:
    return ":".join(parts[name] for name in _PARTS if parts.get(name))
