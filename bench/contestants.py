"""Who is measured, how each of them runs the same small container, and what is cleaned up after."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from floor import Floor
from measure import Row, Table

from longshore import Engine

# Hosts without CAP_SYS_RESOURCE refuse podman's own defaults.
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
TRAPS = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]  # ends at once when asked to


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def make_rootfs(target: Path) -> Path:
    """A root file system of busybox."""
    busybox = which("busybox")
    if busybox is None:
        sys.exit("bench: busybox is not installed")
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
        (target / name).mkdir(parents=True)
    shutil.copy(busybox, target / "bin/busybox")
    for name in ("sh", "true", "sleep"):
        (target / "bin" / name).symlink_to("busybox")
    return target


def quiet(argv: list[str]) -> None:
    """Run a command; its failure ends the benchmark, with its words."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")


@contextlib.contextmanager
def death_of(pid: int) -> Iterator[Callable[[], float]]:
    """Have another process note when this one dies; the value is a CLOCK_MONOTONIC moment."""
    read_end, write_end = os.pipe()
    pidfd = os.pidfd_open(pid)
    child = os.fork()
    if child == 0:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(60_000)
        os.write(write_end, struct.pack("d", time.monotonic()))
        os._exit(0)
    os.close(write_end)
    os.close(pidfd)
    try:
        yield lambda: struct.unpack("d", os.read(read_end, 8))[0]
    finally:
        os.close(read_end)
        os.waitpid(child, 0)


class Bench:
    """The contestants, on directories of their own; leaving it removes all they made."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.directory = directory
        self.runtime = which(runtime) or sys.exit(f"bench: {runtime} is not installed")
        self.runtime_name = runtime
        self.rootfs = make_rootfs(directory / "rootfs")
        # A short path below /run, as in use: a state on a disk would measure the disk.
        self.volatile = Path(f"/run/longshore-bench-{os.getpid()}")
        self.volatile.mkdir(mode=0o700)
        dirs = ["--root", str(directory / "lib"), "--runroot", str(self.volatile / "longshore")]
        program = Path(sys.executable).with_name("longshore")
        start = [str(program)] if program.exists() else [sys.executable, "-m", "longshore"]
        self.program = start
        self.longshore = [*start, *dirs]
        self.engine = Engine(root=dirs[1], run_root=dirs[3], runtime=runtime)
        self.podman = [
            "podman", "--cgroup-manager", "cgroupfs", "--runtime", self.runtime,
            "--root", str(directory / "podman"), "--runroot", str(self.volatile / "podman"),
            "--tmpdir", str(self.volatile / "podman-tmp"),
        ]  # fmt: skip
        self.options: dict[str, Any] = {"rootfs": self.rootfs, "network": "none"}
        self.cgroups = self._peer_cgroups()  # there before us: not ours to remove
        self.peers: dict[str, list[str]] = {}
        self.found: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.floor = self._make_floor()
            run = ["run", "--rm", "--network", "none"]
            podman = [*self.podman, *run, *PODMAN_LIMITS, "--rootfs", str(self.rootfs), "true"]
            self._try("podman", podman)
            self._try("docker", ["docker", *run, "busybox", "true"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for container in self.engine.list(all=True):
            container.remove(force=True)
        if "podman" in self.peers:
            subprocess.run([*self.podman, "rm", "-fat", "0"], capture_output=True, check=False)
            for part in (self.directory / "podman", self.volatile / "podman"):
                self._unmount_below(part)
        shutil.rmtree(self.volatile, ignore_errors=True)
        for cgroup in self._peer_cgroups():
            if cgroup not in self.cgroups:
                with contextlib.suppress(OSError):
                    cgroup.rmdir()

    @staticmethod
    def _peer_cgroups() -> list[Path]:
        """The cgroups that the floor and podman leave, the inner ones first."""
        tops = (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/"))
        names = ("longshore-floor", "libpod_parent/conmon", "libpod_parent")
        return [top / name for top in tops for name in names if (top / name).is_dir()]

    @staticmethod
    def _unmount_below(directory: Path) -> None:
        targets = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for target in reversed(targets):
            if target.startswith(f"{directory}"):
                subprocess.run(["umount", target], check=False)

    def _try(self, name: str, argv: list[str]) -> None:
        if which(argv[0]) is None:
            self.found[name] = "not installed"
            return
        try:
            quiet(argv)
        except RuntimeError as error:
            self.found[name] = f"not working: {str(error).splitlines()[0][-150:]}"
            return
        self.found[name] = "works"
        self.peers[name] = argv

    def _make_floor(self) -> Floor:
        """Take the spec that Longshore writes, with files of its own in place of Longshore's."""
        conmon = which("conmon") or sys.exit("bench: conmon is not installed")
        directory = self.volatile / "floor"
        container = self.engine.create(command=["sleep", "1000"], **self.options)
        container.start()
        spec = json.loads(Path(container.inspect().bundle_path, "config.json").read_text())
        files = directory / "files"
        files.mkdir(parents=True)
        for number, mount in enumerate(spec["mounts"]):
            source = Path(mount.get("source", ""))
            if source.is_relative_to(self.directory) or source.is_relative_to(self.volatile):
                copy = files / str(number)
                if source.is_dir():
                    copy.mkdir()
                else:
                    shutil.copy(source, copy)
                mount["source"] = str(copy)
        container.remove(force=True)
        spec["process"]["args"] = ["true"]
        return Floor(directory, conmon, self.runtime, spec)

    # --- the parts ---------------------------------------------------------------------------

    def _handles(self) -> None:
        container = self.engine.create(command=["true"], **self.options)
        container.start()
        container.wait()
        container.remove()

    def run(self, rounds: int) -> Table:
        """A whole container, by each."""
        engine, options = self.engine, self.options
        table = Table(f"one container: create, start, exit, remove ({self.runtime_name})")
        table.add("floor: bare conmon + runtime", self.floor.run, base=True)
        row = table.add("engine.run", lambda: engine.run(command=["true"], **options) and None)
        row.target = "target: ratio ≤ 1.25"
        table.add("create, start, wait, remove", self._handles)
        run = ["run", "--rm", "--runtime", self.runtime_name, "--network", "none"]
        argv = [*self.longshore, *run, "--rootfs", str(self.rootfs), "true"]
        command = table.add("longshore run --rm", lambda: quiet(argv))
        rows = {
            name: table.add(f"{name} run --rm", lambda words=words: quiet(words))
            for name, words in self.peers.items()
        }
        table.go(rounds)
        for name, peer in rows.items():
            peer.target = f"{peer.ratio_to(command):.2f} × longshore run"
            if name == "podman":
                peer.target += " (target: ≥ 1.8)"
        return table

    def exec(self, rounds: int) -> Table:
        """A second program in a container that runs: to its end, and what it prints."""
        container = self.engine.create(command=["sleep", "10000"], name="bench", **self.options)
        container.start()
        state = self.volatile / "longshore/runtimes" / self.runtime_name
        bare = [self.runtime, "--root", str(state), "exec", container.id, "true"]
        table = Table(f"one exec of `true` in a container that runs ({self.runtime_name})")
        table.add("floor: bare runtime exec", lambda: quiet(bare), base=True)
        row = table.add("container.exec", lambda: container.exec(["true"]) and None)
        row.target = "target: ratio ≤ 1.5"
        table.add("container.popen, wait", lambda: container.popen(["true"]).wait() and None)
        argv = [*self.longshore, "--runtime", self.runtime_name, "exec", "bench", "true"]
        command = table.add("longshore exec", lambda: quiet(argv))
        rows: dict[str, Row] = {}
        podman = [*self.podman, "exec", "bench", "true"]
        if "podman" in self.peers:
            run = [*self.podman, "run", "-d", "--name", "bench", "--network", "none"]
            sleep = ["--rootfs", str(self.rootfs), "sleep", "10000"]
            quiet([*run, *PODMAN_LIMITS, *sleep])
            rows["podman"] = table.add("podman exec", lambda: quiet(podman))
        if "docker" in self.peers:
            name = f"longshore-bench-{os.getpid()}"
            quiet(["docker", "run", "-d", "--rm", "--name", name, "busybox", "sleep", "10000"])
            docker = ["docker", "exec", name, "true"]
            rows["docker"] = table.add("docker exec", lambda: quiet(docker))
        table.go(rounds)
        if "docker" in self.peers:
            quiet(["docker", "rm", "-f", f"longshore-bench-{os.getpid()}"])
        if "podman" in self.peers:
            quiet([*self.podman, "rm", "-f", "-t", "0", "bench"])
        container.remove(force=True)
        for name, peer in rows.items():
            peer.target = f"{peer.ratio_to(command):.2f} × longshore exec"
            if name == "podman":
                peer.target += " (target: ≥ 2.5)"
        return table

    def startup(self, rounds: int) -> Table:
        """The start of a Python, and of the command."""
        table = Table("start-up")
        table.add("python -c pass", lambda: quiet([sys.executable, "-c", "pass"]), base=True)
        table.add("python -I -S -c pass", lambda: quiet([sys.executable, "-ISc", "pass"]))
        table.add("longshore --version", lambda: quiet([*self.program, "--version"]))
        if "podman" in self.peers:
            table.add("podman --version", lambda: quiet(["podman", "--version"]))
        return table.go(rounds)

    def ps(self, rounds: int, count: int) -> Table:
        """Listing containers that do not run."""
        table = Table(f"ps of {count} containers")
        made = [self.engine.create(command=["true"], **self.options) for _ in range(count)]
        table.add("engine.inspect_all", lambda: self.engine.inspect_all() and None)
        row = table.add("longshore ps -a", lambda: quiet([*self.longshore, "ps", "-a"]), base=True)
        if "podman" in self.peers:
            for _ in range(count):
                create = ["create", "--network", "none", *PODMAN_LIMITS]
                quiet([*self.podman, *create, "--rootfs", str(self.rootfs), "true"])
            row.target = "target: no slower than podman's"
            table.add("podman ps -a", lambda: quiet([*self.podman, "ps", "-a"]))
        table.go(rounds)
        for container in made:
            container.remove()
        return table

    def _stop_after_death(self, command: list[str]) -> float:
        container = self.engine.create(command=command, **self.options)
        container.start()
        time.sleep(0.05)  # let its shell set the trap
        pid = container.inspect().pid
        assert pid is not None
        with death_of(pid) as died:
            container.stop()
            back = time.monotonic()
            took = back - died()
        container.remove()
        return took

    def _wait_after_death(self) -> float:
        container = self.engine.create(command=["sleep", "1000"], **self.options)
        container.start()
        pid = container.inspect().pid
        assert pid is not None
        with death_of(pid) as died:
            timer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
            timer.start()
            container.wait()
            back = time.monotonic()
            took = back - died()
            timer.join()
        container.remove(force=True)
        return took

    def _last_byte_after_death(self) -> float:
        container = self.engine.create(command=["sh", "-c", "sleep 0.1; echo last"], **self.options)
        container.start()
        pid = container.inspect().pid
        assert pid is not None
        with death_of(pid) as died:
            last = [record.data for record in container.logs(follow=True)]
            back = time.monotonic()
            took = back - died()
        assert last == [b"last\n"]
        container.remove(force=True)
        return took

    def stop(self, rounds: int) -> Table:
        """From the death of the process, as another process sees it, to the return of the call."""
        table = Table("from the death of the process to the return of the call")
        row = table.add("stop: obeys the signal", lambda: self._stop_after_death(TRAPS))
        row.target = "target: ≤ 10"
        row = table.add("stop: has to be killed", lambda: self._stop_after_death(["sleep", "1000"]))
        row.target = "target: ≤ 10"
        row = table.add("wait", self._wait_after_death)
        row.target = "target: ≤ 5"
        row = table.add("logs(follow): the last byte", self._last_byte_after_death)
        row.target = "target: ≤ 50"
        return table.go(rounds)
