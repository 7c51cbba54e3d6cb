"""monitor/launch.py: what conmon is told. The handshake itself is in tests/contract."""

from __future__ import annotations

import pytest

from longshore.monitor.launch import Launch

MINIMAL = Launch(
    container_id="abc",
    name="box",
    runtime="/usr/bin/crun",
    runtime_args=(),
    bundle="/run/b",
    pidfile="/run/pidfile",
    conmon_pidfile="/run/conmon.pid",
    log="k8s-file:/var/ctr.log",
    exit_dir="/run/exits",
)


def test_minimal() -> None:
    assert MINIMAL.argv("/usr/bin/conmon") == [
        "/usr/bin/conmon",
        "--api-version", "1",
        "-c", "abc",
        "-u", "abc",
        "--name=box",
        "-r", "/usr/bin/crun",
        "-b", "/run/b",
        "-p", "/run/pidfile",
        "-P", "/run/conmon.pid",
        "-l", "k8s-file:/var/ctr.log",
        "--exit-dir", "/run/exits",
        "--full-attach",
        "--log-level", "warning",
    ]  # fmt: skip


def test_everything() -> None:
    launch = MINIMAL.replace(
        runtime_args=("--root", "/state", "--log-format=json"),
        persist_dir="/persist",
        socket_dir="/sockets",
        stdin=True,
        leave_stdin_open=True,
        systemd_cgroup=True,
        log_size_max=1000,
        log_tag="tag",
        no_pivot=True,
        exit_command=("/bin/sh", "-c", "true", "x"),
        log_level="debug",
        syslog=True,
        sync_log=False,
        restore="/image",
        restore_args=("--tcp-established",),
        timeout=7,
    )
    assert launch.argv("conmon") == [
        "conmon",
        "--api-version", "1",
        "-c", "abc",
        "-u", "abc",
        "--name=box",
        "-r", "/usr/bin/crun",
        "--runtime-arg=--root",
        "--runtime-arg=/state",
        "--runtime-arg=--log-format=json",
        "-b", "/run/b",
        "-p", "/run/pidfile",
        "-P", "/run/conmon.pid",
        "-l", "k8s-file:/var/ctr.log",
        "--exit-dir", "/run/exits",
        "--persist-dir", "/persist",
        "--socket-dir-path", "/sockets",
        "-i",
        "--leave-stdin-open",
        "-s",
        "--log-size-max", "1000",
        "--log-tag=tag",
        "--no-pivot",
        "--no-sync-log",
        "--log-level", "debug",
        "-T", "7",
        "--syslog",
        "--exit-command=/bin/sh",
        "--exit-command-arg=-c",
        "--exit-command-arg=true",
        "--exit-command-arg=x",
        "--restore", "/image",
        "--restore-arg=--tcp-established",
    ]  # fmt: skip


def test_a_terminal_stands_for_open_stdin() -> None:
    argv = MINIMAL.replace(terminal=True, stdin=True).argv("conmon")
    assert "-t" in argv
    assert "-i" not in argv


@pytest.mark.parametrize(("size", "words"), [(-1, []), (0, ["--log-size-max", "0"])])
def test_a_log_size_of_nought_is_a_limit(size: int, words: list[str]) -> None:
    argv = MINIMAL.replace(log_size_max=size).argv("conmon")
    assert [w for w in argv if w in ("--log-size-max", "0")] == words


@pytest.mark.parametrize(
    "launch",
    [
        MINIMAL.replace(name="-t"),
        MINIMAL.replace(log_tag="--syslog"),
        MINIMAL.replace(runtime_args=("-s", "--systemd-cgroup")),
        MINIMAL.replace(exit_command=("-x", "-t", "", "--", "a b", "-i=1")),
        MINIMAL.replace(restore="/i", restore_args=("-t",)),
    ],
)
def test_a_value_that_begins_with_a_dash_stays_a_value(launch: Launch) -> None:
    """It is one word with its option: then conmon's parser (GLib) cannot take it for another."""
    plain = {"-t", "-i", "-s", "--syslog", "-x", "--", "--systemd-cgroup", "-i=1", "", "a b"}
    assert not plain & set(launch.argv("conmon"))


def test_conmon_itself_can_have_any_path() -> None:
    assert MINIMAL.argv("/opt/my conmon")[0] == "/opt/my conmon"
