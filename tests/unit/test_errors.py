"""Errors: what they say, what they carry, and that they can cross a process pool."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from longshore import errors
from longshore.errors import (
    Busy,
    CommandFailed,
    ContainerFailed,
    HasDependents,
    HostUnsupported,
    InvalidArgument,
    LongshoreError,
    NameInUse,
    NoSuchContainer,
    OperationTimeout,
    ProgramNotFound,
    RecordCorrupt,
    WrongState,
)
from longshore.models import ExitInfo, ExitReason, RunResult, Usage

RESULT = RunResult(
    stdout=b"\xff",
    stderr=b"no",
    exit=ExitInfo(code=3, reason=ExitReason.EXITED, usage=Usage(memory_peak=1)),
)
COMMAND = {
    "argv": ("runc", "start"),
    "returncode": 1,
    "stdout": "out",
    "stderr": "err" * 5000,
}
# One of each class, with the attributes that it has to have.
SAMPLES: list[tuple[LongshoreError, dict[str, Any]]] = [
    (WrongState("box", "pause", "exited", ["running"]),
     {"subject": "box", "op": "pause", "actual": "exited", "permitted": ("running",)}),
    (HasDependents("box", ["a", "b"]), {"subject": "box", "dependents": ("a", "b")}),
    (HostUnsupported("overlay is needed", "Linux 3.1"),
     {"requirement": "overlay is needed", "found": "Linux 3.1"}),
    (Busy("box", "process 7 (stop)", "noon"),
     {"subject": "box", "holder": "process 7 (stop)", "since": "noon"}),
    (RecordCorrupt("/x/record.json", "it is empty"),
     {"path": "/x/record.json", "why": "it is empty"}),
    (ContainerFailed("it failed", RESULT), {"result": RESULT}),
    *((kind("words", **COMMAND), COMMAND) for kind in (  # type: ignore[arg-type]
        errors.CommandFailed, errors.RuntimeFailed, errors.ProgramNotFound,
        errors.ProgramNotExecutable, errors.MonitorFailed, errors.MonitorGone)),
    *((kind("words"), {}) for kind in (
        errors.LongshoreError, errors.InvalidArgument, errors.NoSuchContainer, errors.NoSuchExec,
        errors.NoSuchImage, errors.NoSuchPath, errors.NameInUse, errors.OperationTimeout,
        errors.StoreError)),
]  # fmt: skip
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LongshoreError)
]


def test_all_is_exact() -> None:
    assert errors.__all__ == sorted(kind.__name__ for kind in CLASSES)


def test_there_is_a_sample_of_every_class() -> None:
    assert {type(error) for error, _ in SAMPLES} == set(CLASSES)


@pytest.mark.parametrize(("error", "attributes"), SAMPLES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(
    error: LongshoreError, attributes: dict[str, Any], protocol: int
) -> None:
    error = copy.copy(error)
    error.hint = "try again"
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert (again.hint, again.exit_code) == ("try again", error.exit_code)
    assert again.__notes__ == ["a note"]
    for name, value in attributes.items():
        assert getattr(again, name) == value, name


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_exit_codes(kind: type[LongshoreError]) -> None:
    expected = {"ProgramNotFound": 127, "ProgramNotExecutable": 126}
    assert kind.exit_code == expected.get(kind.__name__, 125)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_every_class_says_what_it_is(kind: type[LongshoreError]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (InvalidArgument, ValueError),
        (NoSuchContainer, LookupError),
        (errors.NoSuchExec, LookupError),
        (errors.NoSuchImage, LookupError),
        (OperationTimeout, TimeoutError),
        (errors.RuntimeFailed, CommandFailed),
        (errors.ProgramNotFound, errors.RuntimeFailed),
        (errors.ProgramNotExecutable, errors.RuntimeFailed),
        (errors.MonitorGone, errors.MonitorFailed),
        (errors.MonitorFailed, CommandFailed),
        (RecordCorrupt, errors.StoreError),
    ],
)
def test_they_are_also_what_others_expect(kind: type[Exception], parent: type[Exception]) -> None:
    assert issubclass(kind, parent)


def test_no_name_shadows_a_builtin() -> None:
    import builtins

    assert not [name for name in errors.__all__ if hasattr(builtins, name)]


def test_a_hint_is_not_part_of_the_sentence() -> None:
    error = NameInUse("the name 'box' is taken", hint="take another")
    assert (str(error), error.hint) == ("the name 'box' is taken", "take another")
    assert NameInUse("x").hint is None
    assert "hint" not in vars(NameInUse("x"))


def test_some_hints_are_always_there() -> None:
    assert "lock" in (Busy("box", "process 7", "noon").hint or "")
    assert Busy("box", "process 7", "noon", hint="mine").hint == "mine"
    assert "rm --force" in (RecordCorrupt("/x", "y").hint or "")


def test_what_a_wrong_state_says() -> None:
    assert str(WrongState("box", "stop", "damaged", ["running", "paused"])) == (
        "cannot stop container box: it is damaged, and has to be running or paused"
    )


def test_long_output_is_trimmed_in_the_message_and_whole_on_the_attribute() -> None:
    words = "x" * 10_000
    error = ProgramNotFound(words, stderr=words)
    assert len(str(error)) < 2100
    assert str(error).endswith(" […]")
    assert error.stderr == words


def test_the_cause_stays() -> None:
    try:
        try:
            raise FileNotFoundError("x")
        except FileNotFoundError as err:
            raise NoSuchContainer("gone") from err
    except LongshoreError as error:
        assert isinstance(error.__cause__, FileNotFoundError)
