"""runtime/failures.py against what real runtimes said; tests/data has it all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longshore import errors
from longshore.errors import ProgramNotExecutable, ProgramNotFound, RuntimeFailed
from longshore.runtime.driver import _UNKNOWN, Runtime
from longshore.runtime.failures import _TABLE, explain

DATA = json.loads((Path(__file__).parent.parent / "data/runtime-failures.json").read_text())
SAMPLES: list[dict[str, Any]] = DATA["samples"]
EXIT_CODES = {"RuntimeFailed": 125, "ProgramNotExecutable": 126, "ProgramNotFound": 127}


def _name(sample: dict[str, Any]) -> str:
    return f"{sample['runtime']}, {sample.get('case') or sample.get('argv')}"


def _ways(sample: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return (words, log) for each way that a failure reaches us."""
    ways = {"stderr": (sample["stderr"], "")}
    if sample["log"]:
        ways["log"] = ("exit status 1", sample["log"])
    if "start" in sample:
        ways["start"] = (sample["start"]["stderr"], sample["start"]["log"])
    if sample["conmon"]:
        ways["conmon"] = (sample["conmon"]["message"], "")
        ways["conmon and log"] = (sample["conmon"]["message"], sample["conmon"]["log"])
    return ways


@pytest.mark.parametrize("sample", SAMPLES, ids=_name)
def test_a_real_failure_becomes_an_error(sample: dict[str, Any]) -> None:
    for way, (words, log) in _ways(sample).items():
        error = explain("crun", "create", "box", words, log=log)
        assert type(error) is getattr(errors, sample["class"]), way
        assert error.exit_code == EXIT_CODES[sample["class"]]
        if sample["hint"] is None:
            assert error.hint is None, way
        else:
            assert sample["hint"] in (error.hint or ""), way
        assert str(error).startswith("cannot create container box: crun: "), way


@pytest.mark.parametrize("sample", SAMPLES, ids=_name)
def test_the_message_has_the_runtimes_words_and_not_its_wrapping(sample: dict[str, Any]) -> None:
    for way, (words, log) in _ways(sample).items():
        said = str(explain("x", "create", "box", words, log=log)).partition("box: x: ")[2]
        assert said, way
        assert said == said.strip(), way
        for wrapping in ("level=error", '"msg"', '\\"', "time="):
            assert wrapping not in said, way


@pytest.mark.parametrize("case", sorted({s["case"] for s in SAMPLES}))
def test_the_same_failure_has_the_same_class_on_every_runtime(case: str) -> None:
    classes = {s["class"] for s in SAMPLES if s["case"] == case}
    if case == "args: an empty word":
        # runc looks it up in PATH, crun opens it: a known difference, and options refuse it
        assert classes == {"ProgramNotFound", "ProgramNotExecutable"}
    else:
        assert len(classes) == 1


@pytest.mark.parametrize("answer", DATA["verbs"], ids=_name)
def test_what_a_runtime_does_not_know_is_recognized(answer: dict[str, Any]) -> None:
    if answer["returncode"] == 0:
        assert "--force" in answer["argv"]
    else:
        assert re.search(_UNKNOWN, answer["stderr"])


def test_other_failures_are_not_taken_for_an_unknown_container() -> None:
    assert not [_name(s) for s in SAMPLES if re.search(_UNKNOWN, s["stderr"])]


def test_every_class_of_the_table_has_a_sample() -> None:
    seen = {s["class"] for s in SAMPLES}
    assert {kind.__name__ for _, kind, _ in _TABLE} <= seen


@pytest.mark.parametrize("sample", SAMPLES, ids=_name)
def test_a_program_that_cannot_be_executed_is_named(sample: dict[str, Any]) -> None:
    """crun 1.8 says only that an executable could not be opened."""
    program = "/the/program"
    for words, log in _ways(sample).values():
        said = str(explain("x", "create", "box", words, log=log, program=program))
        assert (program in said) == (sample["class"] != "RuntimeFailed")
        assert str(explain("x", "create", "box", words, log=log)) == said.replace(
            f"'{program}': ", ""
        )


def test_a_program_is_named_once() -> None:
    for words in ("executable file `nope` not found in $PATH", 'exec: "nope": permission denied'):
        assert str(explain("x", "create", "box", words, program="nope")).count("nope") == 1


def test_what_matches_nothing_keeps_its_words() -> None:
    error = explain("runc", "start", "box", "  the moon is full \n")
    assert type(error) is RuntimeFailed
    assert str(error) == "cannot start container box: runc: the moon is full"
    assert error.hint is None


@pytest.mark.parametrize("words", ["", "  \n"])
def test_silence_is_said(words: str) -> None:
    assert str(explain("runc", "start", "box", words)).endswith("box: runc: it said nothing")


@pytest.mark.parametrize(
    "log",
    [
        "garbage\n",
        "{}\n",
        "[]\n",
        '{"level": "error"}\n',
        '{"level": "info", "msg": "x"}\n',
        '{"level": "error", "msg": ""}\n',
        '{"level": "error", "msg": "cut',
        'level=error msg="cut',
        'level=error msg="\\x00 is not JSON"',
        "\0\ufffd",
    ],
)
def test_a_log_that_says_nothing_is_not_used(log: str) -> None:
    assert str(explain("runc", "start", "box", "words", log=log)).endswith("box: runc: words")


@pytest.mark.parametrize(
    ("indent", "end"), [(None, "\n"), (2, "\n"), (None, "")], ids=["runc", "crun 1.28", "runsc"]
)
def test_the_first_error_of_a_log_wins(indent: int | None, end: str) -> None:
    log = "".join(
        json.dumps({"level": level, "msg": message}, indent=indent) + end
        for level, message in (("warning", "a"), ("error", " first \n"), ("error", "second"))
    )
    for before in ("", "garbage\n", '{"cut\n', "\n"):
        error = explain("runc", "start", "box", "words", log=before + log)
        assert str(error).endswith("box: runc: first")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        # crun ≥ 1.9 and runc ≥ 1.2, from their sources: not captured on this system
        ("executable file `nope` not found in $PATH: No such file or directory", ProgramNotFound),
        ('exec: "/x": is a directory', ProgramNotExecutable),
        ("exec /x: permission denied", ProgramNotExecutable),
        # words of a program, not of a runtime
        ("/bin/sh: nope: not found", RuntimeFailed),
        ("open /executable: Permission denied", RuntimeFailed),
        ("a hook said: setrlimit is a function", RuntimeFailed),
    ],
)
def test_words(words: str, kind: type[RuntimeFailed]) -> None:
    error = explain("crun", "create", "box", words)
    assert type(error) is kind
    assert (error.hint is None) == (kind is RuntimeFailed)


# --- exec ----------------------------------------------------------------------------------------

EXECS: list[dict[str, Any]] = DATA["execs"]


def failed(sample: dict[str, Any], tmp_path: Path, words: str = "") -> tuple[Any, str]:
    runtime = Runtime("x", "/usr/bin/x", state_dir="/s", cache_dir="/c")
    log = tmp_path / "log"
    log.write_text(sample["log"])
    said = (words or sample["stderr"]).encode()
    return runtime.exec_failed(
        "box", sample["program"], sample["returncode"], log=str(log), words=said
    )


@pytest.mark.parametrize("sample", EXECS, ids=_name)
def test_a_real_failure_of_an_exec_becomes_an_error(sample: dict[str, Any], tmp_path: Path) -> None:
    error, path = failed(sample, tmp_path)
    if sample["class"] is None:
        assert (error, path) == (None, "")
        return
    if error is None:
        # what execve(2) says is not logged; whoever knows the file can tell
        assert sample["runtime"] != "crun 1.8.1"
        assert path == sample["program"]
        error = explain("x", "run a process in", "box", sample["stderr"], program=path)
    assert type(error) is getattr(errors, sample["class"])
    assert error.exit_code == EXIT_CODES[sample["class"]]
    assert str(error).startswith("cannot run a process in container box: x: ")
    assert sample["hint"] in (error.hint or "") if sample["hint"] else error.hint is None
    if error.exit_code != 125:
        assert sample["program"] in str(error)


@pytest.mark.parametrize("case", sorted({s["case"] for s in EXECS}))
def test_the_same_failure_of_an_exec_has_the_same_class_on_every_runtime(case: str) -> None:
    assert len({s["class"] for s in EXECS if s["case"] == case}) == 1


@pytest.mark.parametrize(
    ("returncode", "words", "path"),
    [
        (1, "exec /bad: exec format error\n", "/bad"),
        (1, "exec /a b: x: no such file or directory\n", "/a b: x"),
        (1, "exec: No such file or directory\n", "/bad"),
        (255, "exec /bad: exec format error\n", "/bad"),
        (1, "exec `/a b`: Exec format error\n", "/a b"),
        (1, "exec `/a`b: Exec format error\n", ""),
        (1, "exec : No such file or directory\n", ""),
        (2, "exec /bad: exec format error\n", ""),
        (0, "exec /bad: exec format error\n", ""),
        (-9, "exec /bad: exec format error\n", ""),
        (1, "exec /bad: exec format error", ""),
        (1, "and exec /bad: exec format error\n", ""),
        (1, "exec /bad: exec format error\nand more\n", ""),
    ],
)
def test_words_that_may_be_the_runtimes(
    returncode: int, words: str, path: str, tmp_path: Path
) -> None:
    sample = {"program": "/bad", "log": "", "returncode": returncode, "stderr": words}
    assert failed(sample, tmp_path) == (None, path)


def test_a_warning_in_the_log_is_no_failure(tmp_path: Path) -> None:
    log = '{"level": "warning", "msg": "something"}\n'
    sample = {"program": "/p", "log": log, "returncode": 1, "stderr": "words\n"}
    assert failed(sample, tmp_path) == (None, "")
