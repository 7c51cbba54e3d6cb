"""What conmon runs when an exec session has ended: write that down, and tell of it.

Whoever waits for the session does the same; the second one finds nothing to do. A session whose
starter is sure to wait for it needs no such command.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.store import Record

_SCRIPT = (
    "import sys; sys.path[:0] = sys.argv[1].split(chr(10)); "
    "from longshore.engine.sessionexit import main; main(sys.argv[2:])"
)


def command(machinery: Machinery, record: Record, session_id: str) -> tuple[str, ...]:
    """Return the command line; ``record`` is the container's."""
    manager = record.run.manager if record.run is not None else ""
    script = (machinery.python, "-I", "-S", "-c", _SCRIPT, machinery.import_path(manager))
    settings = machinery.settings
    return (*script, settings.root, settings.run_root, record.id, session_id)


def main(argv: list[str]) -> None:
    """Settle one session: root, run root, and the ids of container and session are given."""
    root, run_root, container_id, session_id = argv
    from longshore.config import Settings
    from longshore.engine.machinery import Machinery
    from longshore.errors import LongshoreError

    machinery = Machinery(Settings(root=root, run_root=run_root))
    try:
        _settle(machinery, container_id, session_id)
    except LongshoreError as err:
        # Nobody reads this process; the next command that meets the session tries again.
        sys.exit(f"{err}")
    os._exit(0)  # conmon waits for us, and others for conmon


def _settle(machinery: Machinery, container_id: str, session_id: str) -> None:
    from longshore.engine import sessions
    from longshore.linux.processes import is_alive
    from longshore.linux.steps import run

    deadline = time.monotonic() + machinery.settings.busy_timeout
    store = sessions.store_of(machinery, container_id)
    # A short program can be over before its starter has written down that it began.
    while is_alive((record := store.peek(session_id)).actor) and time.monotonic() < deadline:
        run(sessions.start_steps(machinery, container_id, record, deadline))
    if record.actor is not None:
        os.setpgid(0, 0)  # what takes the start back kills conmon and its process group
    sessions.settle(machinery, container_id, session_id, deadline)
