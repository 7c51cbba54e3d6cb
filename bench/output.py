"""How fast output comes through, from the go until the last byte has been read.

The same container each time, which prints lines of 100 bytes when a fifo in its root is opened, and
keeps a log. Beside each way there is the least that conmon asks of a reader: one that takes packets
from its attach socket and throws them away.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from measure import Table

if TYPE_CHECKING:
    from contestants import Bench

    from longshore import Container

SIZE = 50_000_000
LINE = "x" * 99
PRINTS = f"read go < /go; yes {LINE} | head -c {SIZE}"


def table(bench: Bench, rounds: int) -> Table:
    """Measure everybody who shows what a container prints."""
    for name in ("head", "yes"):
        (bench.rootfs / "bin" / name).symlink_to("busybox")
    os.mkfifo(bench.rootfs / "go")
    output = _Output(bench)
    found = Table(f"output of {SIZE // 1_000_000} MB, from the go to the last byte")
    found.add("a bare reader of conmon's socket", output.bare, base=True)
    row = found.add("container.attach", output.attached)
    row.target = "target: ratio ≤ 1.25"
    found.add("container.attach, no log", output.unlogged)
    found.add("container.output", output.followed)
    row = found.add("longshore run", output.command)
    row.target = "target: ratio ≤ 1.25 (≥ 80 % of the bare reader)"
    if "podman" in bench.peers:
        found.add("podman run", output.podman)
    return found.go(rounds)


class _Output:
    """The ways to read output; each returns seconds."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.go = bench.rootfs / "go"

    def _measure(self, read: Callable[[int], int]) -> float:
        """Let the container that is there begin; ``read`` what it prints, so many bytes."""
        with self.go.open("w") as go:
            go.write("\n")
        began = time.perf_counter()
        got = read(SIZE)
        took = time.perf_counter() - began
        assert got == SIZE, got
        return took

    def _container(self, **options: str) -> Container:
        command = ["sh", "-c", PRINTS]
        return self.bench.engine.create(command=command, **self.bench.options, **options)

    def bare(self) -> float:
        box = self._container()
        box.start()
        bundle = box.inspect().bundle_path
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            directory = os.open(bundle, os.O_PATH)
            connection.connect(f"/proc/self/fd/{directory}/attach")
            os.close(directory)

            def read(size: int) -> int:
                got = 0
                while got < size:
                    got += len(connection.recv(65536)) - 1
                return got

            took = self._measure(read)
        box.remove(force=True)
        return took

    def _attached(self, **options: str) -> float:
        box = self._container(**options)
        with box.attach(start=True, when_full="block") as attached:
            took = self._measure(lambda _: sum(len(data) for _, data in attached))
        box.remove(force=True)
        return took

    def attached(self) -> float:
        return self._attached()

    def unlogged(self) -> float:
        return self._attached(log_driver="none")

    def followed(self) -> float:
        box = self._container()
        box.start()
        took = self._measure(lambda _: sum(len(data) for _, data in box.output()))
        box.remove(force=True)
        return took

    def _command(self, argv: list[str]) -> float:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            stdout = process.stdout

            def read(size: int) -> int:
                got = 0
                while got < size and (data := stdout.read1()):  # type: ignore[attr-defined]
                    got += len(data)
                return got

            return self._measure(read)

    def command(self) -> float:
        own = ["run", "--rm", "--network", "none", "--rootfs", str(self.bench.rootfs)]
        return self._command([*self.bench.longshore, *own, "sh", "-c", PRINTS])

    def podman(self) -> float:
        return self._command([*self.bench.peers["podman"][:-1], "sh", "-c", PRINTS])
