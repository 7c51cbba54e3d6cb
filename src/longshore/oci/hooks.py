"""OCI hooks directories (oci-hooks(5), format 1.0.0): which programs a runtime is to run, and when.

A file is in force when all conditions of its ``when`` are met. Its patterns are Go's, as
`goregex.compile_go` reads them; one pattern of ``commands`` is enough.
"""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.oci.fields import Fields, read_json
from longshore.oci.goregex import compile_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping, Sequence

    from longshore.oci.schema import Hook

STAGES = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
)  # fmt: skip
_MAX_TIMEOUT = 1 << 31  # seconds


class When(Value):
    """When a hook is in force. A condition that is None, or empty, is not there."""

    always: bool | None = None
    annotations: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = ()  # key, value
    commands: tuple[re.Pattern[str], ...] = ()
    has_bind_mounts: bool | None = None

    def matches(
        self, *, command: str, annotations: Mapping[str, str], has_bind_mounts: bool
    ) -> bool:
        """Whether all conditions are met."""
        if self.always is False or (self.has_bind_mounts is not None and not self.has_bind_mounts):
            return False
        if self.has_bind_mounts and not has_bind_mounts:
            return False
        for key, value in self.annotations:
            if not any(key.search(k) and value.search(v) for k, v in annotations.items()):
                return False
        return not self.commands or any(pattern.search(command) for pattern in self.commands)


class HookFile(Value):
    """One file of a hooks directory."""

    path: str
    hook: Hook
    when: When
    stages: tuple[str, ...]


def read_hooks(directories: Sequence[str], *, may_lack: Sequence[str] = ()) -> list[HookFile]:
    """Return the hooks of some directories, in the order in which they are run. I/O.

    A file of a later directory stands for those of its name in earlier ones. InvalidArgument names
    a file that makes no sense, and a directory that is not there, if it is not in ``may_lack``.
    """
    found: dict[str, str] = {}
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and not entry.is_dir():
                        found[entry.name] = entry.path
        except FileNotFoundError:
            if directory not in may_lack:
                raise InvalidArgument(
                    f"hooks directory {directory} is not there",
                    hint="make it, or leave it out of --hooks-dir (hooks_dir in containers.conf)",
                ) from None
        except OSError as err:
            raise InvalidArgument(f"hooks directory {directory}: {err.strerror}") from err
    # by Unicode code points, once they are in lower case (oci-hooks(5))
    return [read_hook(found[name]) for name in sorted(found, key=lambda n: (n.lower(), n))]


def select(
    files: Iterable[HookFile],
    *,
    command: str,
    annotations: Mapping[str, str],
    has_bind_mounts: bool,
) -> dict[str, list[Hook]]:
    """Return the hooks that a container gets, by stage.

    ``command`` is the first word of its process, ``has_bind_mounts`` whether the caller asked for
    a mount of the host's files.
    """
    chosen: dict[str, list[Hook]] = {}
    for file in files:
        if file.when.matches(
            command=command, annotations=annotations, has_bind_mounts=has_bind_mounts
        ):
            for stage in file.stages:
                chosen.setdefault(stage, []).append(file.hook)
    return chosen


def read_hook(path: str) -> HookFile:
    """Return one file, checked. I/O: its program is looked at, too."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as err:
        raise InvalidArgument(f"hook {path}: {err.strerror}") from err
    where = f"hook {path}"
    fields = Fields(read_json(content, where), where)
    version = fields.text("version")
    if version != "1.0.0":
        raise fields.error(
            f"version {version!r} is not known" if version else "version is missing",
            hint="oci-hooks(5), format 1.0.0; a file without a version is of the old format 0.1.0",
        )
    stages = fields.texts("stages")
    for stage in stages:
        if stage not in STAGES:
            own = "podman's own, which Longshore does not run" if stage == "precreate" else ""
            raise fields.error(
                f"stage {stage!r} is {own or 'not known'}", hint=f"one of {', '.join(STAGES)}"
            )
    if not stages:
        raise fields.error("stages is missing")
    entry, when = fields.object("hook"), fields.object("when")
    if entry is None or when is None:
        raise fields.error(f"{'hook' if entry is None else 'when'} is missing")
    fields.close()
    made = HookFile(
        path=path, hook=read_entry(entry, stages), when=_conditions(when), stages=stages
    )
    entry.close()
    return made


def _conditions(when: Fields) -> When:
    names = ("always", "annotations", "commands", "hasBindMounts")
    if not any(when.has(name) for name in names):
        raise when.error("there is no condition", hint=f"at least one of {', '.join(names)}")
    found = When(
        always=when.flag("always"),
        has_bind_mounts=when.flag("hasBindMounts"),
        commands=tuple(_pattern(when, "commands", text) for text in when.texts("commands")),
        annotations=tuple(
            (_pattern(when, "annotations", key), _pattern(when, "annotations", value))
            for key, value in when.table("annotations").items()
        ),
    )
    when.close()
    return found


def _pattern(when: Fields, name: str, text: str) -> re.Pattern[str]:
    try:
        return compile_go(text)
    except ValueError as err:
        raise when.error(f"{name}: the pattern {text!r} cannot be used: {err}") from None


def read_entry(fields: Fields, stages: Sequence[str]) -> Hook:
    """Return a hook of the runtime-spec ("POSIX-platform Hooks") from an object that has its keys.

    Its program is there and can be executed; that of ``startContainer`` is the container's.
    """
    path = fields.text("path", needed=True)
    if not path.startswith("/"):
        raise fields.error(f"path: {path!r} is not absolute")
    if any(stage != "startContainer" for stage in stages):
        try:
            os.stat(path)
        except OSError as err:
            raise fields.error(f"path: {path}: {err.strerror}") from err
        if os.path.isdir(path) or not os.access(path, os.X_OK):
            raise fields.error(f"path: {path} cannot be executed")
    hook: Hook = {"path": path}
    if args := fields.texts("args"):
        hook["args"] = list(args)
    if env := fields.variables("env"):
        hook["env"] = list(env)
    if (timeout := fields.whole("timeout", 1, _MAX_TIMEOUT)) is not None:
        hook["timeout"] = timeout
    return hook
