"""The test host itself: what the other host tests take for granted, and that leaks are seen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hostkit
from hostkit import ROOT


def test_layout_is_the_one_asked_for(layout: str) -> None:
    assert layout == os.environ["LONGSHORE_TEST_HOST"]


def test_cgroups_are_the_hosts_own(layout: str) -> None:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {line.split(":")[2] for line in lines}
    assert paths <= {"/", "/init"}
    (Path(hostkit.CGROUPS, "pids" if layout == "v1" else "", "mine")).mkdir()
    (Path(hostkit.CGROUPS, "pids" if layout == "v1" else "", "mine")).rmdir()


def test_process_1_reaps_orphans() -> None:
    subprocess.run(["sh", "-c", "sleep 0.05 & exit 0"], check=True)
    time.sleep(0.2)
    zombies = [line for line in hostkit._processes() if "(zombie)" in line]
    assert not zombies


def test_busybox_is_complete(busybox_rootfs: Path) -> None:
    done = subprocess.run(
        ["chroot", busybox_rootfs, "/bin/sh", "-c", "id -un; ls /"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"root\nbin\n")


def test_some_runtime_works() -> None:
    trouble = {name: hostkit.runtime_trouble(name) for name in hostkit.RUNTIMES}
    assert "" in trouble.values(), trouble


@pytest.mark.parametrize(
    ("kind", "leak"),
    [
        ("process", "import subprocess; leaked = subprocess.Popen(['sleep', '100'])"),
        ("process", "import os\nif not os.fork(): os._exit(0)"),
        ("descriptor", "import os; leaked = os.open('/etc/passwd', 0)"),
        ("mount", "import subprocess; subprocess.run('mount -t tmpfs none /mnt', shell=True)"),
        ("cgroup", "import os; os.makedirs(CGROUP)"),
        ("state", "import os; os.makedirs('/run/longshore/runtimes/crun/abc')"),
    ],
)
def test_a_leak_is_seen(kind: str, leak: str, tmp_path: Path, layout: str) -> None:
    cgroup = hostkit.CGROUPS + ("/pids" if layout == "v1" else "") + "/leaked"
    (tmp_path / "conftest.py").write_text("from hostkit import leak_check\n")
    (tmp_path / "test_leaks.py").write_text(
        f"import hostkit\nhostkit.PATIENCE = 0.1\nCGROUP = {cgroup!r}\nkept = []\n"
        f"def test_leaks():\n    global leaked\n    "
        + leak.replace("import subprocess; ", "import subprocess\n    ").replace("\nif", "\n    if")
        + "\n"
    )
    pytest_argv = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"]
    pytest_argv += ["-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/testhost", layout, *pytest_argv],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"  {kind}: " in done.stdout


def test_a_host_leaves_nothing_on_its_machine(layout: str) -> None:
    before = hostkit.Host()
    testhost = [sys.executable, str(ROOT / "scripts/testhost"), layout]
    cgroup = hostkit.CGROUPS + ("/memory" if layout == "v1" else "") + "/a/b"
    busy = f"mkdir -p {cgroup}; sleep 100 & echo $! >{cgroup}/cgroup.procs; exit 7"
    done = subprocess.run([*testhost, "sh", "-c", busy], check=False)
    assert done.returncode == 7
    assert not before.left()


def test_a_host_ends_with_its_caller(layout: str) -> None:
    argv = [sys.executable, str(ROOT / "scripts/testhost"), layout]
    host = subprocess.Popen([*argv, "sh", "-c", "echo up; sleep 100"], stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == b"up\n"
        host.terminate()
        assert host.wait(10) == 128 + 15
