"""Statuses, the operations that may be asked, the facts that may be seen, and one pure step.

Two tables say everything: `COMMANDS` gives, for each operation, the statuses that permit it and
the status after it; `FACTS` gives the status after something was seen. A command can be refused; a
fact cannot. `docs/architecture.md` shows both tables, generated from this module.
"""

from __future__ import annotations

from enum import Enum

from longshore.errors import WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(Enum):
    """What a container is, as computed from facts. The words are podman's."""

    CREATED = "created"  # a record exists; nothing runs and nothing is mounted
    INITIALIZED = "initialized"  # the runtime has made it; its program has not begun
    RUNNING = "running"
    PAUSED = "paused"  # running, with every process frozen
    STOPPED = "stopped"  # its program has ended; mounts, cgroup and runtime state remain
    EXITED = "exited"  # ended and cleaned up; it can be started again
    DAMAGED = "damaged"  # its record cannot be read; it can only be removed


class Op(Enum):
    """What a caller can ask for."""

    INIT = "init"
    START = "start"
    STOP = "stop"
    KILL = "kill"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RESTART = "restart"
    EXEC = "exec"
    ATTACH = "attach"  # to its streams, or its terminal
    UPDATE = "update"
    CLEANUP = "clean up"
    REMOVE = "remove"
    FORCE_REMOVE = "remove by force"


class Fact(Enum):
    """What can be seen of the world, whoever caused it."""

    MADE = "made"  # the runtime reports a created container
    BEGUN = "begun"  # its program runs
    FROZEN = "frozen"  # its cgroup is frozen
    THAWED = "thawed"
    ENDED = "ended"  # the exit file exists, or init is gone and no monitor will write one
    CLEANED = "cleaned"  # nothing of the run is left but its exit record
    FAILED = "failed"  # create or start failed, and everything was taken back
    REBOOTED = "rebooted"  # the boot id is not the one that the run began under


S = Status
_LIVE = (S.INITIALIZED, S.RUNNING, S.PAUSED)

COMMANDS: Mapping[Op, Mapping[Status, Status]] = {
    Op.INIT: {S.CREATED: S.INITIALIZED, S.EXITED: S.INITIALIZED, S.STOPPED: S.INITIALIZED},
    Op.START: {
        S.CREATED: S.RUNNING,
        S.INITIALIZED: S.RUNNING,
        S.STOPPED: S.RUNNING,
        S.EXITED: S.RUNNING,
        S.RUNNING: S.RUNNING,
    },
    # Stopping what does not run is fine: the caller has what was asked for.
    Op.STOP: {
        S.CREATED: S.CREATED,
        S.INITIALIZED: S.EXITED,
        S.RUNNING: S.EXITED,
        S.PAUSED: S.EXITED,
        S.STOPPED: S.EXITED,
        S.EXITED: S.EXITED,
    },
    Op.KILL: {S.INITIALIZED: S.INITIALIZED, S.RUNNING: S.RUNNING, S.PAUSED: S.PAUSED},
    Op.PAUSE: {S.RUNNING: S.PAUSED},
    Op.UNPAUSE: {S.PAUSED: S.RUNNING},
    Op.RESTART: {
        S.CREATED: S.RUNNING,
        S.INITIALIZED: S.RUNNING,
        S.RUNNING: S.RUNNING,
        S.PAUSED: S.RUNNING,
        S.STOPPED: S.RUNNING,
        S.EXITED: S.RUNNING,
    },
    Op.EXEC: {S.RUNNING: S.RUNNING},
    Op.ATTACH: {
        S.INITIALIZED: S.INITIALIZED,
        S.RUNNING: S.RUNNING,
        S.PAUSED: S.PAUSED,
    },
    # What does not run has its limits from the next start on.
    Op.UPDATE: {status: status for status in Status if status is not S.DAMAGED},
    Op.CLEANUP: {S.CREATED: S.CREATED, S.STOPPED: S.EXITED, S.EXITED: S.EXITED},
    Op.REMOVE: {S.CREATED: S.CREATED, S.STOPPED: S.EXITED, S.EXITED: S.EXITED},
    Op.FORCE_REMOVE: dict.fromkeys(Status, S.EXITED),
}

FACTS: Mapping[Fact, Mapping[Status, Status]] = {
    Fact.MADE: {S.CREATED: S.INITIALIZED, S.EXITED: S.INITIALIZED, S.STOPPED: S.INITIALIZED},
    Fact.BEGUN: {S.CREATED: S.RUNNING, S.INITIALIZED: S.RUNNING},
    Fact.FROZEN: {S.RUNNING: S.PAUSED},
    Fact.THAWED: {S.PAUSED: S.RUNNING},
    Fact.ENDED: dict.fromkeys(_LIVE, S.STOPPED),
    Fact.CLEANED: dict.fromkeys((*_LIVE, S.STOPPED), S.EXITED),
    Fact.FAILED: {S.INITIALIZED: S.EXITED},
    Fact.REBOOTED: dict.fromkeys((*_LIVE, S.STOPPED), S.EXITED),
}
del S


def permitted(op: Op) -> tuple[Status, ...]:
    """Return the statuses from which an operation is possible."""
    return tuple(COMMANDS[op])


def require(op: Op, status: Status, subject: str) -> Status:
    """Return the status after ``op``, or raise `WrongState` that names what is permitted."""
    after = COMMANDS[op].get(status)
    if after is None:
        raise WrongState(
            subject,
            op.value,
            status.value,
            [s.value for s in permitted(op)],
            hint=_HINTS.get((op, status)),
        )
    return after


def step(status: Status, fact: Fact) -> Status:
    """Return the status after a fact was seen; a fact that changes nothing leaves it as it is."""
    return FACTS[fact].get(status, status)


_HINTS: Mapping[tuple[Op, Status], str] = {
    (Op.ATTACH, Status.CREATED): "start it: `longshore start --attach`",
    (Op.ATTACH, Status.STOPPED): "`longshore logs` has what it printed; `start --attach` it again",
    (Op.ATTACH, Status.EXITED): "`longshore logs` has what it printed; `start --attach` it again",
    (Op.EXEC, Status.PAUSED): "unpause it first: `longshore unpause`",
    (Op.START, Status.PAUSED): "it runs and is frozen: `longshore unpause`",
    (Op.REMOVE, Status.RUNNING): "stop it first, or remove it with force",
    (Op.REMOVE, Status.PAUSED): "stop it first, or remove it with force",
    (Op.REMOVE, Status.INITIALIZED): "stop it first, or remove it with force",
    (Op.PAUSE, Status.PAUSED): "it is paused already",
    (Op.UNPAUSE, Status.RUNNING): "it is not paused",
}
