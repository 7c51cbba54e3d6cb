"""Parsers of single values: a table of what they take, and one of what they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Ulimit
from longshore.options import names, parse

MIB = 1 << 20


@pytest.mark.parametrize(
    ("given_size", "size"),
    [
        (1, 1),
        (4096, 4096),
        ("1", 1),
        ("512b", 512),
        ("512k", 512 << 10),
        ("512K", 512 << 10),
        ("64m", 64 * MIB),
        ("64M", 64 * MIB),
        ("64mb", 64 * MIB),
        ("64MiB", 64 * MIB),
        ("64 mib", 64 * MIB),
        ("1.5g", 3 << 29),
        ("0.5k", 512),
        ("1.1", 1),
        ("1t", 1 << 40),
        ("2P", 1 << 51),
        ("  7m ", 7 * MIB),
    ],
)
def test_sizes(given_size: int | str, size: int) -> None:
    assert parse.parse_size(given_size, "memory") == size


@pytest.mark.parametrize(
    "value",
    [
        "", "m", "-1", -1, 0, "0", "0m", "0.0001k", "1e3", "1,5g", "64mm", "64x", "inf", "nan",
        ".5g",
        "5.g", "1 2", "١m", "0x10", True, None, 1.5, b"64m", "9" * 5000, "16e", str(1 << 63), [],
    ],
)  # fmt: skip
def test_what_is_not_a_size(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^memory: "):
        parse.parse_size(value, "memory")


@given(st.integers(1, 1 << 20), st.sampled_from(["", "b", "k", "m", "g", "t"]))
def test_every_suffix_is_a_power_of_1024(number: int, suffix: str) -> None:
    power = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}[suffix]
    assert parse.parse_size(f"{number}{suffix}", "size") == number * 1024**power


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse.parse_size(text, "size")
    except InvalidArgument:
        return
    assert 0 < size < 1 << 63


@pytest.mark.parametrize(
    ("cpus", "quota"),
    [(1, 100_000), (1.5, 150_000), ("0.25", 25_000), ("2", 200_000), (0.01, 1000), (0.333, 33_300)],
)
def test_cpus(cpus: float | str, quota: int) -> None:
    assert parse.parse_cpus(cpus) == (quota, 100_000)


@pytest.mark.parametrize(
    "value",
    [0, -1, "-0.5", math.nan, math.inf, -math.inf, "nan", "inf", "1e400", 0.001, 1e12, "", "x",
     True, None, [], "1,5"],
)  # fmt: skip
def test_what_is_no_number_of_cpus(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^cpus: "):
        parse.parse_cpus(value)


@pytest.mark.parametrize("spec", ["", "0", "0-3", "0,2,4-7", "10-10"])
def test_cpusets(spec: str) -> None:
    assert parse.parse_cpuset(spec, "cpuset_cpus") == spec


@pytest.mark.parametrize(
    "spec", ["-1", "a", "3-1", "0,", ",0", "0--1", "0 1", "1-", 3, None, "0\n"]
)
def test_what_is_no_cpuset(spec: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^cpuset_cpus: "):
        parse.parse_cpuset(spec, "cpuset_cpus")


@pytest.mark.parametrize(
    ("signal", "number"),
    [
        ("TERM", 15), ("SIGTERM", 15), ("sigterm", 15), ("term", 15), (15, 15), ("15", 15),
         (" HUP ", 1),
        ("KILL", 9), ("SIGCHLD", 17), ("CLD", 17), ("IOT", 6), ("POLL", 29), ("SYS", 31), (64, 64),
        ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMIN+30", 64), ("RTMAX", 64), ("RTMAX-30", 34),
        ("rtmax-1", 63),
    ],
)  # fmt: skip
def test_signals(signal: str | int, number: int) -> None:
    assert parse.parse_signal(signal) == number


@pytest.mark.parametrize(
    "signal",
    ["", "SIG", "TERMS", "SIGSIGTERM", 0, 65, -1, "0", "65", "-9", "RTMIN-1", "RTMIN+31", "RTMAX+1",
     "RTMAX-31", "RTMIN+", True, None, 15.0, "９", "--help"],
)  # fmt: skip
def test_what_is_no_signal(signal: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^stop_signal: "):
        parse.parse_signal(signal, "stop_signal")


def test_signal_numbers_are_this_kernels() -> None:
    import signal

    for name, number in parse.SIGNALS.items():
        assert getattr(signal, f"SIG{name}", number) == number


def test_a_misspelt_signal_gets_a_hint() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse.parse_signal("TREM")
    assert caught.value.hint == "did you mean 'TERM'?"


@pytest.mark.parametrize(
    ("given_caps", "caps"),
    [
        ([], ()),
        (["NET_ADMIN"], ("CAP_NET_ADMIN",)),
        (["cap_net_admin", "Net_Admin"], ("CAP_NET_ADMIN",)),
        (["SYS_PTRACE,CHOWN"], ("CAP_SYS_PTRACE", "CAP_CHOWN")),
        (["ALL"], ("CAP_ALL",)),
        (["cap_all"], ("CAP_ALL",)),
        (["CHECKPOINT_RESTORE"], ("CAP_CHECKPOINT_RESTORE",)),
    ],
)
def test_capabilities(given_caps: list[str], caps: tuple[str, ...]) -> None:
    assert parse.parse_capabilities(given_caps, "cap_add") == caps


@pytest.mark.parametrize(
    "word", ["", "NET_ADMN", "CAP_", "CAP_CAP_KILL", "NET_ADMIN,", "-KILL", "0"]
)
def test_unknown_capabilities(word: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^cap_add: ") as caught:
        parse.parse_capabilities([word], "cap_add")
    assert caught.value.hint


def test_the_table_of_capabilities_is_the_kernels() -> None:
    assert len(parse.CAPABILITIES) == 41
    assert parse.CAPABILITIES.index("CAP_SYS_ADMIN") == 21
    assert parse.CAPABILITIES.index("CAP_CHECKPOINT_RESTORE") == 40
    known = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert known <= 40, "the kernel has new ones: add them to the table"


@pytest.mark.parametrize(
    ("spec", "name", "soft", "hard"),
    [
        ("nofile=1024:2048", "RLIMIT_NOFILE", 1024, 2048),
        ("nofile=1024", "RLIMIT_NOFILE", 1024, 1024),
        ("RLIMIT_CORE=0", "RLIMIT_CORE", 0, 0),
        ("core=-1", "RLIMIT_CORE", -1, -1),
        ("core=0:unlimited", "RLIMIT_CORE", 0, -1),
        ("Nproc=5:-1", "RLIMIT_NPROC", 5, -1),
    ],
)
def test_ulimits(spec: str, name: str, soft: int, hard: int) -> None:
    assert parse.parse_ulimit(spec) == Ulimit(name=name, soft=soft, hard=hard)


@pytest.mark.parametrize(
    "spec",
    ["", "nofile", "nofile=", "nofile=2:1", "nofile=-1:5", "nofile=a", "nofile=1:", "nofile=1:2:3",
     "files=1", "=1", "nofile=-2", "nofile=1.5", "nofile=" + "9" * 30],
)  # fmt: skip
def test_what_is_no_ulimit(spec: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^ulimits"):
        parse.parse_ulimit(spec)


def test_env_takes_the_callers_values() -> None:
    environ = {"A": "1", "LC_ALL": "C", "LC_TIME": "de"}
    pairs: list[tuple[str, str | None]] = [
        ("A", None),
        ("MISSING", None),
        ("LC_*", None),
        ("B", ""),
    ]
    assert parse.parse_env(pairs, "env", environ) == {
        "A": "1",
        "LC_ALL": "C",
        "LC_TIME": "de",
        "B": "",
    }


@pytest.mark.parametrize("pair", [("KEY", "a\nb"), ("TAKEN", None), ("TAK*", None)])
def test_env_values_have_no_newline(pair: tuple[str, str | None]) -> None:
    with pytest.raises(InvalidArgument, match="newline") as caught:
        parse.parse_env([pair], "env", {"TAKEN": "a\nb"})
    assert caught.value.hint and "file" in caught.value.hint


@pytest.mark.parametrize("name", ["", "A=B", "A\n", "A b", " ", "A\0", "\ud800"])
def test_env_names(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse.parse_env([(name, "x")], "env", {})


@pytest.mark.parametrize("value", ["\0", "a\0b", "\udcff"])
def test_env_values(value: str) -> None:
    with pytest.raises(InvalidArgument, match="env A"):
        parse.parse_env([("A", value)], "env", {})


def test_env_refuses_what_a_spec_cannot_carry_from_the_caller_too() -> None:
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        parse.parse_env([("A", None)], "env", {"A": "\udcff"})


def test_env_file() -> None:
    content = (
        '\ufeff# comment\n\n  A=1\nB= two words \nC="quoted"\nHOST\nGONE\n'
        "D=a=b\r\nE=\n  # more\nF=#not a comment"
    )
    assert parse.parse_env_file(content, environ={"HOST": "h"}) == {
        "A": "1",
        "B": " two words ",
        "C": '"quoted"',
        "HOST": "h",
        "D": "a=b",
        "E": "",
        "F": "#not a comment",
    }


@pytest.mark.parametrize(
    ("content", "line"), [("=x", 1), ("A=1\nB C=2", 2), ("A \n", 1), ("\n\nX=\0", 3), ("A\tB=1", 1)]
)
def test_env_file_errors_name_the_line(content: str, line: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"^web\.env, line {line}: "):
        parse.parse_env_file(content, what="web.env", environ={})


_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="=\0", exclude_categories=["Z", "C"]),
    min_size=1,
).filter(lambda name: not name.startswith("#") and not name.endswith("*"))
_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"))


@given(st.dictionaries(_NAMES, _VALUES))
def test_env_file_gives_back_what_was_written(variables: dict[str, str]) -> None:
    content = "".join(f"{name}={value}\n" for name, value in variables.items())
    assert parse.parse_env_file(content, environ={}) == variables


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a.b_c", "A" * 250])
def test_names(name: str) -> None:
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-a", "--rm", ".a", "_a", "a b", "a/b", "../a", "a\n", "ä", "a" * 251, None, 5, "a\0"],
)
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^name: "):
        names.check_name(name)


@pytest.mark.parametrize("name", ["", "a", "a.example.org", "my_host", "x" * 64])
def test_hostnames(name: str) -> None:
    assert names.check_hostname(name) == name


@pytest.mark.parametrize("name", ["-a", "a-", ".a", "a.", "a b", "a\n", "x" * 65, "é", "a/b", None])
def test_what_is_no_hostname(name: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^hostname: "):
        names.check_hostname(name)


@pytest.mark.parametrize("user", ["", "root", "0", "1000:1000", "www-data:adm", "4294967294"])
def test_users(user: str) -> None:
    assert names.check_user(user) == user


@pytest.mark.parametrize(
    "user",
    [":", "a:", ":a", "a:b:c", "a b", "a\n", "-1", "0:-1", "4294967295", "9" * 5000, 0, "²\0"],
)
def test_what_is_no_user(user: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^user: "):
        names.check_user(user)


@pytest.mark.parametrize(
    ("umask", "value"), [("022", 0o22), ("0", 0), ("0777", 0o777), (0o27, 0o27), ("0o77", 0o77)]
)
def test_umask(umask: str | int, value: int) -> None:
    assert parse.parse_umask(umask) == value


@pytest.mark.parametrize("umask", ["", "8", "1000", -1, 512, "rwx", True, None, "-2"])
def test_what_is_no_umask(umask: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^umask: "):
        parse.parse_umask(umask)


@pytest.mark.parametrize(
    ("spec", "path", "overlay"),
    [
        ("/", "/", False),
        ("/:O", "/", True),
        ("/srv/a:b", "/srv/a:b", False),
        ("/srv/a:b:O", "/srv/a:b", True),
        ("/srv/root:o", "/srv/root:o", False),
    ],
)
def test_split_rootfs(spec: str, path: str, overlay: bool) -> None:
    assert names.split_rootfs(spec) == (path, overlay)


def test_split_rootfs_knows_what_is_to_come() -> None:
    with pytest.raises(HostUnsupported, match="idmap"):
        names.split_rootfs("/srv:idmap=uids=0-1-10")


@pytest.mark.parametrize("value", [0, 0.5, "3", 10**9])
def test_seconds(value: float | str) -> None:
    assert parse.seconds(value, "stop_timeout") == float(value)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "x", "", True, None, 10**400, []])
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^stop_timeout: "):
        parse.seconds(value, "stop_timeout")


def test_paths(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert names.directory(link, "rootfs") == str(tmp_path)
    assert names.directory(tmp_path, "rootfs") == str(tmp_path)
    assert names.existing(str(file), "x") == str(file)
    assert names.writable_file(tmp_path / "new", "pidfile") == str(tmp_path / "new")
    assert names.inside("//a/../b/", "workdir") == "/b"
    for bad, message in [
        (file, "not a directory"),
        ("relative", "not an absolute path"),
        ("", "not an absolute path"),
        (tmp_path / "none", "No such file"),
        ("/a\0b", "NUL"),
        (5, "not a path"),
        (b"/bytes", "is not"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            names.directory(bad, "rootfs")
    with pytest.raises(InvalidArgument, match="no directory"):
        names.writable_file(tmp_path / "none" / "new", "pidfile")
    with pytest.raises(InvalidArgument, match="is a directory"):
        names.writable_file(tmp_path, "pidfile")
    with pytest.raises(InvalidArgument, match="exists"):
        names.writable_file(file, "cidfile", new=True)
    with pytest.raises(InvalidArgument, match="absolute path in the container"):
        names.inside("a", "workdir")
