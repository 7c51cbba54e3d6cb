"""The test host itself: what the other host tests take for granted, and that leaks are seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hostkit
from hostkit import ROOT, needs
from hostlife import eventually


def test_layout_is_the_one_asked_for(layout: str) -> None:
    asked = os.environ["LONGSHORE_TEST_HOST"]
    assert layout == ("v2" if asked == "testbed" else asked)


def test_cgroups_are_the_hosts_own(layout: str) -> None:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {line.split(":")[2] for line in lines}
    assert paths <= {"/", "/system.slice/testbed.service" if hostkit.on_testbed() else "/init"}
    (Path(hostkit.CGROUPS, "pids" if layout == "v1" else "", "mine")).mkdir()
    (Path(hostkit.CGROUPS, "pids" if layout == "v1" else "", "mine")).rmdir()


def test_process_1_reaps_orphans() -> None:
    script = "sleep 0.05 >&2 & echo $!"
    done = subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE)
    orphan = Path(f"/proc/{int(done.stdout)}")  # as a zombie, it would stay there
    eventually(lambda: not orphan.exists())


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


FREEZE = f"""
top={hostkit.CGROUPS}/freezer
mkdir -p $top/a/b
sleep 100 &
echo $! >$top/a/b/cgroup.procs
echo FROZEN >$top/a/freezer.state
until grep -q FROZEN $top/a/b/freezer.state; do :; done
"""
FREEZE_V2 = f"""
mkdir -p {hostkit.CGROUPS}/a
sleep 100 &
echo $! >{hostkit.CGROUPS}/a/cgroup.procs
echo 1 >{hostkit.CGROUPS}/a/cgroup.freeze
"""


def test_a_frozen_process_holds_no_host_up(layout: str) -> None:
    before = hostkit.Host()
    argv = [sys.executable, str(ROOT / "scripts/testhost"), layout, "sh", "-c"]
    script = FREEZE if layout == "v1" else FREEZE_V2
    assert subprocess.run([*argv, f"{script} exit 7"], check=False, timeout=20).returncode == 7
    # The same when process 1 had no time for anything.
    host = subprocess.Popen([*argv, f"{script} echo up; sleep 100"], stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == b"up\n"
        host.terminate()
        assert host.wait(20) == 128 + 15
    assert not before.left()


def test_v1_writes_nothing_where_the_unified_tree_was(layout: str, tmp_path: Path) -> None:
    """On a hybrid machine, that is a directory of the machine's own tmpfs."""
    if layout == "v2":
        return  # everything under /sys/fs/cgroup is replaced there
    unified = f"{hostkit.CGROUPS}/unified"
    needs("a kernel with cgroup v2", "cgroup2" in Path("/proc/filesystems").read_text())
    script = (
        # a machine of which only this test knows, as hybrid as one can be
        f"set -e; mount -t tmpfs -o mode=755 none {tmp_path}\n"
        f"mkdir {tmp_path}/unified {tmp_path}/pids\n"
        f"mount --move {hostkit.CGROUPS}/pids {tmp_path}/pids; umount --lazy {hostkit.CGROUPS}\n"
        f"mount --move {tmp_path} {hostkit.CGROUPS}; mount -t cgroup2 none {unified}\n"
        f'"$0" "$1" v1 mkdir {unified}/litter\n'
        f"umount {unified}; ls {unified}"
    )
    host = [sys.executable, str(ROOT / "scripts/testhost")]
    unshare = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run([*unshare, *host], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
