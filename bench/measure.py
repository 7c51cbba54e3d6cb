"""Take turns, keep the figures, and show them."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any


def spin() -> None:
    """A fixed piece of computing, about 10 ms."""
    total = 0
    for n in range(200_000):
        total += n


def true() -> None:
    """Start the smallest program."""
    subprocess.run(["/bin/true"], check=True)


NOISE: dict[str, Callable[[], None]] = {
    "noise: computing": spin,
    "noise: /bin/true": true,
}


class Row:
    """One thing that is measured: milliseconds a round, or a part of a round that it returns."""

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        self.name = name
        self.work = work
        self.times: list[float] = []
        self.target = ""
        self.base: Row | None = None

    def turn(self) -> None:
        began = time.perf_counter()
        part = self.work()
        took = time.perf_counter() - began if part is None else part
        self.times.append(took * 1000)

    def quantile(self, part: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def ratio_to(self, base: Row) -> float:
        """The median of the ratios within a round: what slowed a whole round down is not in it."""
        pairs = zip(self.times, base.times, strict=True)
        return statistics.median(mine / other for mine, other in pairs)


class Table:
    """Rows that take turns."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []
        self.base: Row | None = None

    def add(self, name: str, work: Callable[[], float | None], *, base: bool = False) -> Row:
        row = Row(name, work)
        self.rows.append(row)
        if base:
            self.base = row
        return row

    def go(self, rounds: int) -> Table:
        """One round of all to warm up, then the rounds that count."""
        rows = [*self.rows, *(Row(name, work) for name, work in NOISE.items())]
        for row in rows:
            row.turn()
            row.times.clear()
        for _ in range(rounds):
            for row in rows:
                row.turn()
        self.rows = rows
        return self

    def __str__(self) -> str:
        head = f"{'ms':34} {'median':>8} {'p10':>8} {'p90':>8} {'ratio':>7}"
        lines = [f"== {self.title}", head]
        for row in self.rows:
            ratio = ""
            if self.base is not None and not row.name.startswith("noise"):
                ratio = f"{row.ratio_to(self.base):.2f}"
            figures = (row.median, row.quantile(0.1), row.quantile(0.9))
            shown = " ".join(f"{figure:8.2f}" for figure in figures)
            lines.append(f"{row.name:34} {shown} {ratio:>7}  {row.target}".rstrip())
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "title": self.title,
            "base": self.base.name if self.base is not None else None,
            "rows": [
                {
                    "name": row.name,
                    "median": row.median,
                    "p10": row.quantile(0.1),
                    "p90": row.quantile(0.9),
                    "ratio": None if self.base is None else row.ratio_to(self.base),
                    "target": row.target,
                    "times": row.times,
                }
                for row in self.rows
            ],
        }


def first_line(*argv: str) -> str:
    """What a program says of its version, or why it does not."""
    path = shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return "not installed"
    done = subprocess.run([path, *argv[1:]], capture_output=True, text=True, check=False)
    return (done.stdout.strip() or done.stderr.strip() or "?").splitlines()[0]


def machine(runtime: str) -> dict[str, Any]:
    """What was measured on."""
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "conmon": first_line("conmon", "--version"),
        "runtime": first_line(runtime, "--version"),
        "podman": first_line("podman", "--version"),
        "docker": first_line("docker", "--version"),
        "load": os.getloadavg(),
    }
