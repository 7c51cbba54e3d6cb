"""The testbed itself: what the other tests on it take for granted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hostkit
from hostkit import ROOT
from longshore import Engine

as_root = pytest.mark.user("root")
as_tester = pytest.mark.user("tester")


def said(*argv: str, code: int | None = 0) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


def test_systemd_is_up() -> None:
    state = said("systemctl", "is-system-running", "--wait", code=None)
    assert state == "running", said("systemctl", "--failed", "--full", "--no-pager")
    assert Path("/proc/1/comm").read_text() == "systemd\n"


def test_nothing_happens_by_itself() -> None:
    timers = said("systemctl", "list-timers", "--no-legend", "--no-pager")
    assert timers == ""


def test_cgroups_are_v2(layout: str) -> None:
    assert layout == "v2"
    own = Path("/proc/self/cgroup").read_text().splitlines()[-1]
    assert own.startswith(("0::/system.slice/testbed.service", "0::/user.slice/"))
    assert Path(hostkit.CGROUPS, "system.slice/cgroup.kill").exists()
    assert Path(hostkit.CGROUPS, "init.scope/cgroup.procs").read_text().split() == ["1"]


@as_root
def test_the_users_own_systemd_is_there_before_anybody_asks() -> None:
    assert said("systemctl", "is-active", "user@1000.service") == "active"
    assert said("loginctl", "show-user", "tester", "--property=Linger") == "Linger=yes"


@as_tester
def test_a_session_of_the_users() -> None:
    assert os.environ["XDG_RUNTIME_DIR"] == "/run/user/1000"
    assert os.environ["DBUS_SESSION_BUS_ADDRESS"] == "unix:path=/run/user/1000/bus"
    assert Path("/run/user/1000/bus").is_socket()
    assert said("systemctl", "--user", "is-system-running", "--wait") == "running"
    session = said("loginctl", "show-session", os.environ["XDG_SESSION_ID"])
    assert {"Name=tester", "Class=user", "Active=yes"} <= set(session.splitlines())
    scope = said("systemd-run", "--user", "--scope", "--quiet", "cat", "/proc/self/cgroup")
    assert "/user@1000.service/app.slice/run-" in scope


@as_tester
def test_the_user_has_subordinate_ids() -> None:
    lines = said("unshare", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map")
    assert [line.split() for line in lines.splitlines()] == [
        ["0", "1000", "1"],
        ["1", "100000", "65535"],
    ]


@pytest.mark.parametrize("node", ["/dev/fuse", "/dev/net/tun"])
def test_anybody_can_open(node: str) -> None:
    os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))


@pytest.mark.parametrize("place", ["~", "/tmp", "/var/tmp"])
def test_an_overlay_can_be_written_to_in(place: str) -> None:
    script = (
        f"cd $(mktemp -d -p {os.path.expanduser(place)}); mkdir lower upper work root\n"
        "touch lower/old; mount -t overlay -o $0,userxattr overlay root\n"
        "rm root/old; touch root/new; ls upper\n"
        "umount root; rm -r $PWD"
    )
    layers = "lowerdir=lower,upperdir=upper,workdir=work"
    argv = ["unshare", "--map-root-user", "--map-auto", "--mount", "sh", "-ec", script, layers]
    assert said(*argv).split() == ["new", "old"]


@as_root
def test_a_unit_that_is_left_is_seen_as_a_leak(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from hostkit import leak_check\n")
    (tmp_path / "test_leaks.py").write_text(
        "import hostkit, subprocess\nhostkit.PATIENCE = 0.1\n"
        "def test_leaks():\n"
        "    subprocess.run(['systemd-run', '--unit=leaked', 'sleep', '100'], check=True)\n"
        "def test_leaks_nothing():\n"
        "    subprocess.run(['systemd-run', '--wait', '--collect', 'true'], check=True)\n"
    )
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly"]
    argv += ["-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        argv,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    said("systemctl", "stop", "leaked.service")
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "  process: " in done.stdout
    assert "  cgroup: /sys/fs/cgroup/system.slice/leaked.service" in done.stdout


@as_root
def test_every_runtime_works() -> None:
    trouble = {name: hostkit.runtime_trouble(name) for name in hostkit.RUNTIMES}
    assert not any(trouble.values()), trouble


@as_root
def test_a_container_runs_under_longshore(engine: Engine, busybox_rootfs: Path) -> None:
    result = engine.run(command=["sh", "-c", "echo $$; exit 3"], rootfs=busybox_rootfs, timeout=30)
    assert (result.text, result.exit.code) == ("1\n", 3)


@as_root
def test_the_hosts_own_files_can_be_a_root(engine: Engine) -> None:
    result = engine.run(
        command=["sh", "-c", "touch /made; cat /etc/hostname"], rootfs="/", overlay=True, timeout=30
    )
    assert result.text == "testbed\n"
    assert not Path("/made").exists()


@as_root
def test_criu_finds_what_it_needs() -> None:
    assert "Looks good" in said("criu", "check")
