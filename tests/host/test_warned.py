"""What is no error and still has to be said: on the logger, and on the command line's stderr."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import hostkit
from hostlife import SLEEP, started
from longshore import Engine
from longshore.cgroup.placement import Cgroupfs


def _argv(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_conmon_without_its_cgroup(
    engine: Engine,
    busybox_rootfs: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Cgroupfs, "place_monitor", lambda *_: "Device or resource busy")
    box = started(engine, busybox_rootfs, "exit 3", name="box", cgroup_manager="cgroupfs")
    assert box.wait(30).code == 3
    box.remove(force=True)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("longshore", logging.WARNING)
    assert record.getMessage() == (
        "conmon of container box stays in its starter's cgroup: Device or resource busy"
    )


def test_nothing_is_said_of_what_goes_well(
    engine: Engine, busybox_rootfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert engine.run(command=["true"], rootfs=busybox_rootfs).exit.ok
    assert not caplog.records


def test_details_reach_conmon(
    engine: Engine, busybox_rootfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = started(engine, busybox_rootfs, SLEEP)
    argv = _argv(box.inspect().monitor_pid)
    assert argv[argv.index("--log-level") + 1] == "warning"
    assert "--syslog" not in argv
    box.remove(force=True)
    with caplog.at_level(logging.DEBUG, "longshore"):
        box = started(engine, busybox_rootfs, SLEEP, name="box")
    argv = _argv(box.inspect().monitor_pid)
    assert argv[argv.index("--log-level") + 1] == "debug"
    assert "--syslog" in argv
    assert caplog.messages[0].startswith("container box: ")  # and how it was called
    assert f" -c {box.id} " in caplog.messages[0]
    box.remove(force=True)


def test_details_are_not_in_an_error(
    engine: Engine, busybox_rootfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """conmon writes them on stderr too, where its reasons are looked for."""
    box = engine.create(command=["nothing"], rootfs=busybox_rootfs)
    with caplog.at_level(logging.DEBUG, "longshore"), pytest.raises(Exception, match="nothing"):
        box.start()
    assert "conmon:d" not in box.inspect().error
    box.remove()


def test_the_command_line_warns_in_one_line(cli: hostkit.Cli, busybox_rootfs: Path) -> None:
    run = ("run", "--rm", "-it", "--rootfs", str(busybox_rootfs), "echo", "hi")
    done = cli(*run)
    assert done.stdout.strip() == "hi"
    (line,) = done.stderr.splitlines()
    assert line == "longshore: warning: --tty and --interactive: standard input is no terminal"
    assert cli("--log-level", "error", *run).stderr == ""


def test_systemd_without_a_bus_is_an_error(
    cli: hostkit.Cli, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for and not there: nothing is made, and what to try is said."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={short_tmp}/no-bus")
    create = ("create", "--name", "box", "--rootfs", str(busybox_rootfs), "true")
    done = cli("--cgroup-manager", "systemd", *create, code=125)
    assert "the systemd cgroup manager needs D-Bus" in done.stderr
    assert f"{short_tmp}/no-bus: No such file or directory" in done.stderr
    assert "--cgroup-manager cgroupfs" in done.stderr
    conf = short_tmp / "containers.conf"
    conf.write_text('[engine]\ncgroup_manager = "systemd"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    assert cli(*create, code=125).stderr == done.stderr
    assert cli("ps", "-a", "-q").stdout == ""
    cli("--cgroup-manager", "cgroupfs", *create)
    conf.write_text("")
    assert cli("inspect", "--format", "{{.HostConfig.CgroupManager}}", "box").stdout == "cgroupfs\n"
    cli("start", "box")
    cli("wait", "box")
    cli("rm", "box")
