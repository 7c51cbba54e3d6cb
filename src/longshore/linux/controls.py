"""Single control files of cgroups: what is wanted, whether it holds, and what was there before.

Facts: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/*.rst.
"""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.linux.cgroups import Layout, read_control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNLIMITED = 1 << 60  # v1 writes "no limit" as the largest multiple of a page: nearly 2^63
_PAGE = 65536  # the largest page of any machine: limits of memory are cut down to whole ones
_NO_RATES = "rbps=max wbps=max riops=max wiops=max"
# What takes a device's entry out of a file that has one for each. bfq takes no 0
# (Linux, block/bfq-cgroup.c).
_RESETS = {
    "blkio.bfq.weight_device": "default",
    "io.bfq.weight": "default",
    "io.max": _NO_RATES,
    "io.weight": "default",
}


class Control(Value):
    """What one file of a cgroup is to say.

    ``name`` may be several with "|" between: the first that is there. ``value`` "" is not compared,
    for what runtimes convert each in its own way. ``key`` is a device's "254:0" in files that have
    a line for each. ``kind``: "limit" (the strictest on the way up holds), "set" (of numbers), or
    "weight". ``own``: it may be written by us, where a runtime does not do it.
    """

    controller: str  # v2's name, or v1's
    name: str
    value: str
    key: str = ""
    kind: str = "limit"
    own: bool = False

    def file(self, layout: Layout, path: str) -> str:
        """Return the file's path in a cgroup; "" where that has none."""
        hierarchy = layout.v1(self.controller) if layout.version == 1 else layout.unified
        if hierarchy is None:
            return ""
        files = [f"{hierarchy.mount}{path}/{name}" for name in self.name.split("|")]
        return next((file for file in files if os.path.exists(file)), "")

    def holds(self, text: str) -> bool:
        """Whether a file's text says what is wanted."""
        if not self.value:
            return True
        if self.key:
            return self._line_holds(text)
        if self.kind == "set":
            return numbers(text) == numbers(self.value)
        return _limit(text) == _limit(self.value) or _is_rounded(text, self.value)

    def _line_holds(self, text: str) -> bool:
        lines = [line.split() for line in text.splitlines()]
        words = [word for line in lines if line[:1] == [self.key] for word in line[1:]]
        if self.value in ("0", "default") or self.value.endswith("=max"):
            name = self.value.partition("=")[0]
            return not any(w.startswith(f"{name}=") and w != self.value for w in words) and (
                "=" in self.value or not words or words == [self.value]
            )
        return self.value in words

    def text(self) -> str:
        """Return what is written to the file for it."""
        return f"{self.key} {self.value}" if self.key else self.value

    def applied(self, text: str) -> str:
        """Return what a file with that text says once this is written to it."""
        if not self.key:
            return self.value
        lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
        if "=" in self.value:
            name = self.value.partition("=")[0]
            lines[self.key] = [
                self.value if word.startswith(f"{name}=") else word
                for word in lines.get(self.key) or _NO_RATES.split()
            ]
        else:
            lines[self.key] = [self.value]
        if lines[self.key] in (["0"], ["default"], _NO_RATES.split()):
            del lines[self.key]
        return "".join(f"{' '.join((key, *words))}\n" for key, words in lines.items())

    def is_free(self, text: str) -> bool:
        """Whether a file's text limits nothing, so that another on the way up may."""
        if self.kind != "limit" or not text.strip():
            return True
        return self.key not in text.split() if self.key else _limit(text)[:1] == ("max",)


def numbers(text: str) -> set[int]:
    """Return the numbers of a list such as "0-2,7"."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found


def _limit(text: str) -> tuple[str, ...]:
    words = text.split()
    if words and (words[0] == "-1" or (words[0].isdigit() and int(words[0]) >= _UNLIMITED)):
        words[0] = "max"
    return tuple(words)


def _is_rounded(text: str, value: str) -> bool:
    text = text.strip()
    return text.isdigit() and value.isdigit() and 0 <= int(value) - int(text) < _PAGE <= int(value)


def write(path: str, text: str) -> None:
    """Write one control file; OSError when the kernel refuses."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, f"{text}\n".encode())  # an empty write would not reach the kernel
    finally:
        os.close(fd)


def read(path: str) -> str:
    """Return a control file's text; "" when it is gone."""
    return read_control(*path.rsplit("/", 1))


def keep(path: str) -> str:
    """Return what to `restore` later: a file's text, or of an empty cpuset what it comes to."""
    return read(path).strip() or (read(f"{path}.effective") if "/cpuset." in path else "")


def restore(before: Mapping[str, str]) -> list[str]:
    """Give files back the text that they had; return those that do not have it afterwards.

    What is gone meanwhile needs nothing. Some depend on others (memory and swap), so each is tried
    until no more can be done.
    """
    left = [path for path, text in before.items() if not has(path, text)]
    while left:
        for path in left:
            for line in _lines(path, before[path], read(path)):
                try:
                    write(path, line)
                except OSError:
                    continue
        still = [path for path in left if not has(path, before[path])]
        if len(still) == len(left):
            return still
        left = still
    return []


def has(path: str, text: str) -> bool:
    """Whether a file says that, its lines in any order, or is gone.

    One that is empty limits no device, which may be too little.
    """
    now = _entries(read(path))
    return now == _entries(text) or (not now and not os.path.exists(path))


def _entries(text: str) -> list[str]:
    return sorted(filter(None, (line.strip() for line in text.splitlines())))


def _lines(path: str, before: str, now: str) -> Sequence[str]:
    """Return what to write, a line at a time, for a file to say what it said before."""
    name = path.rpartition("/")[2]
    if not ("throttle" in name or name in _RESETS or name.endswith("weight_device")):
        return [before.strip()]
    kept = {line.split()[0] for line in before.splitlines() if line.strip()}
    new = [line.split()[0] for line in now.splitlines() if ":" in line]
    reset = _RESETS.get(name, "0")
    return [*(f"{key} {reset}" for key in new if key not in kept), *before.splitlines()]


def children(path: str) -> list[str]:
    """Return the directories of the cgroups below one, parents first."""
    return sorted(d for d, _, _ in os.walk(path) if d != path)
