"""Containers that join the namespaces of others, with a real runtime: who goes first."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from hostkit import Cli, kind_of
from hostlife import SLEEP, in_fork, make, started
from longshore import (
    Container,
    Engine,
    HasDependents,
    HostUnsupported,
    InvalidArgument,
    LongshoreError,
    Mount,
    NoSuchContainer,
    Status,
    WrongState,
)
from longshore.engine.trace import Trace
from longshore.linux.mounts import mount, mount_points, unmount

_SHARED = 1 << 20  # MS_SHARED


def test_removal(engine: Engine, busybox_rootfs: Path) -> None:
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    user = started(engine, busybox_rootfs, SLEEP, name="user", network="container:first")
    space = os.readlink(f"/proc/{first.inspect().pid}/ns/net")
    assert os.readlink(f"/proc/{user.inspect().pid}/ns/net") == space
    with pytest.raises(HasDependents, match="user"):
        first.remove(force=True)
    assert first.status is Status.RUNNING  # it was refused before anything was ended
    assert engine.prune() == []
    first.stop(timeout=0)
    assert engine.prune() == []  # what runs still needs it
    with pytest.raises(HasDependents, match="user"):
        first.remove()
    # another one of the name changes nothing
    first.rename("old")
    other = started(engine, busybox_rootfs, SLEEP, name="first")
    first.start()
    user.stop(timeout=0)
    user.start()
    space = os.readlink(f"/proc/{first.inspect().pid}/ns/net")
    assert os.readlink(f"/proc/{user.inspect().pid}/ns/net") == space
    other.remove(force=True)
    first.remove(force=True, depend=True)
    for box in (first, user):
        with pytest.raises(NoSuchContainer):
            box.inspect()


def test_one_that_removes_itself_stays_while_it_is_needed(
    engine: Engine, busybox_rootfs: Path
) -> None:
    first = started(engine, busybox_rootfs, SLEEP, name="first", remove=True)
    user = started(engine, busybox_rootfs, SLEEP, ipc="container:first")
    first.kill()
    first.wait_status(Status.EXITED, timeout=20)
    user.remove(force=True)
    first.remove()


def test_the_command_line(cli: Cli, busybox_rootfs: Path) -> None:
    root = ["--rootfs", str(busybox_rootfs), "sleep", "1000"]
    ident = cli("run", "-d", "--name", "first", *root).stdout.strip()
    cli("run", "-d", "--name", "user", "--network", "container:first", *root)
    form = "{{.Dependencies}} {{.HostConfig.NetworkMode}}"
    assert cli("inspect", "-f", form, "user").stdout == f"[{ident}] container:{ident}\n"
    for flags in ([], ["-f"]):
        done = cli("rm", *flags, "first", code=125)
        assert done.stderr.startswith(
            "Error: container first has dependent containers, which must be removed before it: user"
        )
    found = cli("ps", "--filter", "network=container:first", "--format", "{{.Names}}")
    assert found.stdout == "user\n"
    assert cli("ps", "--filter", "network=none", "--format", "{{.Names}}").stdout == "first\n"
    cli("rm", "-f", "--depend", "first")
    assert cli("ps", "-aq").stdout == ""
    cli("create", "--name", "first", *root)
    cli("create", "--name", "user", "--ipc", "container:first", *root)
    cli("container", "prune", "-f", "--filter", "name=first")
    assert cli("rm", "first", "user").stdout == "user\nfirst\n"


def _inside(box: Container, script: str) -> str:
    done = box.exec(["sh", "-c", script], timeout=20)
    assert done.exit.ok, done.stderr
    return done.text


def test_ipc_and_dev_shm_are_joined_together(engine: Engine, busybox_rootfs: Path) -> None:
    before = [point.path for point in mount_points()]
    first = started(engine, busybox_rootfs, SLEEP, name="first", shm_size="1m")
    user = started(engine, busybox_rootfs, SLEEP, name="user", ipc="container:first")
    third = started(engine, busybox_rootfs, SLEEP, name="third", ipc="container:user")
    other = started(engine, busybox_rootfs, SLEEP, name="other")
    _inside(first, "echo one >/dev/shm/a")
    _inside(user, "echo two >>/dev/shm/a; chmod 600 /dev/shm/a")
    assert _inside(third, "cat /dev/shm/a") == "one\ntwo\n"
    assert _inside(first, "cat /dev/shm/a") == "one\ntwo\n"
    for box in (first, user, third):
        assert _inside(box, "df -k /dev/shm | awk 'END {print $2}'") == "1024\n"
        mounts = _inside(box, "grep ' /dev/shm ' /proc/mounts").splitlines()
        assert len(mounts) == 1
        assert {"rw", "nosuid", "nodev", "noexec"} <= set(mounts[0].split()[3].split(","))
    assert _inside(other, "ls /dev/shm") == ""
    assert [point.path for point in mount_points()] == before
    # what it has joined is there for as long as it needs it, and a new run has a new one
    first.kill()
    first.wait(20)
    assert _inside(user, "cat /dev/shm/a") == "one\ntwo\n"
    user.stop(timeout=0)
    with pytest.raises(WrongState, match="first"):
        user.start()
    assert user.status is Status.EXITED
    first.start()
    user.start()
    _inside(first, "echo new >/dev/shm/b")
    assert _inside(user, "ls /dev/shm") == "b\n"
    for box in (third, user, first, other):
        box.remove(force=True)


def test_who_does_not_share_dev_shm(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    """A volume there, a container that has none, and one whose IPC is private."""
    (short_tmp / "v").mkdir()
    first = started(engine, busybox_rootfs, SLEEP, name="first", ipc="shareable")
    _inside(first, "echo one >/dev/shm/a")
    volume = Mount(type="bind", target="/dev/shm", source=str(short_tmp / "v"))
    box = started(engine, busybox_rootfs, SLEEP, ipc="container:first", mounts=[volume])
    assert _inside(box, "ls /dev/shm") == ""
    box.remove(force=True)
    path = f"/proc/{first.inspect().pid}/ns/ipc"
    space = started(engine, busybox_rootfs, SLEEP, ipc=f"ns:{path}")
    assert _inside(space, "ls /dev/shm") == ""
    space.remove(force=True)
    first.remove(force=True)
    none = started(engine, busybox_rootfs, SLEEP, name="none", ipc="none")
    box = started(engine, busybox_rootfs, SLEEP, ipc="container:none")
    assert _inside(box, "touch /dev/shm/x; ls /dev/shm") == "x\n"
    box.remove(force=True)
    none.remove(force=True)
    private = started(engine, busybox_rootfs, SLEEP, name="mine", ipc="private")
    with pytest.raises(InvalidArgument, match="IPC of container mine is not shared") as caught:
        engine.create(command=["true"], rootfs=busybox_rootfs, ipc="container:mine")
    assert "shareable" in str(caught.value.hint)
    private.remove(force=True)


def _tmpfs(target: str, *options: str) -> dict[str, object]:
    return {"destination": target, "type": "tmpfs", "source": "mine", "options": [*options]}


def _patch(*mounts: dict[str, object]) -> dict[str, object]:
    """A spec's mounts: a merge patch replaces a list as a whole."""
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    return {"mounts": [proc, _tmpfs("/dev", "mode=755"), *mounts]}


def test_dev_shm_of_a_spec_patch_is_kept(engine: Engine, busybox_rootfs: Path) -> None:
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    patch = _patch(_tmpfs("/dev/shm", "size=64k"))
    box = started(engine, busybox_rootfs, SLEEP, ipc="container:first", spec_patch=patch)
    assert _inside(box, "df -k /dev/shm | awk 'END {print $2}'") == "64\n"
    box.remove(force=True)
    first.remove(force=True)


def test_what_is_below_dev_shm_is_not_hidden(engine: Engine, busybox_rootfs: Path) -> None:
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    patch = _patch({**_tmpfs("/dev/shm"), "source": "shm"}, _tmpfs("/dev/shm/data"))
    box = make(engine, busybox_rootfs, SLEEP, ipc="container:first", spec_patch=patch)
    with pytest.raises(InvalidArgument, match=r"/dev/shm/data of container .* would be hidden"):
        box.start()
    assert box.status is Status.CREATED
    box.remove()
    first.remove(force=True)


def test_dev_shm_is_not_shared_where_the_host_would_see_it(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, runtime: str
) -> None:
    device = short_tmp / "dev"
    device.mkdir()
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    mount("tmpfs", str(device), "tmpfs")
    try:
        mount("", str(device), "", _SHARED)
        (device / "shm").mkdir()
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            node = os.stat(f"/dev/{name}")
            os.mknod(device / name, node.st_mode, node.st_rdev)
        options = ["rbind", "rshared"]
        volume = {"destination": "/dev", "type": "bind", "source": str(device), "options": options}
        # without the mounts on it that every container has: they would be the host's by now
        proc = {"destination": "/proc", "type": "proc", "source": "proc"}
        patch = {"mounts": [proc, volume]}
        box = make(engine, busybox_rootfs, SLEEP, ipc="container:first", spec_patch=patch)
        before = [point.path for point in mount_points()]
        refused = pytest.raises(HostUnsupported, match="/dev, whose mounts are shared")
        # crun makes it private (1.8.1)
        strict = kind_of(runtime) == "runc"
        with refused if strict else contextlib.suppress(HostUnsupported):
            box.start()
        assert [point.path for point in mount_points()] == before
        box.remove(force=True)
    finally:
        unmount(str(device))
        first.remove(force=True)


@pytest.mark.parametrize("trick", ["link", "directory", "suid"])
def test_a_dev_shm_that_its_owner_has_changed(
    engine: Engine, busybox_rootfs: Path, trick: str
) -> None:
    """What a program in a container with every capability makes of it leads nowhere else."""
    first = started(engine, busybox_rootfs, SLEEP, name="first", privileged=True)
    user = make(engine, busybox_rootfs, SLEEP, name="user", ipc="container:first")
    if trick == "suid":
        _inside(first, "mount -o remount,suid,exec,dev /dev/shm; cp /bin/busybox /dev/shm/id")
        user.start()
        assert _inside(first, "/dev/shm/id -u") == "0\n"
        assert user.exec(["sh", "-c", "/dev/shm/id"], timeout=20).exit.code == 126
    else:
        _inside(first, "umount /dev/shm; rmdir /dev/shm")
        _inside(first, "ln -s /etc /dev/shm" if trick == "link" else "mkdir /dev/shm")
        with pytest.raises(LongshoreError, match="cannot share /dev/shm of container first"):
            user.start()
        assert user.status is Status.CREATED
    user.remove(force=True)
    first.remove(force=True)


def test_a_path_that_is_another_kind_by_now(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path
) -> None:
    first = started(engine, busybox_rootfs, SLEEP)
    pid = first.inspect().pid
    link = short_tmp / "space"
    link.symlink_to(f"/proc/{pid}/ns/net")
    box = make(engine, busybox_rootfs, "true", name="box", network=f"ns:{link}")
    link.unlink()
    link.symlink_to(f"/proc/{pid}/ns/uts")
    with pytest.raises(InvalidArgument) as caught:
        box.start()
    assert str(caught.value).endswith(
        f"network: {link} is a UTS namespace, and a network namespace was asked for"
    )
    assert box.status is Status.CREATED
    box.remove()
    first.remove(force=True)


class _Killed(Trace):
    def mark(self, name: str) -> None:
        if name == "record created":
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_starter_that_was_killed_before_it_shared_dev_shm(
    engine: Engine, busybox_rootfs: Path
) -> None:
    """Its container is created and not started; whoever goes on shares it."""
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    user = make(engine, busybox_rootfs, SLEEP, name="user", ipc="container:first")
    assert in_fork(lambda: user.start(trace=_Killed())) == -signal.SIGKILL
    user.start()
    _inside(first, "echo one >/dev/shm/a")
    assert _inside(user, "cat /dev/shm/a") == "one\n"
    for box in (user, first):
        box.remove(force=True)
