"""Read one value each: sizes, CPUs, signals, capabilities, limits, environment.

Every function returns the normal form or raises `InvalidArgument` that says what was given, to
which option, why it cannot be, and what to try.
"""

from __future__ import annotations

import os
import re

from longshore.errors import InvalidArgument
from longshore.models import Ulimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MIN_MEMORY = 6 << 20  # bytes; below it a runtime's own set-up is killed before the program begins
_MAX_INT = (1 << 63) - 1

_SIZE = re.compile(r"(\d{1,20})(?:\.(\d{1,20}))? ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_CPUSET = re.compile(r"\d{1,6}(?:-\d{1,6})?(?:,\d{1,6}(?:-\d{1,6})?)*", re.ASCII)

_SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT,IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD,CLD "
    "CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO,POLL PWR SYS"
)
# Linux numbers of x86, arm, riscv, s390 and powerpc (signal(7)); glibc keeps 32 and 33 for itself.
SIGNALS: Mapping[str, int] = {
    name: number
    for number, names in enumerate(_SIGNALS.split(), start=1)
    for name in names.split(",")
} | {"RTMIN": 34, "RTMAX": 64}

_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
# In the kernel's order (linux/capability.h): the index is the bit.
CAPABILITIES: tuple[str, ...] = tuple("CAP_" + name for name in _CAPABILITIES.split())

_RLIMITS = (
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING "
    "STACK"
)
RLIMITS: frozenset[str] = frozenset(_RLIMITS.split())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return a hint that names the known word most like this one, or None."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else None


def text(value: object, what: str) -> str:
    """Return a str that a program can be given: no NUL, and UTF-8."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what}: {value!r} is not text", hint="give a str")
    if "\0" in value:
        raise InvalidArgument(f"{what}: {value!r} contains a NUL byte", hint="remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgument(
                f"{what}: {value!r} is not UTF-8", hint="a container's spec is JSON, so is text"
            ) from None
    return value


def integer(value: object, what: str, low: int, high: int) -> int:
    """Return a whole number of a range; text with digits is read."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,20}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"{what}: {value!r} is not a whole number")
    if not low <= value <= high:
        raise InvalidArgument(f"{what}: {value} is not between {low} and {high}")
    return value


def seconds(value: object, what: str) -> float:
    """Return a length of time: a finite number, 0 or more."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{what}: {value!r} is not a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise InvalidArgument(
            f"{what}: {value!r} is not a finite number of seconds, 0 or more",
            hint="leave it out for the default",
        )
    return number


def parse_size(value: object, what: str) -> int:
    """Return bytes, at least 1: a whole number, or text with the suffix b, k, m, g, t or p.

    Suffixes are powers of 1024 in either case, alone or as ``kb`` and ``kib``; a fraction may come
    before one ("1.5g"). Fractions of a byte are cut off.
    """
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        whole, fraction, suffix = match.groups()
        fraction = fraction or ""
        size = (int(whole + fraction) << _SHIFT[suffix.lower()]) // 10 ** len(fraction)
    if size is None:
        raise InvalidArgument(
            f"{what}: {value!r} is not a size",
            hint='give bytes, or a number with b, k, m, g or t: "64m", "1.5g"',
        )
    if not 0 < size <= _MAX_INT:
        raise InvalidArgument(
            f"{what}: {value!r} is not a size between 1 byte and 8 EiB",
            hint="leave it out for no limit" if size <= 0 else None,
        )
    return size


def parse_cpus(value: object, what: str = "cpus") -> tuple[int, int]:
    """Return (quota, period) in microseconds for a number of CPUs such as 1.5."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{what}: {value!r} is not a number", hint="for example 1.5"
        ) from None
    # the kernel refuses a quota under 1 ms; the upper end keeps quota inside its 64 bits
    if not 0.01 <= number <= 1e6:
        raise InvalidArgument(
            f"{what}: {value!r} is not a number of CPUs between 0.01 and 1000000",
            hint="leave it out for no limit" if number == 0 else None,
        )
    return round(number * 100_000), 100_000


def parse_cpuset(value: object, what: str) -> str:
    """Return a list of CPUs or memory nodes as cpuset(7) has it: ``0-3,8``."""
    spec = text(value, what)
    if not spec:
        return ""
    if not _CPUSET.fullmatch(spec):
        raise InvalidArgument(f"{what}: {spec!r} is not a list of numbers", hint='such as "0-3,8"')
    for part in spec.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise InvalidArgument(f"{what}: {part} ends before it begins")
    return spec


def parse_signal(value: object, what: str = "signal") -> int:
    """Return a signal's number: from ``TERM``, ``SIGTERM``, ``sigterm``, ``RTMIN+3`` or 15."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str):
        word = value.strip().upper().removeprefix("SIG")
        if re.fullmatch(r"\d{1,3}", word, re.ASCII):
            number = int(word)
        elif match := re.fullmatch(r"(RTMIN\+|RTMAX-)(\d{1,2})", word, re.ASCII):
            offset = int(match[2])
            number = 34 + offset if match[1] == "RTMIN+" else 64 - offset
            if not 34 <= number <= 64:
                raise InvalidArgument(
                    f"{what}: {value!r} is outside the real-time signals",
                    hint="they are RTMIN to RTMIN+30, 34 to 64",
                )
        else:
            number = SIGNALS.get(word)
            if number is None:
                raise InvalidArgument(
                    f"{what}: {value!r} is not a signal",
                    hint=nearest(word, SIGNALS) or "a name such as TERM, or a number from 1 to 64",
                )
    if number is None or not 1 <= number <= 64:
        raise InvalidArgument(
            f"{what}: {value!r} is not a signal",
            hint="a name such as TERM, or a number from 1 to 64",
        )
    return number


def parse_capabilities(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Return CAP_… names in the order given, each once; ``all`` becomes CAP_ALL.

    An item may be a list with commas, as podman's flags take it.
    """
    found: dict[str, None] = {}
    for item in values:
        for word in item.split(","):
            name = word.strip().upper()
            name = name if name.startswith("CAP_") else "CAP_" + name
            if name != "CAP_ALL" and name not in CAPABILITIES:
                short = [c[4:] for c in CAPABILITIES]
                raise InvalidArgument(
                    f"{what}: {word.strip()!r} is not a capability",
                    hint=nearest(name[4:], short) or "capabilities(7) lists them; ALL means all",
                )
            found[name] = None
    return tuple(found)


def rlimit_name(word: str, what: str = "ulimits") -> str:
    """Return the runtime-spec's name of a limit: RLIMIT_NOFILE from ``nofile``."""
    short = word.strip().upper().removeprefix("RLIMIT_")
    if short not in RLIMITS:
        raise InvalidArgument(
            f"{what}: {word!r} is not a resource limit",
            hint=nearest(short.lower(), [r.lower() for r in RLIMITS])
            or "getrlimit(2) lists them: nofile, nproc, core …",
        )
    return "RLIMIT_" + short


def make_ulimit(name: str, soft: object, hard: object, what: str = "ulimits") -> Ulimit:
    """Return a checked limit; −1 (or "unlimited") is unlimited."""
    label = f"{what} {name}"
    low, high = (
        -1 if limit == "unlimited" else integer(limit, label, -1, _MAX_INT)
        for limit in (soft, hard)
    )
    if high != -1 and (low == -1 or low > high):
        raise InvalidArgument(
            f"{label}: the soft limit {low} is above the hard limit {high}",
            hint="write SOFT:HARD with SOFT at most HARD",
        )
    return Ulimit(name=rlimit_name(name, what), soft=low, hard=high)


def parse_ulimit(spec: str, what: str = "ulimits") -> Ulimit:
    """Return the limit of ``nofile=1024:2048``, or of ``nofile=1024`` where both are the same."""
    name, equals, limits = text(spec, what).partition("=")
    if not equals or not limits:
        raise InvalidArgument(
            f"{what}: {spec!r} is not NAME=SOFT[:HARD]", hint='for example "nofile=1024:2048"'
        )
    soft, colon, hard = limits.partition(":")
    return make_ulimit(name, soft, hard if colon else soft, what)


def env_name(name: object, what: str) -> str:
    """Return a name that an environment can hold: not empty, no ``=``, no white space, no NUL."""
    word = text(name, what)
    if not word or "=" in word or any(c.isspace() for c in word):
        raise InvalidArgument(
            f"{what}: {word!r} is not a variable's name", hint="it has no '=' and no white space"
        )
    return word


def env_value(value: object, what: str) -> str:
    """Return a variable's value: without NUL, which ends it, and newline, which env files cannot
    hold and which makes two variables of one wherever an environment is written line by line."""
    word = text(value, what)
    if "\n" in word:
        raise InvalidArgument(
            f"{what}: a newline is in its value",
            hint="encode it, in base64 for example, or mount it as a file",
        )
    return word


def parse_env(
    pairs: Iterable[tuple[str, str | None]], what: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of (name, value) pairs; a value of None takes the caller's.

    Such a name that the caller does not have is left out, and ``PRE*`` takes all of the caller's
    that begin with PRE.
    """
    result: dict[str, str] = {}
    for raw, value in pairs:
        name = env_name(raw, what)
        if value is not None:
            result[name] = env_value(value, f"{what} {name}")
        elif name.endswith("*"):
            prefix = name[:-1]
            result |= {
                k: env_value(v, f"{what} {k}") for k, v in environ.items() if k.startswith(prefix)
            }
        elif name in environ:
            result[name] = env_value(environ[name], f"{what} {name}")
    return result


def parse_env_file(
    content: str, *, what: str = "env file", environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of an environment file, one ``NAME=VALUE`` or ``NAME`` a line.

    Values are taken as they are, quotes included. Empty lines and those that begin with ``#`` are
    skipped; ``NAME`` alone takes the caller's value. Errors name the line.
    """
    pairs: list[tuple[str, str | None]] = []
    for number, raw in enumerate(content.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        where = f"{what}, line {number}"
        if name != name.rstrip() or len(name.split()) != 1:
            raise InvalidArgument(
                f"{where}: {name!r} is not a variable's name", hint="it has no white space"
            )
        env_name(name, where)
        text(value, where)
        pairs.append((name, value if equals else None))
    return parse_env(pairs, what, os.environ if environ is None else environ)


def parse_umask(value: object, what: str = "umask") -> int:
    """Return a file mode mask: octal text, or a number from 0 to 0o777."""
    if isinstance(value, str):
        if not re.fullmatch(r"(?:0o)?[0-7]{1,4}", value, re.ASCII):
            raise InvalidArgument(f"{what}: {value!r} is not octal", hint='for example "022"')
        value = int(value, 8)
    return integer(value, what, 0, 0o777)


def parse_bool(value: str, what: str) -> bool:
    """Return the truth of ``true``, ``1``, ``false``, ``0`` …"""
    word = value.strip().lower()
    if word in ("", "true", "1", "t", "yes"):
        return True
    if word in ("false", "0", "f", "no"):
        return False
    raise InvalidArgument(f"{what}: {value!r} is neither true nor false")
