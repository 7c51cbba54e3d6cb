"""monitor/launch.py: what conmon is told. The handshake itself is in tests/contract."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from longshore.errors import HostUnsupported
from longshore.monitor.launch import Inherited, Launch, inherited

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
        socket_dir="/sockets",
        stdin=True,
        leave_stdin_open=True,
        systemd_cgroup=True,
        log_size_max=1000,
        no_pivot=True,
        exit_command=("/bin/sh", "-c", "true", "x"),
        log_level="debug",
        sync_log=False,
        activated=True,
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
        "--socket-dir-path", "/sockets",
        "-i",
        "--leave-stdin-open",
        "-s",
        "--log-size-max", "1000",
        "--no-pivot",
        "--no-sync-log",
        "--log-level", "debug",
        "--syslog",
        "--replace-listen-pid",
        "-T", "7",
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


def test_conmon_rotates_only_if_it_is_told_to() -> None:
    argv = MINIMAL.replace(log_size_max=1000, log_old_files=2).argv("conmon")
    at = argv.index("--log-size-max")
    assert argv[at : at + 5] == ["--log-size-max", "1000", "--log-rotate", "--log-max-files", "2"]
    assert "--log-rotate" not in MINIMAL.replace(log_size_max=1000).argv("conmon")


@pytest.mark.parametrize(
    "launch",
    [
        MINIMAL.replace(name="-t"),
        MINIMAL.replace(runtime_args=("-s", "--systemd-cgroup")),
        MINIMAL.replace(exit_command=("-x", "-t", "", "--", "a b", "-i=1")),
        MINIMAL.replace(restore="/i", restore_args=("-t",)),
    ],
)
def test_a_value_that_begins_with_a_dash_stays_a_value(launch: Launch) -> None:
    """It is one word with its option: then conmon's parser (GLib) cannot take it for another."""
    plain = {"-t", "-i", "-s", "--syslog", "-x", "--", "--systemd-cgroup", "-i=1", "", "a b"}
    assert not plain & set(launch.argv("conmon"))


def test_a_variable_is_kept_from_the_runtime() -> None:
    launch = MINIMAL.replace(runtime_args=("--root", "/state"), hidden_env=("NOTIFY_SOCKET",))
    argv = launch.argv("conmon")
    assert [w for w in argv if w.startswith("--runtime-arg")] == [
        "--runtime-arg=-u",
        "--runtime-arg=NOTIFY_SOCKET",
        "--runtime-arg=/usr/bin/crun",
        "--runtime-arg=--root",
        "--runtime-arg=/state",
    ]
    assert argv[argv.index("-r") + 1] == "/usr/bin/env"


@pytest.mark.parametrize("level", ["error", "warning", "info", "trace"])
def test_syslog_is_for_debug_alone(level: str) -> None:
    argv = MINIMAL.replace(log_level=level).argv("conmon")
    assert argv[argv.index("--log-level") + 1] == level
    assert "--syslog" not in argv


def test_conmon_itself_can_have_any_path() -> None:
    assert MINIMAL.argv("/opt/my conmon")[0] == "/opt/my conmon"


# --- what goes on to conmon of our own process --------------------------------------------------

Given = Callable[..., Inherited]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """`inherited` in an environment of nothing but these variables."""

    def look(*, notifies: bool = True, relays: bool = False, **variables: str) -> Inherited:
        for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return inherited(notifies=notifies, relays=relays)

    return look


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of the first of two sockets; in a test it is not 3, which is in use."""
    with socket.socket() as one, socket.socket() as two:
        number = os.dup2(one.fileno(), 700)
        os.dup2(two.fileno(), 701)
        monkeypatch.setattr("longshore.monitor.launch._FIRST_ACTIVATED", number)
        yield number
        os.close(701)
        os.close(700)


def test_nothing_is_given(given: Given) -> None:
    assert given() == Inherited()


def test_activation_sockets(given: Given, first: int) -> None:
    found = given(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="web:admin")
    assert found == Inherited(
        env={"LISTEN_FDS": "2", "LISTEN_PID": "1"},
        sockets=(first, first + 1),
        container_env=("LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=web:admin"),
    )


@pytest.mark.parametrize("count", ["", "0", "-1", "x", "1.0", " 1", "²"])
def test_a_count_that_is_none(given: Given, first: int, count: str) -> None:
    assert given(LISTEN_FDS=count, LISTEN_PID=str(os.getpid())) == Inherited()


@pytest.mark.parametrize("pid", ["", "0", "1", "x", "0x1"])
def test_sockets_of_another_process(given: Given, first: int, pid: str) -> None:
    assert given(LISTEN_FDS="2", LISTEN_PID=pid) == Inherited()
    assert given(LISTEN_FDS="2") == Inherited()


@pytest.mark.parametrize("count", ["3", "99999999"])
def test_sockets_that_are_not_open(
    given: Given, first: int, count: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert given(LISTEN_FDS=count, LISTEN_PID=str(os.getpid())) == Inherited()
    assert "descriptor 702 is not open" in caplog.text


def test_a_notify_socket_is_not_for_the_runtime(given: Given) -> None:
    found = given(NOTIFY_SOCKET="@/org/me")
    assert found == Inherited(env={"NOTIFY_SOCKET": "@/org/me"}, hidden_env=("NOTIFY_SOCKET",))
    assert given(NOTIFY_SOCKET="") == Inherited()
    assert given(NOTIFY_SOCKET="@/org/me", notifies=False) == Inherited()


def test_conmon_relays_to_it(given: Given) -> None:
    found = given(NOTIFY_SOCKET="/run/n", relays=True)
    assert found.relay == "/run/n"
    assert "--sdnotify-socket=/run/n" in MINIMAL.replace(relay=found.relay).argv("conmon")
    assert not [w for w in MINIMAL.argv("conmon") if "sdnotify" in w]
    assert given(NOTIFY_SOCKET="", relays=True) == Inherited()


@pytest.mark.parametrize("address", ["@/org/me", "vsock:2:1", "/" + "x" * 107])
def test_what_conmon_cannot_relay_to(given: Given, address: str) -> None:
    with pytest.raises(HostUnsupported, match="NOTIFY_SOCKET=") as caught:
        given(NOTIFY_SOCKET=address, relays=True)
    assert caught.value.hint is not None and "--sdnotify=conmon" in caught.value.hint
    assert given(NOTIFY_SOCKET=address).env == {"NOTIFY_SOCKET": address}
