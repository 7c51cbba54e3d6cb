"""What conmon runs when a container has ended: clean up if nobody else has promised to.

A program that waits for its container, such as an attached `run`, holds a lease on the container's
run directory and cleans up itself, so a shell first waits for that lease (flock(1) of util-linux)
and looks whether anything is left to do; Python starts only then. A holder that is killed loses
its lease, one that hangs is not waited for longer than `_PATIENCE`; the clean-up is idempotent and
under the container's lock, so doing it twice harms nothing.
"""

from __future__ import annotations

import sys

_PATIENCE = 30  # seconds
_SCRIPT = (
    'exec 9<"$1" && flock -w {patience} 9; '  # without flock(1) we simply go on
    'test -e "$1/pidfile" || exit 0; '
    'exec "$2" -I -S -c "import sys; sys.path[:0] = sys.argv[1].split(chr(10)); '
    'from longshore.engine.exitcmd import main; main(sys.argv[2:])" "$3" "$4" "$5" "$6"'
)


def command(
    *, python: str, import_path: str, root: str, run_root: str, run_dir: str, container_id: str
) -> tuple[str, ...]:
    """Return the command line. Nothing in it is parsed again: all values are arguments.

    ``import_path`` is where the isolated interpreter finds this package, a directory a line.
    """
    return (
        "/bin/sh",
        "-c",
        _SCRIPT.format(patience=_PATIENCE),
        "longshore-exit",
        run_dir,
        python,
        import_path,
        root,
        run_root,
        container_id,
    )


def main(argv: list[str]) -> None:
    """Clean up after one container: root, run root and id are the arguments."""
    root, run_root, container_id = argv
    from longshore.config import Settings
    from longshore.engine import finishing
    from longshore.engine.machinery import Machinery
    from longshore.errors import LongshoreError, NoSuchContainer

    machinery = Machinery(Settings(root=root, run_root=run_root))
    try:
        finishing.after_exit(machinery, container_id)
    except NoSuchContainer:
        return
    except LongshoreError as err:
        # Nobody reads this process; the next command that meets the container tries again.
        sys.exit(f"{err}")
