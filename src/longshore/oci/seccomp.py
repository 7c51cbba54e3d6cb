"""Turn a seccomp profile of containers-common into the runtime-spec's ``linux.seccomp``.

Such a profile has rules that apply only to some architectures, capabilities or kernels
(containers-common's seccomp.json; Docker's has the same shape). A profile that is in the
runtime-spec's own form already goes through unchanged.
"""

from __future__ import annotations

import os

from longshore.errors import HostUnsupported, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from typing import Any, cast

    from longshore.oci.schema import Seccomp, Syscall, SyscallArg
else:

    def cast(_: object, value: Any) -> Any:
        """Stand in for `typing.cast`."""
        return value


PROFILE_PATHS = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")

# uname -m → (what profiles call it: Go's name; libseccomp's)
_ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "armv6l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "mips64": ("mips64le", "SCMP_ARCH_MIPSEL64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}


def find_profile(candidates: Iterable[str] = PROFILE_PATHS) -> str:
    """Return the first path that is a file. I/O.

    With none there is no safe default: `HostUnsupported`, rather than an unconfined container.
    """
    candidates = tuple(path for path in candidates if path)
    for path in candidates:
        if os.path.isfile(path):
            return path
    raise HostUnsupported(
        "containers run under a seccomp profile",
        f"none of {', '.join(candidates)}",
        hint="install containers-common (Debian: golang-github-containers-common), "
        "or security_opt=['seccomp=unconfined']",
    )


def read_profile(path: str) -> Mapping[str, Any]:
    """Return a profile as it is in a file. I/O."""
    import json

    try:
        with open(path, "rb") as file:
            profile = json.load(file)
    except OSError as err:
        raise InvalidArgument(f"seccomp profile {path}: {err.strerror}") from err
    except ValueError as err:
        raise InvalidArgument(f"seccomp profile {path} is not JSON: {err}") from err
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise InvalidArgument(f"seccomp profile {path} has no defaultAction")
    return cast("Mapping[str, Any]", profile)


def convert(
    profile: Mapping[str, Any], *, machine: str, kernel: str, caps: Container[str]
) -> Seccomp:
    """Return the filter for one machine (uname -m), kernel release and set of capabilities.

    ``caps`` is the bounding set: what the container could ever hold.
    """
    go_arch, native = _ARCHITECTURES.get(machine, (machine, ""))
    result: Seccomp = {"defaultAction": profile["defaultAction"]}
    if (number := _errno(profile, "defaultErrno", "defaultErrnoRet")) is not None:
        result["defaultErrnoRet"] = number
    if architectures := _architectures(profile, native):
        result["architectures"] = architectures
    if profile.get("flags"):
        result["flags"] = list(profile["flags"])
    if profile.get("listenerPath"):
        result["listenerPath"] = profile["listenerPath"]
    if profile.get("listenerMetadata"):
        result["listenerMetadata"] = profile["listenerMetadata"]
    rules: list[Syscall] = []
    for rule in profile.get("syscalls") or ():
        if _applies(rule, go_arch, kernel, caps):
            rules.append(_rule(rule))
    if rules:
        result["syscalls"] = rules
    return result


def _architectures(profile: Mapping[str, Any], native: str) -> list[str]:
    if profile.get("architectures"):
        return list(profile["architectures"])
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return []  # the runtime takes the machine's own


def _applies(rule: Mapping[str, Any], arch: str, kernel: str, caps: Container[str]) -> bool:
    if includes := rule.get("includes"):
        if (arches := includes.get("arches")) and arch not in arches:
            return False
        if any(cap not in caps for cap in includes.get("caps") or ()):
            return False
        if (least := includes.get("minKernel")) and _version(kernel) < _version(least):
            return False
    if excludes := rule.get("excludes"):
        if arch in (excludes.get("arches") or ()):
            return False
        if any(cap in caps for cap in excludes.get("caps") or ()):
            return False
        if (least := excludes.get("minKernel")) and _version(kernel) >= _version(least):
            return False
    return True


def _rule(rule: Mapping[str, Any]) -> Syscall:
    names: Sequence[str] = rule.get("names") or [rule["name"]]
    result: Syscall = {"names": list(names), "action": rule["action"]}
    if (number := _errno(rule, "errno", "errnoRet")) is not None:
        result["errnoRet"] = number
    if conditions := rule.get("args"):
        result["args"] = [_condition(arg) for arg in conditions]
    return result


def _condition(arg: Mapping[str, Any]) -> SyscallArg:
    result: SyscallArg = {"index": arg["index"], "value": arg["value"], "op": arg["op"]}
    if arg.get("valueTwo"):
        result["valueTwo"] = arg["valueTwo"]
    return result


def _errno(rule: Mapping[str, Any], name: str, number: str) -> int | None:
    """Return the error number; its name goes first, since numbers differ among architectures."""
    word: str = rule.get(name) or ""
    if word:
        import errno

        value: int | None = getattr(errno, word, None)
        if value is not None:
            return value
    return rule.get(number)


def _version(release: str) -> tuple[int, int]:
    """Return (major, minor) of a kernel's release; 0 for what is not a number."""
    major, _, rest = release.partition(".")
    digits = ""
    for c in rest:
        if not c.isdigit():
            break
        digits += c
    return int(major) if major.isdigit() else 0, int(digits or 0)
