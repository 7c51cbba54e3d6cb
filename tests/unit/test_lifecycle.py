"""The two tables are total, and say what the statuses mean."""

from __future__ import annotations

import pytest

from longshore.errors import WrongState
from longshore.lifecycle import _HINTS, COMMANDS, FACTS, Fact, Op, Status, permitted, require, step

LIVE = (Status.INITIALIZED, Status.RUNNING, Status.PAUSED)


def test_every_operation_and_fact_has_its_row() -> None:
    assert set(COMMANDS) == set(Op)
    assert set(FACTS) == set(Fact)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("op", Op)
def test_a_command_is_permitted_or_refused_by_name(op: Op, status: Status) -> None:
    if status in permitted(op):
        assert require(op, status, "box") is COMMANDS[op][status]
        return
    with pytest.raises(WrongState) as caught:
        require(op, status, "box")
    error = caught.value
    assert (error.subject, error.op, error.actual) == ("box", op.value, status.value)
    assert error.permitted == tuple(s.value for s in permitted(op))
    assert error.permitted, "nothing permits it: then why is it there?"
    for word in ("box", op.value, status.value, *error.permitted):
        assert word in str(error)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("fact", Fact)
def test_a_fact_is_never_refused_and_seeing_it_twice_changes_nothing(
    fact: Fact, status: Status
) -> None:
    after = step(status, fact)
    assert isinstance(after, Status)
    assert step(after, fact) is after


@pytest.mark.parametrize("fact", Fact)
def test_no_fact_makes_or_mends_damage(fact: Fact) -> None:
    assert step(Status.DAMAGED, fact) is Status.DAMAGED
    assert all(step(s, fact) is not Status.DAMAGED for s in Status if s is not Status.DAMAGED)


def test_what_is_damaged_can_only_be_removed_by_force() -> None:
    assert [op for op in Op if Status.DAMAGED in permitted(op)] == [Op.FORCE_REMOVE]
    assert all(Status.DAMAGED not in after.values() for after in COMMANDS.values())


def test_force_removes_anything() -> None:
    assert set(permitted(Op.FORCE_REMOVE)) == set(Status)


@pytest.mark.parametrize("status", LIVE)
def test_what_lives_is_not_removed_by_a_plain_remove(status: Status) -> None:
    assert status not in permitted(Op.REMOVE)
    assert status not in permitted(Op.CLEANUP)


@pytest.mark.parametrize("fact", [Fact.ENDED, Fact.CLEANED, Fact.REBOOTED])
@pytest.mark.parametrize("status", LIVE)
def test_after_an_end_nothing_lives(status: Status, fact: Fact) -> None:
    assert step(status, fact) in (Status.STOPPED, Status.EXITED)


@pytest.mark.parametrize("fact", [Fact.ENDED, Fact.CLEANED, Fact.REBOOTED, Fact.FROZEN])
@pytest.mark.parametrize("status", [Status.CREATED, Status.EXITED])
def test_what_has_no_run_cannot_end(status: Status, fact: Fact) -> None:
    assert step(status, fact) is status


def test_a_whole_life_in_facts() -> None:
    seen = [Status.CREATED]
    for fact in (
        Fact.MADE, Fact.BEGUN, Fact.FROZEN, Fact.THAWED, Fact.ENDED, Fact.CLEANED,  # one run
        Fact.MADE, Fact.FAILED, Fact.MADE, Fact.BEGUN, Fact.REBOOTED,  # and more
    ):  # fmt: skip
        seen.append(step(seen[-1], fact))
    assert [s.value for s in seen] == [
        "created", "initialized", "running", "paused", "running", "stopped", "exited",
        "initialized", "exited", "initialized", "running", "exited",
    ]  # fmt: skip


@pytest.mark.parametrize("status", Status)
def test_commands_and_facts_agree(status: Status) -> None:
    """What a command says of its effect is what is then seen."""
    if status in permitted(Op.PAUSE):
        assert step(status, Fact.FROZEN) is COMMANDS[Op.PAUSE][status]
    if status in permitted(Op.UNPAUSE):
        assert step(status, Fact.THAWED) is COMMANDS[Op.UNPAUSE][status]
    if status in permitted(Op.INIT):
        assert step(status, Fact.MADE) is COMMANDS[Op.INIT][status]
    if status in permitted(Op.STOP):
        assert step(step(status, Fact.ENDED), Fact.CLEANED) is COMMANDS[Op.STOP][status]


def test_every_hint_belongs_to_a_refusal() -> None:
    for (op, status), hint in _HINTS.items():
        assert status not in permitted(op)
        with pytest.raises(WrongState) as caught:
            require(op, status, "box")
        assert caught.value.hint == hint


def test_the_words_are_podmans() -> None:
    assert [s.value for s in Status] == [
        "created", "initialized", "running", "paused", "stopped", "exited", "damaged",
    ]  # fmt: skip
