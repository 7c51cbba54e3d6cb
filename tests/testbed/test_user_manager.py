"""A user's own systemd makes cgroups as the system's does, from inside a user namespace too."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.user("tester")
CODE = """
import os, subprocess
from longshore.cgroup import systemd
from longshore.linux import cgroups

host = systemd.Host(user=True, timeout=30, cache="/nowhere/systemd.json", label="/test")
sleep = subprocess.Popen(["sleep", "1000"])
try:
    placement = systemd.place(cgroups.detect(), host, "", "ab" * 32)
    assert placement.prepare(sleep.pid) == ""
    assert placement.own.exists()
    with open(f"/proc/{sleep.pid}/cgroup") as file:
        print(placement.own.path, file.read().splitlines()[-1].removeprefix("0::"))
    assert placement.remove()
    assert not placement.own.exists()
finally:
    sleep.kill()
    sleep.wait()
"""


@pytest.fixture(scope="module", autouse=True)
def furniture() -> None:
    """What stays once anybody has used it: nobody's leak."""
    subprocess.run(["systemctl", "--user", "start", "dbus.service", "user.slice"], check=True)


@pytest.mark.parametrize("inside", [[], ["unshare", "--user", "--map-root-user"]])
def test_a_user_s_systemd(inside: list[str]) -> None:
    done = subprocess.run(
        [*inside, sys.executable, "-c", CODE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    own, conmon = done.stdout.split()
    # what its manager says of itself, not what a name would make one guess
    manager = "/user.slice/user-1000.slice/user@1000.service"
    ident = "ab" * 32
    assert own == f"{manager}/user.slice/user-longshore_{ident}.slice"
    assert conmon == f"{manager}/user.slice/longshore-conmon-{ident}.scope"
    left = subprocess.run(
        ["systemctl", "--user", "list-units", "--all", "--failed", "--no-legend", "*longshore*"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert left.stdout == ""
