"""Containers that join the namespaces of others, with a real runtime: who goes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import SLEEP, started
from longshore import Engine, HasDependents, NoSuchContainer, Status


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
