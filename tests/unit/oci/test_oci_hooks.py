"""OCI hooks directories: which files count, which hooks a container gets, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import InvalidArgument
from longshore.oci.hooks import STAGES, read_hook, read_hooks, select

DEFAULTS: dict[str, Any] = {"command": "/bin/sh", "annotations": {}, "has_bind_mounts": False}


def document(**changes: Any) -> dict[str, Any]:
    """Return a hook file's content; a change of None takes a key away."""
    made = {
        "version": "1.0.0",
        "hook": {"path": "/bin/true"},
        "when": {"always": True},
        "stages": ["createRuntime"],
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def chosen(top: Path, when: dict[str, Any], **facts: Any) -> bool:
    """Tell whether a hook with these conditions is in force."""
    write(top / "hook.json", document(when=when))
    return bool(select(read_hooks([str(top)]), **{**DEFAULTS, **facts}))


def test_the_whole_of_one(tmp_path: Path) -> None:
    hook = {"path": "/bin/true", "args": ["true", "x"], "env": ["A=1"], "timeout": 5}
    write(tmp_path / "a.json", document(hook=hook, stages=["prestart", "poststop"]))
    found = select(read_hooks([str(tmp_path)]), **DEFAULTS)
    assert found == {"prestart": [hook], "poststop": [hook]}


def test_every_stage_of_the_runtime_spec(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document(stages=list(STAGES)))
    assert list(select(read_hooks([str(tmp_path)]), **DEFAULTS)) == list(STAGES)


def test_a_later_directory_overrides_a_file_of_the_same_name(tmp_path: Path) -> None:
    def args(word: str) -> dict[str, Any]:
        return document(hook={"path": "/bin/true", "args": [word]})

    write(tmp_path / "1/same.json", args("weak"))
    write(tmp_path / "2/same.json", args("strong"))
    # by name in lower case, wherever a file is from
    write(tmp_path / "2/02.json", args("second"))
    write(tmp_path / "1/01-A.json", args("first"))
    write(tmp_path / "1/Other.json", args("third"))
    write(tmp_path / "1/readme.txt", "not a hook")
    (tmp_path / "1/directory.json").mkdir()
    files = read_hooks([str(tmp_path / "1"), str(tmp_path / "2")])
    found = [hook["args"] for hook in select(files, **DEFAULTS)["createRuntime"]]
    assert found == [["first"], ["second"], ["third"], ["strong"]]


def test_a_masked_file_need_not_make_sense(tmp_path: Path) -> None:
    write(tmp_path / "1/a.json", "nonsense")
    write(tmp_path / "2/a.json", document())
    assert len(read_hooks([str(tmp_path / "1"), str(tmp_path / "2")])) == 1


def test_directories_that_are_not_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert read_hooks([gone], may_lack=[gone]) == []
    with pytest.raises(InvalidArgument, match=f"{gone} is not there"):
        read_hooks([gone])
    with pytest.raises(InvalidArgument, match="Not a directory"):
        read_hooks([str(write(tmp_path / "file", ""))])


@pytest.mark.parametrize(
    ("when", "facts", "found"),
    [
        ({"always": True}, {}, True),
        ({"always": False}, {}, False),
        ({"commands": ["^/usr/bin", "sh$"]}, {}, True),
        ({"commands": ["/init$"]}, {}, False),
        ({"commands": ["/init$"]}, {"command": "/sbin/init"}, True),
        ({"hasBindMounts": True}, {}, False),
        ({"hasBindMounts": True}, {"has_bind_mounts": True}, True),
        # podman's reading of false: such a hook is never in force
        ({"hasBindMounts": False}, {}, False),
        ({"hasBindMounts": False}, {"has_bind_mounts": True}, False),
        ({"annotations": {"^a$": "x"}}, {"annotations": {"a": "xy"}}, True),
        ({"annotations": {"^a$": "x"}}, {"annotations": {"ab": "x"}}, False),
        ({"annotations": {"a": "^x$"}}, {"annotations": {"a": "y", "aa": "x"}}, True),
        ({"annotations": {"a": "1", "b": "2"}}, {"annotations": {"a": "1", "b": "2"}}, True),
        ({"annotations": {"a": "1", "b": "2"}}, {"annotations": {"a": "1"}}, False),
        # all of them
        ({"always": True, "commands": ["^x"]}, {}, False),
        ({"always": False, "commands": ["sh"]}, {}, False),
        ({"hasBindMounts": True, "commands": ["sh"]}, {"has_bind_mounts": True}, True),
    ],
)
def test_conditions(
    tmp_path: Path, when: dict[str, Any], facts: dict[str, Any], found: bool
) -> None:
    assert chosen(tmp_path, when, **facts) is found


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"version": "1.0.0", "version": "1.0.0"}', "'version' is there twice"),
        (document(version=None), "version is missing"),
        (document(version="0.1.0"), "'0.1.0' is not known"),
        (document(version=1), "1 is not text"),
        (document(hook=None), "hook is missing"),
        (document(when=None), "when is missing"),
        (document(stages=None), "stages is missing"),
        (document(stages=[]), "stages is missing"),
        (document(stages="poststop"), "stages: it is not a list"),
        (document(stages=["postStop"]), "stage 'postStop' is not known"),
        (document(stages=["precreate"]), "podman's own"),
        (document(extra=1), "'extra' is not known"),
        (document(when={}), "no condition"),
        (document(when={"annotation": {"a": "b"}}), "no condition"),
        (document(when={"always": True, "annotation": {}}), "'annotation' is not known"),
        (document(when={"always": "yes"}), "'yes' is neither true nor false"),
        (document(when={"commands": "x"}), "it is not a list"),
        (document(when={"commands": ["("]}), "the pattern '[(]' cannot be used"),
        (document(when={"commands": ["(?=a)"]}), "cannot be used"),
        (document(when={"annotations": {"a": "[x"}}), "cannot be used"),
        (document(when={"annotations": {"a": 1}}), "1 is not text"),
        (document(hook={}), "path is missing"),
        (document(hook={"path": "true"}), "'true' is not absolute"),
        (document(hook={"path": "/does/not/exist"}), "/does/not/exist: No such file"),
        (document(hook={"path": "/etc/passwd"}), "cannot be executed"),
        (document(hook={"path": "/etc"}), "cannot be executed"),
        (document(hook={"path": "/bin/true", "arg": []}), "'arg' is not known"),
        (document(hook={"path": "/bin/true", "env": ["A"]}), "'A' is not NAME=VALUE"),
        (document(hook={"path": "/bin/true", "timeout": 0}), "not between 1"),
        (document(hook={"path": "/bin/true", "timeout": True}), "not a whole number"),
        (document(hook={"path": "/bin/tr\0ue"}), "NUL"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, content: Any, why: str) -> None:
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(InvalidArgument, match=why) as caught:
        read_hooks([str(tmp_path)])
    assert str(path) in str(caught.value)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "gone")
    with pytest.raises(InvalidArgument, match=r"a\.json: No such file"):
        read_hooks([str(tmp_path)])


def test_a_program_of_the_container_need_not_be_on_the_host(tmp_path: Path) -> None:
    hook = {"path": "/only/inside"}
    path = write(tmp_path / "a.json", document(hook=hook, stages=["startContainer"]))
    assert read_hook(str(path)).hook == hook
    write(path, document(hook=hook, stages=["startContainer", "poststop"]))
    with pytest.raises(InvalidArgument, match="No such file"):
        read_hook(str(path))
