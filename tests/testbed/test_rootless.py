"""Containers of an ordinary user, who has a systemd of its own and subordinate ids (S22)."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import SLEEP, await_end, eventually, make, started
from longshore import Container, Engine
from longshore.errors import HostUnsupported, InvalidArgument

pytestmark = pytest.mark.user("tester")
LONGSHORE = Path(sys.executable).with_name("longshore")
FIRST, COUNT = 100_000, 65_536  # what scripts/testbed gives to tester


def says(engine: Engine, rootfs: Path, script: str, **options: object) -> list[str]:
    done = engine.run(command=["sh", "-c", script], rootfs=rootfs, **options)  # type: ignore[arg-type]
    assert done.exit.ok, (done.stdout, done.stderr)
    return done.stdout.decode().splitlines()


def ids(lines: list[str]) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in lines]


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    box = started(engine, busybox_rootfs, SLEEP, overlay=True)
    yield box
    box.remove(force=True)


def test_its_ids(engine: Engine, busybox_rootfs: Path) -> None:
    found = says(engine, busybox_rootfs, "cat /proc/self/uid_map /proc/self/gid_map")
    assert ids(found) == [[0, 1000, 1], [1, FIRST, COUNT]] * 2


def test_in_the_users_own_slice(box: Container) -> None:
    path = Path(f"/proc/{box.inspect().pid}/cgroup").read_text().rpartition("::")[2]
    assert path.startswith("/user.slice/user-1000.slice/user@1000.service/user.slice/")
    box.pause()
    assert box.status.value == "paused"
    box.unpause()


def test_files_of_its_users_can_be_removed(engine: Engine, busybox_rootfs: Path) -> None:
    script = "mkdir -m 700 /theirs && touch /theirs/file && chown -R 7:8 /theirs"
    box = make(engine, busybox_rootfs, script, overlay=True)
    box.start()
    assert box.wait().ok
    layer = Path(engine._machinery.paths(box.id).layer) / "upper/theirs"
    info = layer.stat()
    assert (info.st_uid, info.st_gid) == (FIRST + 6, FIRST + 7)
    box.remove()
    assert not layer.exists()


def test_a_view_of_the_machines_own_root(engine: Engine) -> None:
    """The kernel makes none of a root with mounts below it for a user: fuse-overlayfs does."""
    script = "id -un && touch /etc/made && ls /proc/self/status /etc/made"
    done = engine.run(command=["sh", "-c", script], rootfs="/", overlay=True)
    assert done.stdout.split() == [b"root", b"/etc/made", b"/proc/self/status"], done.stderr
    assert not os.path.exists("/etc/made")
    # who is who is read from files that this process cannot see
    done = engine.run(command=["id", "-un"], rootfs="/", overlay=True, user="daemon")
    assert done.stdout == b"daemon\n", done.stderr


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("whole", ["busybox", "/"])
def test_files_in_and_out(
    engine: Engine, busybox_rootfs: Path, tmp_path: Path, running: bool, whole: str
) -> None:
    busybox_rootfs.chmod(0o755)
    rootfs = busybox_rootfs if whole == "busybox" else Path("/")
    box = make(engine, rootfs, SLEEP, overlay=True, user="7:8" if whole != "/" else "")
    if running:
        box.start()
    (tmp_path / "in").write_text("in")
    box.copy_in(tmp_path / "in", "/tmp/in")
    assert box.read_file("/tmp/in") == b"in"
    box.write_file("/tmp/made", b"made", mode=0o600)
    box.copy_out("/tmp/made", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"made"
    packed = io.BytesIO()
    box.copy_out("/tmp/made", packed)
    with tarfile.open(fileobj=io.BytesIO(packed.getvalue())) as tar:
        (member,) = tar.getmembers()
        expected = (0, 0) if whole == "/" else (7, 8)
        assert (member.uid, member.gid, member.size) == (*expected, 4)
    box.copy_in(io.BytesIO(packed.getvalue()), "/var/tmp" if whole == "/" else "/tmp")
    with pytest.raises(InvalidArgument, match="not a directory"):
        box.copy_in(io.BytesIO(packed.getvalue()), "/tmp/made")
    box.remove(force=True)


def helpers() -> int:
    """Count the processes of fuse-overlayfs."""
    names = Path("/proc").glob("[0-9]*/comm")
    return sum(name.read_text() == "fuse-overlayfs\n" for name in names if name.exists())


def test_a_look_at_what_does_not_run_leaves_no_process(engine: Engine) -> None:
    """fuse-overlayfs is in the mount namespace that it would end with."""
    box = make(engine, Path("/"), SLEEP, overlay=True)
    before = helpers()
    for _ in range(2):
        box.write_file("/tmp/file", b"")
    eventually(lambda: helpers() == before)
    box.start()
    box.stop(0)
    eventually(lambda: helpers() == before)
    box.remove()


def test_a_root_directory_behind_a_link(busybox_rootfs: Path, dirs: tuple[Path, Path]) -> None:
    """The kernel tells mounts by their real places."""
    real, link = dirs[0].with_name("real"), dirs[0].with_name("link")
    real.mkdir()
    link.symlink_to(real)
    engine = Engine(root=link / "root", run_root=dirs[1])
    box = started(engine, busybox_rootfs, SLEEP, overlay=True)
    rootless = engine._machinery.rootless
    assert rootless is not None
    merged = engine._machinery.paths(box.id).merged
    assert rootless.mounted(merged)
    box.stop(0)
    eventually(lambda: not rootless.mounted(merged))  # by the exit command, in the namespace
    box.remove()


@pytest.mark.parametrize(
    ("mode", "uids", "who"),
    [
        ("keep-id", [[0, 1, 1000], [1000, 0, 1], [1001, 1001, COUNT - 1000]], "1000:1000"),
        ("keep-id:uid=5,gid=6", [[0, 1, 5], [5, 0, 1], [6, 6, COUNT - 5]], "5:6"),
        ("private", [[0, 0, 1], [1, 1, COUNT]], "0:0"),
    ],
)
def test_a_namespace_of_its_own(
    engine: Engine, busybox_rootfs: Path, mode: str, uids: list[list[int]], who: str
) -> None:
    busybox_rootfs.chmod(0o755)
    script = "echo $(id -u):$(id -g); cat /proc/self/uid_map"
    found = says(engine, busybox_rootfs, script, userns=mode, overlay=True)
    assert (found[0], ids(found[1:])) == (who, uids)


def test_without_the_user(engine: Engine, busybox_rootfs: Path, dirs: tuple[Path, Path]) -> None:
    """The user's own id is not mapped, so its directories have to let others pass."""
    with pytest.raises(HostUnsupported, match="on the way to its root") as caught:
        says(engine, busybox_rootfs, "true", userns="nomap", overlay=True)
    assert "chmod o+x" in str(caught.value.hint)
    dirs[0].parent.chmod(0o711)
    busybox_rootfs.chmod(0o755)
    script = "cat /proc/self/uid_map; touch /tmp/new && stat -c %u /tmp/new"
    found = says(engine, busybox_rootfs, script, userns="nomap", overlay=True)
    assert (ids(found[:1]), found[1]) == ([[0, 1, COUNT]], "0")
    first, second = (
        ids(says(engine, busybox_rootfs, "cat /proc/self/uid_map", userns="auto", overlay=True))
        for _ in range(2)
    )
    assert first == second == [[0, 1, 2001]]  # what the root's group file names
    kept = started(engine, busybox_rootfs, SLEEP, userns="auto", overlay=True)
    third = says(engine, busybox_rootfs, "cat /proc/self/uid_map", userns="auto", overlay=True)
    assert ids(third) == [[0, 2002, 2001]]
    kept.remove(force=True)
    top = stat.S_IMODE((dirs[0] / "containers").stat().st_mode)
    assert top == 0o701  # to be passed, and not to be listed


def test_dev_shm_is_shared_with_who_joins(
    engine: Engine, box: Container, busybox_rootfs: Path
) -> None:
    box.exec(["sh", "-c", "echo here >/dev/shm/word"], check=True)
    script = "cat /dev/shm/word"
    assert says(engine, busybox_rootfs, script, ipc=f"container:{box.name}") == ["here"]


def test_groups_that_are_kept(engine: Engine, busybox_rootfs: Path, runtime: str) -> None:
    if runtime != "crun":
        with pytest.raises(HostUnsupported, match="cannot keep groups"):
            make(engine, busybox_rootfs, SLEEP, group_add=["keep-groups"])
        return
    box = started(engine, busybox_rootfs, SLEEP, group_add=["keep-groups"])
    status = Path(f"/proc/{box.inspect().pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("Groups:"))
    assert set(line.split()[1:]) >= {str(gid) for gid in os.getgroups()}
    box.remove(force=True)


def test_an_exec_is_in_the_containers_cgroup(box: Container) -> None:
    """From a login session, out of whose cgroup a user can move nothing by itself."""
    with box.popen(["sh", "-c", f"echo ready; {SLEEP}"], text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        top = engine_cgroup(box)
        paths = {
            Path(f"/proc/{found.host_pid}/cgroup").read_text().rpartition("::")[2].strip()
            for found in box.top()
        }
        assert all(path.startswith(top) for path in paths)
        assert len(paths) == 2  # the container's, and one of the exec's own below it
        process.kill()


def engine_cgroup(box: Container) -> str:
    run = box._machinery.store.peek(box.id).run
    assert run is not None
    return run.cgroup


def test_the_namespace_is_one_and_is_found_again(
    engine: Engine, box: Container, dirs: tuple[Path, Path]
) -> None:
    """A conmon keeps it too, so nothing is lost when the process that keeps it is ended."""
    space = os.readlink(f"/proc/{box.inspect().pid}/ns/user")
    kept = json.loads((dirs[1] / "namespace").read_text())
    os.kill(kept["pid"], 9)
    await_end(kept["pid"])
    again = Engine(root=dirs[0], run_root=dirs[1])
    other = again.get(box.name)
    done = other.exec(["echo", "here"])
    assert done.text == "here\n", done
    other.stop(0)
    other.start()
    assert other.inspect().pid
    # with nobody left in it a new one is made
    assert os.readlink(f"/proc/{other.inspect().pid}/ns/user") != space


def test_unshare(cli: Cli, busybox_rootfs: Path, tmp_path: Path) -> None:
    done = cli("unshare", "cat", "/proc/self/uid_map")
    assert ids(done.stdout.splitlines()) == [[0, 1000, 1], [1, FIRST, COUNT]]
    assert cli("unshare", "sh", "-c", "exit 7", code=7).stdout == ""
    done = cli("unshare", "pwd", cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path)
    assert "no-such: there is no such program" in cli("unshare", "no-such", code=127).stderr


def systemctl(*args: str, code: int = 0) -> str:
    done = subprocess.run(
        ["systemctl", "--user", *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done.stdout


def test_a_service_of_the_users_own(cli: Cli, busybox_rootfs: Path) -> None:
    cli("create", "--name", "box", "--rootfs", f"{busybox_rootfs}:O", "sleep", "1000")
    text = cli("generate", "systemd", "--new", "--name", "box").stdout
    cli("rm", "box")
    unit = Path.home() / ".config/systemd/user/longshore-test.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(text)
    try:
        systemctl("daemon-reload")
        systemctl("start", unit.name)
        assert systemctl("is-active", unit.name) == "active\n"
        pid = int(cli("inspect", "--format", "{{.State.Pid}}", "box").stdout)
        os.kill(pid, 9)  # it is started again
        shown = ("inspect", "--format", "{{.State.Pid}}", "box")
        eventually(
            lambda: cli(*shown, code=None).stdout.strip() not in ("", "0", str(pid)), patience=30
        )
        systemctl("stop", unit.name)
        assert cli("ps", "-aq").stdout == ""
        assert systemctl("--failed", "--no-legend") == ""
    finally:
        systemctl("stop", unit.name)
        unit.unlink()
        systemctl("daemon-reload")


def test_logout_is_warned_of(cli: Cli, busybox_rootfs: Path) -> None:
    lingers = "/var/lib/systemd/linger/tester"
    subprocess.run(["sudo", "mv", lingers, f"{lingers}-not"], check=True)
    try:
        done = cli("run", "-d", "--name", "box", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    finally:
        subprocess.run(["sudo", "mv", f"{lingers}-not", lingers], check=True)
    assert "ends when tester logs out" in done.stderr
    assert "loginctl enable-linger tester" in done.stderr
    done = cli("run", "--rm", "--rootfs", str(busybox_rootfs), "true")
    assert done.stderr == ""
    cli("stop", "-t", "0", "box")
    assert cli("start", "box").stderr == ""  # who lingers is told nothing
    cli("rm", "-f", "-t", "0", "box")


def test_one_id_is_all_there_is(cli: Cli, busybox_rootfs: Path) -> None:
    """Without subordinate ids a container has one, and is told so."""
    empty = Path("/tmp/no-subordinate-ids")
    empty.write_text("")
    for file in ("/etc/subuid", "/etc/subgid"):
        subprocess.run(["sudo", "mount", "--bind", str(empty), file], check=True)
    try:
        done = cli("run", "--rm", "--rootfs", str(busybox_rootfs), "cat", "/proc/self/uid_map")
        assert ids(done.stdout.splitlines()) == [[0, 1000, 1]]
        assert "/etc/subuid has no range for tester" in done.stderr
        done = cli(
            "run", "--rm", "--rootfs", f"{busybox_rootfs}:O", "sh", "-c", "touch /x; id -u"
        )  # fmt: skip
        assert done.stdout == "0\n"
        done = cli("run", "--userns", "nomap", "--rootfs", str(busybox_rootfs), "true", code=125)
        assert "this user has none" in done.stderr
        assert "usermod --add-subuids" in done.stderr
    finally:
        for file in ("/etc/subuid", "/etc/subgid"):
            subprocess.run(["sudo", "umount", file], check=True)
        empty.unlink()


def test_a_limit_names_what_is_missing(cli: Cli, busybox_rootfs: Path) -> None:
    done = cli("run", "-m", "64m", "--rootfs", str(busybox_rootfs), "true", code=125)
    assert "needs the cgroup controller memory" in done.stderr
    assert "Delegate=" in done.stderr
    doctor = cli("doctor", code=None)
    assert "Delegate=" in doctor.stdout
