"""An ordinary user on a host without systemd and without any cgroup that it was given (S22)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostkit import ROOT, end_namespace, needs, which
from hostlife import await_end

USER, NAME = 1234, "longshore-user"
FIRST, COUNT = 500_000, 2_000
# Nothing of this is in a place that may be its owner's only, as a checkout may be.
PYTHON = os.path.realpath("/usr/bin/python3")
START = (
    "import sys; sys.path[:0] = [sys.argv.pop(1)]; from longshore.cli import main; sys.exit(main())"
)
User = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(short_tmp: Path) -> Iterator[Path]:
    """Make a user with subordinate ids, in this mount namespace only."""
    needs("newuidmap", which("newuidmap"))
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=False)
    numbers = tuple(int(n) for n in version.stdout.split()[-1].split(".")[:2])
    needs("Python 3.11 in /usr/bin", version.stdout, numbers >= (3, 11))
    home = short_tmp / "home"
    (home / "run").mkdir(parents=True)
    short_tmp.chmod(0o755)
    texts = {
        "/etc/passwd": f"{Path('/etc/passwd').read_text()}{NAME}:x:{USER}:{USER}::{home}:/bin/sh\n",
        "/etc/subuid": f"{NAME}:{FIRST}:{COUNT}\n",
        "/etc/subgid": f"{USER}:{FIRST}:{COUNT}\n",
    }
    for path, text in texts.items():
        file = short_tmp / Path(path).name
        file.write_text(text)
        subprocess.run(["mount", "--bind", str(file), path], check=True)
    source = short_tmp / "src"
    source.mkdir()
    subprocess.run(["mount", "--bind", str(ROOT / "src"), str(source)], check=True)
    for path in (home, home / "run"):
        os.chown(path, USER, USER)
        path.chmod(0o700)
    yield home
    for path in (*texts, str(source)):
        subprocess.run(["umount", path], check=True)
    end_namespace(home / "run/longshore")
    shutil.rmtree(home)


@pytest.fixture
def longshore(home: Path, busybox_rootfs: Path, runtime: str) -> User:
    """Run the command as that user."""
    for path in (busybox_rootfs, *busybox_rootfs.rglob("*")):
        os.lchown(path, USER, USER)
    source = home.parent / "src"
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}

    def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
                "--inh-caps=-all", PYTHON, "-I", "-c", START, str(source),
                "--runtime", runtime, *args,
            ],
            env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    return run


def test_a_life(longshore: User, busybox_rootfs: Path) -> None:
    done = longshore("run", "--rm", "--rootfs", str(busybox_rootfs), "cat", "/proc/self/uid_map")
    assert done.stdout.split() == ["0", str(USER), "1", "1", str(FIRST), str(COUNT)]
    script = "mkdir -m 700 /theirs && chown 7:8 /theirs && echo made && exec sleep 1000"
    longshore(
        "run", "-d", "--name", "box", "--rootfs", f"{busybox_rootfs}:O", "sh", "-c", script
    )  # fmt: skip
    assert longshore("ps", "--format", "{{.Names}}").stdout == "box\n"
    assert longshore("exec", "box", "stat", "-c", "%u:%g", "/theirs").stdout == "7:8\n"
    assert longshore("exec", "box", "sh", "-c", "exit 9", code=9).stdout == ""
    assert longshore("top", "box", "comm").stdout.split() == ["COMMAND", "sleep"]
    assert longshore("inspect", "--format", "{{.State.CgroupPath}}", "box").stdout == "\n"
    assert longshore("stop", "-t", "0", "box").stdout == "box\n"
    assert longshore("wait", "box").stdout == "137\n"
    assert longshore("start", "box").stdout == "box\n"
    assert longshore("rm", "-f", "-t", "0", "box").stdout == "box\n"
    assert longshore("ps", "-aq").stdout == ""


def test_an_exec_is_ended_with_all_it_has_started(longshore: User, busybox_rootfs: Path) -> None:
    """Without a cgroup they are found by where they come from, in the container's pid namespace."""
    longshore("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    script = "setsid sleep 2000 & (sleep 3000 &) ; sleep 4000"
    session = longshore("exec", "-d", "box", "sh", "-c", script).stdout.strip()
    assert session
    longshore("rm", "-f", "-t", "0", "box")


def test_what_cannot_be_had_is_said(longshore: User, busybox_rootfs: Path) -> None:
    root = str(busybox_rootfs)
    done = longshore("run", "-m", "64m", "--rootfs", root, "true", code=125)
    assert "needs the cgroup controller memory" in done.stderr
    done = longshore("run", "--pid", "host", "--rootfs", root, "true", code=125)
    assert "pid=host needs a cgroup" in done.stderr
    done = longshore("run", "--cgroup-manager", "cgroupfs", "--rootfs", root, "true", code=125)
    assert "was given no part of the cgroup tree" in done.stderr
    longshore("run", "-d", "--name", "box", "--rootfs", root, "sleep", "1000")
    done = longshore("pause", "box", code=125)
    assert "needs a cgroup of its own" in done.stderr
    for limit in ("--memory=0", "--pids-limit=-1", "--cpus=0", "--cpuset-cpus=", "--memory=64m"):
        done = longshore("update", limit, "box", code=125)
        assert "to update container box needs a cgroup of its own" in done.stderr, limit
    asked = "{{.HostConfig.PidsLimit}}"
    limit = longshore("inspect", "--format", asked, "box").stdout
    longshore("stop", "-t", "0", "box")
    longshore("update", "--pids-limit=-1", "box")  # where nothing runs it is the record's alone
    assert longshore("inspect", "--format", asked, "box").stdout != limit
    longshore("rm", "-f", "-t", "0", "box")


def test_what_has_lost_its_runtime_is_ended(
    longshore: User, busybox_rootfs: Path, home: Path, runtime: str
) -> None:
    found = which(runtime)
    assert found is not None
    program = home / runtime
    shutil.copy(found, program)
    for verb in (("rm", "-f", "-t", "0"), ("stop", "-t", "0")):
        longshore(
            "run", "-d", "--name", "box", "--runtime", str(program),
            "--rootfs", str(busybox_rootfs), "sleep", "1000",
        )  # fmt: skip
        pid = int(longshore("inspect", "--format", "{{.State.Pid}}", "box").stdout)
        program.rename(home / "gone")
        longshore(*verb, "box")
        await_end(pid)
        longshore("rm", "-f", "-i", "box")
        (home / "gone").rename(program)
