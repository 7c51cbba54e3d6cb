"""What runtimes say when they fail, and which error it is: one table for all of them.

Samples of each runtime and version are in tests/data/runtime-failures.json, captured from the real
programs. What matches nothing stays `RuntimeFailed`, with the runtime's words.
"""

from __future__ import annotations

import json
import re

from longshore._value import is_table
from longshore.errors import (
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# (pattern, class, hint). The first match wins. The sources of the patterns are the messages that
# crun 1.8–1.28, runc 1.1–1.3 and runsc 20240729 print; each has a sample in the test data.
# They are compiled when something fails, not when a container is started.
_TABLE: Sequence[tuple[str, type[RuntimeFailed], str | None]] = (
    (
        (
            r"executable file `[^`]*` not found"
            r"|executable file not found in \$PATH"
            r'|error finding executable "[^"]*" in PATH'
            r'|exec: "[^"]*": stat [^:]*: no such file or directory'
            r"|^exec [^:]*: [nN]o such file or directory"
            r"|^exec: No such file or directory"
            r"|: failed to load [^:]*: no such file or directory"
            r"|exec container process .*: No such file or directory"
        ),
        ProgramNotFound,
        "the path is looked up inside the container: check the command and its PATH",
    ),
    (
        (
            r"^open executable: "
            r"|the path `[^`]*` (?:is not a regular file|exists but it is not executable)"
            r'|exec: "[^"]*": (?:stat [^:]*: )?permission denied'
            r'|exec: "[^"]*": (?:exec format error|is a directory)'
            r"|^exec [^:]*: (?:[pP]ermission denied|[eE]xec format error)"
            r"|^exec: (?:Permission denied|Exec format error)"
            r"|: failed to load [^:]*: (?:permission denied|exec format error)"
            r"|exec container process .*: (?:Exec format error|Permission denied)"
        ),
        ProgramNotExecutable,
        "check that the file is a program for this machine, and that its x bit is set",
    ),
    (
        r"(?i)^exec.*: argument list too long",
        RuntimeFailed,
        "the kernel limits what a program is given (execve(2)): use a file or standard input",
    ),
    (
        r"^chdir (?:to )?`|chdir to cwd|failed to find initial working directory",
        RuntimeFailed,
        "the working directory is looked up inside the container",
    ),
    (
        r"memory limit could be too low|unable to set memory limit",
        RuntimeFailed,
        "the memory limit leaves no room for the runtime itself: ask for more",
    ),
    (
        r"(?i)cgroups in hybrid mode not supported",
        RuntimeFailed,
        "crun runs on cgroup v1 or v2, not on a mix of both: use `--runtime runc`",
    ),
    (
        r"cannot set up cgroup.*cgroup\.subtree_control: invalid argument",
        RuntimeFailed,
        (
            "it wants cgroup controllers that this host does not hand down: --runtime-flag "
            "ignore-cgroups does without them, and without limits"
        ),
    ),
    (
        r"cannot run with network enabled in root network namespace",
        RuntimeFailed,
        "on this kernel it can have no network of its own: use network=none or network=host",
    ),
    (
        r"(?i)rlimit.*operation not permitted",
        RuntimeFailed,
        "the process lacks CAP_SYS_RESOURCE: ask for a lower limit, or use another runtime",
    ),
    (
        r"(?i)mkdir.*cgroup.*(?:permission denied|read-only)",
        RuntimeFailed,
        "the cgroup tree is not writable here: run as root, or with a delegated cgroup",
    ),
)


def explain(
    name: str, verb: str, subject: str, words: str, *, log: str = "", program: str = ""
) -> RuntimeFailed:
    """Return the error for a runtime's failure.

    ``words`` is what it printed, or what conmon passed on; ``log`` is its JSON log, which is
    preferred because it has the message alone. The first error in it wins. ``program`` is what was
    to be executed: crun 1.8 does not name one that it cannot open.
    """
    said = _first_error(log) or _first_error(words) or words.strip() or "it said nothing"
    matching = (row[1:] for row in _TABLE if re.search(row[0], said))
    kind, hint = next(matching, (RuntimeFailed, None))
    if program not in said and kind.exit_code in (126, 127):
        said = f"{program!r}: {said}"
    return kind(f"cannot {verb} container {subject}: {name}: {said}", hint=hint)


# A line of runc's stderr without --log-format (logrus; Go quotes nearly as JSON does).
_LOGFMT = r'level=error msg=("(?:[^"\\]|\\.)*")'


def has_error(log: str) -> bool:
    """Whether a runtime's log says that it has failed."""
    return bool(_first_error(log))


def _first_error(text: str) -> str:
    """Return the first message of level error in a log, JSON objects or logfmt a line, else "".

    Objects may take several lines (crun 1.28), or be several in one (runsc).
    """
    position = 0
    while position < len(text):
        end = text.find("\n", position) + 1 or len(text)
        logfmt = re.search(_LOGFMT, text[position:end])
        entry: Any = None
        try:
            if logfmt is not None:
                entry = {"level": "error", "msg": json.loads(logfmt[1])}
            elif text[position] == "{":
                entry, end = json.JSONDecoder().raw_decode(text, position)
        except ValueError:
            pass  # cut, or no JSON at all
        if is_table(entry) and entry.get("level") == "error" and entry.get("msg"):
            return str(entry["msg"]).strip()
        position = end
    return ""
