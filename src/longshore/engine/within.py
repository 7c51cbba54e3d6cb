"""Work of our own in an ordinary user's namespace: what is done to the files of containers.

Their owners are ids that exist there only, and some file systems (FUSE) are shown to nobody else.
This process never enters it (`engine.rootless`), so a Python that runs this module does, and hands
back what came of it. It is the caller's own program under the caller's own id: what is pickled
between them crosses no border that matters.
"""

from __future__ import annotations

import os
from typing import IO

from longshore import _log
from longshore.cgroup.placement import SYSTEMD
from longshore.errors import LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.engine.machinery import Machinery

_START = (
    "import sys; sys.path[:0] = sys.argv[1].split(chr(10)); "
    "from longshore.engine.within import main; main(sys.argv[2:])"
)
_COPIED = 1 << 20  # bytes at a time


class Piped:
    """Stands for a stream of the caller's among the arguments: there it is stdin or stdout."""

    __slots__ = ("writes",)

    def __init__(self, *, writes: bool) -> None:
        self.writes = writes

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (1 if self.writes else 0,)


def _opened(fd: int) -> IO[bytes]:
    return open(fd, "rb" if fd == 0 else "wb", closefd=False)


def call(
    machinery: Machinery,
    module: str,
    function: str,
    *args: object,
    stream: IO[bytes] | None = None,
    **options: object,
) -> Any:
    """Call ``longshore.MODULE.FUNCTION(machinery, *args, **options)`` there.

    It returns or raises what that does. ``stream`` is the file object that a `Piped` among the
    arguments stands for.
    """
    import pickle

    from longshore.linux.procs import DEVNULL, PIPE, clean_env, memory_file, read_memory_file, spawn

    asked = memory_file("call", pickle.dumps((module, function, args, options)))
    answer, words = memory_file("answer"), memory_file("words")
    writes = any(isinstance(one, Piped) and one.writes for one in args)
    try:
        rootless = machinery.rootless
        assert rootless is not None
        process = spawn(
            [
                *rootless.entering(), machinery.python, "-I", "-S", "-c", _START,
                machinery.import_path(SYSTEMD), machinery.settings.root,
                machinery.settings.run_root, str(asked), str(answer),
            ],
            env={**clean_env(), **rootless.markers},
            stdin=PIPE if stream is not None and not writes else DEVNULL,
            stdout=PIPE if writes else DEVNULL,
            stderr=words,
            pass_fds=(asked, answer),
        )  # fmt: skip
        try:
            if stream is not None:
                _pump(process, stream, writes=writes)
        finally:
            process.wait()
        data = read_memory_file(answer)
        said = read_memory_file(words).decode("utf-8", "replace").strip()
        if not data:
            raise LongshoreError(f"{function} in the user's namespace has failed: {said}")
        for line in said.splitlines():
            _log.warn(line.removeprefix("longshore: warning: "))
        result, error = pickle.loads(data)
        if error is not None:
            raise error
        return result
    finally:
        for fd in (asked, answer, words):
            os.close(fd)


def _pump(process: Any, stream: IO[bytes], *, writes: bool) -> None:
    import contextlib

    end = process.stdout if writes else process.stdin
    try:
        source, target = (end, stream) if writes else (stream, end)
        with contextlib.suppress(BrokenPipeError):  # it has stopped reading, and says why
            while data := source.read(_COPIED):
                target.write(data)
    finally:
        with contextlib.suppress(BrokenPipeError):
            end.close()


def main(argv: list[str]) -> None:
    """Do one call: root, run root, and the descriptors of the question and the answer."""
    import importlib
    import pickle

    from longshore.config import Settings
    from longshore.engine.machinery import Machinery

    root, run_root, asked, answer = argv
    with open(int(asked), "rb") as file:
        file.seek(0)
        module, function, args, options = pickle.load(file)
    machinery = Machinery(Settings(root=root, run_root=run_root))
    result: object = None
    error: BaseException | None = None
    try:
        result = getattr(importlib.import_module(f"longshore.{module}"), function)(
            machinery, *args, **options
        )
        for one in args:
            if hasattr(one, "flush"):
                one.flush()
    except Exception as err:  # whatever it is: the caller raises it
        err.__cause__ = err.__context__ = None
        error = err
    with open(int(answer), "wb") as file:
        file.write(pickle.dumps((result, error)))
