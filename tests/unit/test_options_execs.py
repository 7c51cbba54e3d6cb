"""What may be asked of an exec: everything is checked before anything is touched."""

from __future__ import annotations

import os
from typing import Any

import pytest

from longshore.errors import InvalidArgument
from longshore.options.execs import KNOWN, ExecConfig, normalize_exec


def config(*command: str, stdin: bool = False, **options: Any) -> ExecConfig:
    return normalize_exec(command or ("true",), options, stdin=stdin)  # type: ignore[arg-type]


def test_nothing_but_a_command() -> None:
    assert config("ls", "-l") == ExecConfig(command=("ls", "-l"))
    assert config("cat", stdin=True) == ExecConfig(command=("cat",), stdin=True)


def test_none_is_not_given() -> None:
    assert config("ls", **dict.fromkeys(KNOWN)) == config("ls")


def test_everything() -> None:
    reader, writer = os.pipe()
    try:
        made = config(
            "sh", env={"A": "1"}, workdir="/w/../x", user="user:2000", privileged=True,
            cap_add=["net_admin", "all"], no_new_privileges=True, tty=True, console_size=(24, 80),
            preserve_fds=[writer, reader],
        )  # fmt: skip
        assert made == ExecConfig(
            command=("sh",), env={"A": "1"}, workdir="/x", user="user:2000", privileged=True,
            cap_add=("CAP_NET_ADMIN", "CAP_ALL"), no_new_privileges=True, tty=True,
            console_size=(24, 80), preserve_fds=(writer, reader),
        )  # fmt: skip
        assert ExecConfig.from_json(made.to_json()).to_json() == made.to_json()
    finally:
        os.close(reader)
        os.close(writer)


def test_env_takes_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "my own")
    monkeypatch.delenv("NOBODYS", raising=False)
    assert config(env=["MINE", "NOBODYS", "B=2=3"]).env == {"MINE": "my own", "B": "2=3"}


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"enw": {}}, "'enw' is not an option of exec", "'env'"),
        ({"user": "a b"}, "user: 'a b' is not USER or USER:GROUP", "nobody"),
        ({"workdir": "here"}, "workdir: 'here' is not an absolute path", "/here"),
        ({"cap_add": ["NET_ADMN"]}, "'NET_ADMN' is not a capability", "NET_ADMIN"),
        ({"cap_add": "NET_ADMIN"}, "cap_add: 'NET_ADMIN' is not a list", "cap_add="),
        ({"privileged": 1}, "privileged: 1 is neither True nor False", None),
        ({"env": {"A=B": ""}}, "'A=B' is not a variable's name", "'='"),
        ({"tty": True, "console_size": 80}, r"console_size: 80 is not \(rows, columns\)", "24"),
        ({"tty": True, "console_size": (1, 2, 3)}, "console_size", "24"),
        ({"tty": True, "console_size": (-1, 80)}, "rows: -1 is not between 0 and 65535", None),
        ({"tty": True, "console_size": (24, 1 << 16)}, "columns: 65536 is not between", None),
        ({"console_size": (24, 80)}, "console_size: there is no terminal", "tty=True"),
        ({"preserve_fds": [987654]}, "preserve_fds: descriptor 987654 is not open", "open it"),
        ({"preserve_fds": ["3"]}, "preserve_fds: '3' is not int", None),
        ({"preserve_fds": 3}, "preserve_fds: 3 is not a list", "preserve_fds="),
        ({"preserve_fds": [1] * 1001}, "1001 are more than 1000", None),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], words: str, hint: str | None) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        config(**options)
    if hint is not None:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], "there is no command to run"),
        ([""], "the program's name is empty"),
        ("ls -l", "is one text; a list of words is meant"),
        (["a\0b"], "contains a NUL byte"),
        ([1], "1 is not text"),
        (5, "5 is not a list of words"),
    ],
)
def test_commands_that_make_no_sense(command: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        normalize_exec(command, {})


def test_every_option_is_known() -> None:
    fields = set(ExecConfig._fields) - {"command", "stdin"}
    assert fields == set(KNOWN)
