"""What host tests stand on: the test host, runtimes found by trying, and the leak check.

The fixtures are used by importing them into a conftest; see tests/host/conftest.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CGROUPS = "/sys/fs/cgroup"
STATE = (Path("/run/longshore"), Path("/var/lib/longshore"))
RUNTIMES = ("crun", "runc")
# Time in which what a test started has to be gone by itself, once the test is over.
PATIENCE = 5.0
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def needs(what: str, found: object, ok: bool | None = None) -> None:
    """Skip unless ``ok`` (by default: unless ``found`` is something), and say what was found."""
    if not (bool(found) if ok is None else ok):
        pytest.skip(f"needs {what}; found: {found!r}")


def on_test_host() -> bool:
    """Say whether this process runs under scripts/testhost or scripts/testbed."""
    return "LONGSHORE_TEST_HOST" in os.environ


def on_testbed() -> bool:
    """Say whether this process runs under scripts/testbed."""
    return os.environ.get("LONGSHORE_TEST_HOST") == "testbed"


def which(program: str) -> str | None:
    """Find a program, in the system directories too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def cgroup_layout() -> str:
    """Return what is mounted here: v1, v2 or hybrid."""
    kinds = {k for target, k in _mounts() if target.startswith(CGROUPS) and k != "tmpfs"}
    if kinds == {"cgroup2"}:
        return "v2"
    return "v1" if kinds == {"cgroup"} else "hybrid"


def _mounts() -> list[tuple[str, str]]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [(fields[1], fields[2]) for fields in (line.split() for line in lines)]


# --- runtimes, by trying ---------------------------------------------------------------------


probed: dict[str, str] = {}  # runtime -> what it said instead of running; "" when it ran
# What scripts/runtimes makes: programs of other releases, PROGRAM-RELEASE.
MADE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore/runtimes"
# Without a network of its own making, which wants an older kernel; see `oci_flags` of the driver.
SANDBOX_FLAGS = ("--network=none", "--ignore-cgroups", "--overlay2=none")


def runtime_path(runtime: str) -> str | None:
    """Return the path of a runtime by name: one that is installed, or PROGRAM-RELEASE."""
    made = MADE / runtime
    return str(made) if made.is_file() else which(runtime)


def kind_of(runtime: str) -> str:
    """Return what a runtime is, whatever its release: crun, runc, runsc, fake."""
    return runtime.partition("-")[0]


@functools.cache
def runtime_trouble(runtime: str, flags: tuple[str, ...] = ()) -> str:
    """Run a container with the bare runtime; return "" if that worked, else why it did not."""
    program = runtime_path(runtime)
    if program is None:
        return "it is not installed"
    if os.geteuid() != 0:
        return _trouble_of_a_user(runtime)
    with tempfile.TemporaryDirectory(prefix="ls") as directory:
        bundle = Path(directory)
        make_busybox_rootfs(bundle / "rootfs")
        subprocess.run([program, "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"args": ["/bin/true"], "terminal": False, "rlimits": []}
        config["linux"]["cgroupsPath"] = "/longshore-probe"
        (bundle / "config.json").write_text(json.dumps(config))
        done = subprocess.run(
            [
                program,
                "--root",
                f"{directory}/state",
                *flags,
                "run",
                "--bundle",
                directory,
                "probe",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout.strip().splitlines()[-1]


def _trouble_of_a_user(runtime: str) -> str:
    """A user's container needs a namespace that somebody makes first: Longshore."""
    from longshore import Engine, LongshoreError

    with tempfile.TemporaryDirectory(prefix="ls") as directory:
        top = Path(directory)
        engine = Engine(root=top / "root", run_root=top / "run", runtime=runtime)
        make_busybox_rootfs(top / "rootfs")
        try:
            return "" if engine.run(command=["true"], rootfs=top / "rootfs").exit.ok else "it ended"
        except LongshoreError as err:
            return str(err)
        finally:
            end_namespace(top / "run")


def end_namespace(run_root: Path) -> None:
    """End who keeps the namespace of an ordinary user."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(json.loads((run_root / "namespace").read_text())["pid"], signal.SIGKILL)


def working_runtimes() -> list[str]:
    """Return the runtimes that work on this host, as root."""
    if not on_test_host():
        return []
    probed.update({name: runtime_trouble(name) for name in RUNTIMES})
    return [name for name in RUNTIMES if not probed[name]]


def other_runtimes() -> list[str]:
    """Return the runtimes of other releases and makes that work on this host."""
    if not on_test_host():
        return []
    names = sorted(p.name for p in MADE.glob("[!.]*"))
    if which("runsc"):
        names.append("runsc")
    elif not names and not os.environ.get("LONGSHORE_FRESH"):
        probed["of other releases"] = "scripts/runtimes has made none"
    for name in names:
        flags = SANDBOX_FLAGS if kind_of(name) == "runsc" else ()
        probed[name] = runtime_trouble(name, flags)
    return [name for name in names if not probed[name]]


def sandbox_runtime() -> str:
    """Return the path of a runsc that works here with cgroups, which `SANDBOX_FLAGS` spares it."""
    name = next((name for name in other_runtimes() if kind_of(name) == "runsc"), "")
    if not name:
        return ""
    flags = tuple(flag for flag in SANDBOX_FLAGS if "cgroups" not in flag)
    probed["runsc with cgroups"] = runtime_trouble(name, flags)
    return "" if probed["runsc with cgroups"] else runtime_path(name) or ""


def make_busybox_rootfs(target: Path) -> Path:
    """Make a root file system of busybox and nothing else."""
    busybox = which("busybox")
    assert busybox, "busybox is not installed: scripts/setup test"
    for directory in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"):
        (target / directory).mkdir(parents=True, exist_ok=True)
    for directory in ("tmp", "var/tmp"):
        (target / directory).chmod(0o1777)
    shutil.copy(busybox, target / "bin/busybox")
    for applet in _applets(busybox):
        if applet != "busybox":
            (target / "bin" / applet).symlink_to("busybox")
    (target / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n"
    )
    (target / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    return target


@functools.cache
def _applets(busybox: str) -> list[str]:
    return subprocess.run(
        [busybox, "--list"], check=True, capture_output=True, text=True
    ).stdout.split()


# --- leaks -----------------------------------------------------------------------------------


def _descriptors() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
    return {entry for entry in found if not entry.endswith(f"/proc/{os.getpid()}/fd")}


def _processes() -> set[str]:
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            stat = Path("/proc", pid, "stat").read_text()
            name, _, rest = stat.partition("(")[2].rpartition(")")
            state, start = rest.split()[0], rest.split()[19]
            argv = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if os.geteuid() != 0 and argv == "sleep infinity ":
                continue  # it keeps the user's namespace: standing furniture, as podman's pause
            # A process is its pid and start time; the state is there to be read by a person.
            found.add(f"{pid} @{start} {name}{' (zombie)' if state == 'Z' else ''} {argv[:120]}")
    return {entry for entry in found if not entry.startswith(f"{os.getpid()} ")}


def _cgroups() -> set[str]:
    tops = [target for target, kind in _mounts() if kind in ("cgroup", "cgroup2")]
    found = {d for top in tops for d, _, _ in os.walk(top)}
    # The parents are Longshore's standing furniture (as podman's are): empty, and used again.
    names = ("longshore", "longshore/conmon", "machine.slice")
    furniture = {f"{top}/{name}" for top in tops for name in names}
    # so is what a user's namespace is kept by: see `_processes`
    return {path for path in found - furniture if "/longshore-namespace-" not in path}


def _files(*tops: Path) -> set[str]:
    """Return what is in the places where nothing of a container that is gone may be."""
    found = set()
    for top in tops:
        for part in (
            "containers", "names", "exits", "socket", "runtimes/*", "locks", "layers", "overlay"
        ):  # fmt: skip
            for directory in top.glob(part):
                # Exit records outlive their container on purpose; newer crun keeps .cache and such.
                found |= {
                    str(p)
                    for p in directory.glob("*")
                    if p.suffix != ".json" and not p.name.startswith(".")
                }
    return found


class Host:
    """What there is on a test host now, to be compared with what there is later."""

    def __init__(self) -> None:
        from longshore.linux import inotify

        inotify.descriptor()  # one a process, kept for good: nobody's leak
        self.now = self._look()

    def _look(self) -> dict[str, set[str]]:
        return {
            "process": _processes(),
            "mount": {f"{target} ({kind})" for target, kind in _mounts()},
            "cgroup": _cgroups(),
            "state": _files(*STATE),
            "link": set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set(),
            "descriptor": _descriptors(),
        }

    def left(self) -> dict[str, set[str]]:
        """Return what was not there before, by kind."""
        later = self._look()
        found = {kind: later[kind] - before for kind, before in self.now.items()}
        return {kind: what for kind, what in found.items() if what}

    def left_after(self, patience: float) -> dict[str, set[str]]:
        """As `left`, once nothing is left any more or the time is over."""
        deadline = time.monotonic() + patience
        while (found := self.left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail when a test leaves anything: descriptor, process, mount, cgroup, state, link."""
    if not on_test_host():
        yield
        return
    host = Host()
    yield
    if found := host.left_after(PATIENCE):
        lines = [f"  {kind}: {what}" for kind, all_ in found.items() for what in sorted(all_)]
        pytest.fail("left behind:\n" + "\n".join(lines), pytrace=False)


# --- fixtures --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def layout() -> str:
    """v1 or v2: the cgroup layout of this test host."""
    return cgroup_layout()


@pytest.fixture(scope="session")
def _busybox_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_busybox_rootfs(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A directory with a short path, gone after the test."""
    directory = Path(tempfile.mkdtemp(prefix="ls", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def busybox_rootfs(_busybox_base: Path, short_tmp: Path) -> Path:
    """A root file system of the test's own: busybox, /etc/passwd and empty directories."""
    target = short_tmp / "rootfs"
    shutil.copytree(_busybox_base, target, symlinks=True)
    for directory in ("tmp", "var/tmp"):
        (target / directory).chmod(0o1777)
    return target


@pytest.fixture
def dirs(short_tmp: Path) -> Iterator[tuple[Path, Path]]:
    """The root and run directories of a test: whatever is left in them is removed and reported."""
    root, run = short_tmp / "root", short_tmp / "run"
    yield root, run
    if not root.exists():
        return
    from longshore import Engine

    engine = Engine(root=root, run_root=run)
    for box in engine.list(all=True):
        box.remove(force=True, missing_ok=True)
    deadline = time.monotonic() + PATIENCE
    if os.geteuid() != 0:
        end_namespace(run)
    while (found := _files(root, run)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not found, f"left behind after every container was removed: {sorted(found)}"


@pytest.fixture
def engine(dirs: tuple[Path, Path], runtime: str) -> object:
    """An Engine with directories of its own; runs once for each runtime that works here."""
    from longshore import Engine

    return Engine(root=dirs[0], run_root=dirs[1], runtime=runtime)


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def command_line(dirs: tuple[Path, Path], runtime: str) -> Cli:
    """Return a function that runs the `longshore` command in these directories."""
    program = Path(sys.executable).with_name("longshore")
    own = ["--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]

    def run(*args: str, code: int | None = 0, **options: object) -> object:
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            del options["stdin"]
        done = subprocess.run([str(program), *own, *args], check=False, **options)  # type: ignore[call-overload]
        assert code is None or done.returncode == code, (
            f"longshore {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    return run  # type: ignore[return-value]


@pytest.fixture
def cli(dirs: tuple[Path, Path], runtime: str) -> Cli:
    """Run the `longshore` command in the directories of `engine`, with its runtime."""
    return command_line(dirs, runtime)
