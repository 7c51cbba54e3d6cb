"""monitor/session.py: what conmon is told of an exec session."""

from __future__ import annotations

import pytest

from longshore.monitor.session import SessionLaunch

MINIMAL = SessionLaunch(
    container_id="abc",
    session_id="def",
    name="box",
    runtime="/usr/bin/crun",
    runtime_args=(),
    process="/run/e/process.json",
    bundle="/run/e",
    pidfile="/run/e/pidfile",
    conmon_pidfile="/run/e/conmon.pid",
    log="k8s-file:/var/e/exec.log",
    exit_dir="/var/e",
)


def test_minimal() -> None:
    assert MINIMAL.argv("/usr/bin/conmon") == [
        "/usr/bin/conmon",
        "--api-version", "1",
        "-c", "abc",
        "-u", "def",
        "--name=box",
        "-r", "/usr/bin/crun",
        "-b", "/run/e",
        "-p", "/run/e/pidfile",
        "-P", "/run/e/conmon.pid",
        "-l", "k8s-file:/var/e/exec.log",
        "--exit-dir", "/var/e",
        "--full-attach",
        "--no-sync-log",
        "--log-level", "warning",
        "--exec",
        "--exec-process-spec", "/run/e/process.json",
    ]  # fmt: skip


def test_everything() -> None:
    launch = MINIMAL.replace(
        runtime_args=("--root", "/state", "--log-format=json"),
        exec_args=("--cgroup=session-def", "--preserve-fds=2"),
        stdin=True,
        exit_command=("/py", "-c", "--", ""),
        log_level="debug",
    )
    assert launch.argv("conmon") == [
        "conmon",
        "--api-version", "1",
        "-c", "abc",
        "-u", "def",
        "--name=box",
        "-r", "/usr/bin/crun",
        "--runtime-arg=--root",
        "--runtime-arg=/state",
        "--runtime-arg=--log-format=json",
        "-b", "/run/e",
        "-p", "/run/e/pidfile",
        "-P", "/run/e/conmon.pid",
        "-l", "k8s-file:/var/e/exec.log",
        "--exit-dir", "/var/e",
        "--full-attach",
        "-i",
        "--no-sync-log",
        "--log-level", "debug",
        "--syslog",
        "--exit-command=/py",
        "--exit-command-arg=-c",
        "--exit-command-arg=--",
        "--exit-command-arg=",
        "--exec",
        "--exec-process-spec", "/run/e/process.json",
        "--runtime-opt=--cgroup=session-def",
        "--runtime-opt=--preserve-fds=2",
    ]  # fmt: skip


def test_a_terminal_stands_for_open_stdin() -> None:
    argv = MINIMAL.replace(terminal=True, stdin=True).argv("conmon")
    assert "-t" in argv
    assert "-i" not in argv


@pytest.mark.parametrize(
    "launch",
    [
        MINIMAL.replace(name="-t"),
        MINIMAL.replace(runtime_args=("-s", "--systemd-cgroup")),
        MINIMAL.replace(exec_args=("-t", "--", "a b")),
    ],
)
def test_a_value_that_begins_with_a_dash_stays_a_value(launch: SessionLaunch) -> None:
    plain = {"-t", "-i", "-s", "--systemd-cgroup", "--", "a b"}
    assert not plain & set(launch.argv("conmon"))
