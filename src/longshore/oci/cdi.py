"""CDI devices: read the files that describe them, find those asked for, fill in the host's facts.

The Container Device Interface, SPEC.md 0.3.0 to 0.8.0 (and 1.0.0, which has the same format), of
tags.cncf.io/container-device-interface. Files are JSON or YAML.
"""

from __future__ import annotations

import os
import stat

from longshore import _log
from longshore._value import Value
from longshore.errors import InvalidArgument, LongshoreError
from longshore.oci.edits import EditedNode, Edits
from longshore.oci.fields import Fields, read_json
from longshore.oci.hooks import STAGES, read_entry
from longshore.options.cdi import is_device, is_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from longshore.oci.schema import Hook, MountPoint

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")
_MAX_ID = (1 << 32) - 1
_MAX_DEVICE = (1 << 31) - 1
_RDT = ("closID", "l3CacheSchema", "memBwSchema")
_RDT_FLAGS = ("enableCMT", "enableMBM")


class CdiFile(Value):
    """One file: devices of one kind. Nothing of the host but the file itself has been looked at."""

    path: str
    rank: int  # of its directory; the highest wins
    kind: str
    devices: Mapping[str, Fields]  # by name: their containerEdits
    edits: Fields | None = None  # for whoever gets any of its devices


def resolve(names: Sequence[str], directories: Sequence[str]) -> Edits:
    """Return all that some devices (``VENDOR/CLASS=NAME``) change in a spec. I/O.

    A later directory is stronger than an earlier one. ``all`` is a device of this name, or else
    every device of the kind. InvalidArgument says which devices there are when one is not, which
    files disagree about one, and what on the host is not as a file says. A file that cannot be
    read is a warning when it is not needed.
    """
    files, unread = read_files(directories)
    edits = Edits()
    begun: set[str] = set()  # files whose own edits have been made
    done: set[str] = set()
    for asked in names:
        for file, name in _find(asked, files, unread, directories):
            qualified = f"{file.kind}={name}"
            if qualified in done:
                continue
            done.add(qualified)
            if file.path not in begun and file.edits is not None:
                edits += read_edits(file.edits)
            begun.add(file.path)
            edits += read_edits(file.devices[name])
    for trouble in unread:
        _log.warn(f"a file of CDI devices is not used: {trouble}")
    return edits


def read_files(directories: Iterable[str]) -> tuple[list[CdiFile], list[LongshoreError]]:
    """Return the files of some directories, and why others cannot be read. I/O."""
    files: list[CdiFile] = []
    unread: list[LongshoreError] = []
    for rank, directory in enumerate(directories):
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            continue
        except OSError as err:
            unread.append(InvalidArgument(f"{directory}: {err.strerror}"))
            continue
        for name in names:
            path = f"{directory}/{name}"
            if name.endswith((".json", ".yaml")) and not os.path.isdir(path):
                try:
                    files.append(read_file(path, rank))
                except LongshoreError as err:
                    unread.append(err)
    return files, unread


def read_file(path: str, rank: int = 0) -> CdiFile:
    """Return one file, checked as far as that can be done without the host. I/O."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as err:
        raise InvalidArgument(f"{path}: {err.strerror}") from err
    if path.endswith(".yaml"):
        from longshore.oci.yamlfile import read_yaml

        fields = Fields(read_yaml(content, path), path)
    else:
        fields = Fields(read_json(content, path), path)
    version = fields.text("cdiVersion", needed=True)
    if version.removeprefix("v") not in VERSIONS:
        raise fields.error(
            f"cdiVersion {version!r} is not known", hint=f"known are {', '.join(VERSIONS)}"
        )
    kind = fields.text("kind", needed=True)
    if not is_kind(kind):
        raise fields.error(f"kind {kind!r} is not VENDOR/CLASS")
    fields.has("annotations")  # say something to people, and nothing to an engine
    devices: dict[str, Fields] = {}
    for entry in fields.objects("devices"):
        name = entry.text("name", needed=True)
        if not is_device(name):
            raise entry.error(f"{name!r} is not a device's name")
        if name in devices:
            raise entry.error(f"there is another device {name!r}")
        entry.has("annotations")
        edits = entry.object("containerEdits")
        if edits is None:
            raise entry.error("containerEdits is missing")
        entry.close()
        devices[name] = edits
    if not devices:
        raise fields.error("there are no devices")
    own = fields.object("containerEdits")
    fields.close()
    return CdiFile(path=path, rank=rank, kind=kind, devices=devices, edits=own)


def _find(
    asked: str,
    files: Sequence[CdiFile],
    unread: Sequence[LongshoreError],
    directories: Sequence[str],
) -> list[tuple[CdiFile, str]]:
    """Return the devices that a name stands for: (file, name)."""
    kind, _, name = asked.partition("=")
    of_kind = [file for file in files if file.kind == kind]
    names = [name]
    if name == "all" and of_kind and not any("all" in file.devices for file in of_kind):
        names = list(dict.fromkeys(name for file in of_kind for name in file.devices))
    found: list[tuple[CdiFile, str]] = []
    for one in names:
        having = [file for file in of_kind if one in file.devices]
        best = [file for file in having if file.rank == max(f.rank for f in having)]
        if not best:
            raise _unknown(asked, files, unread, directories)
        if len(best) > 1:
            raise InvalidArgument(
                f"CDI device {kind}={one} is in {' and in '.join(file.path for file in best)}",
                hint="remove it from all but one of them",
            )
        found.append((best[0], one))
    return found


def _unknown(
    asked: str,
    files: Sequence[CdiFile],
    unread: Sequence[LongshoreError],
    directories: Sequence[str],
) -> InvalidArgument:
    known = sorted({f"{file.kind}={name}" for file in files for name in file.devices})
    if known:
        hint = f"there are {', '.join(known)}"
    elif unread:
        hint = unread[0].hint or "mend the files that cannot be read"
    else:
        hint = f"{' and '.join(directories)} have none"
    error = InvalidArgument(f"there is no CDI device {asked}", hint=hint)
    for trouble in unread:
        more = f" ({trouble.hint})" if trouble.hint and trouble.hint != hint else ""
        error.add_note(f"not read: {trouble}{more}")
    return error


def read_edits(fields: Fields) -> Edits:
    """Return ``containerEdits``, with the facts of the host filled in. I/O: stat."""
    edits = Edits(
        env=fields.variables("env"),
        nodes=tuple(_node(node) for node in fields.objects("deviceNodes")),
        mounts=tuple(_mount(mount) for mount in fields.objects("mounts")),
        hooks=tuple(_hook(hook) for hook in fields.objects("hooks")),
        # the example of SPEC.md has the second spelling, and Go reads both
        gids=tuple(
            gid
            for key in ("additionalGids", "additionalGIDs")
            for gid in fields.wholes(key, 0, _MAX_ID)
        ),
        intel_rdt=_intel_rdt(fields.object("intelRdt")),
    )
    fields.close()
    return edits


def _node(fields: Fields) -> EditedNode:
    path = _absolute(fields, "path")
    kind = fields.text("type")
    if kind not in ("", "b", "c", "u", "p"):
        raise fields.error(f"type {kind!r} is not b, c or p")
    kind = "c" if kind == "u" else kind  # mknod(1): another word for the same
    source = fields.text("hostPath") or path
    major = fields.whole("major", 0, _MAX_DEVICE) or 0
    minor = fields.whole("minor", 0, _MAX_DEVICE) or 0
    access = fields.text("permissions")
    if set(access) - set("rwm"):
        raise fields.error(f"permissions {access!r} are not some of r, w and m")
    mode = fields.whole("fileMode", 0, _MAX_ID)
    uid, gid = fields.whole("uid", 0, _MAX_ID), fields.whole("gid", 0, _MAX_ID)
    fields.close()
    if not kind or (not major and kind != "p"):
        try:
            status = os.stat(source)
        except OSError as err:
            raise fields.error(f"{source}: {err.strerror}") from err
        tests = (("b", stat.S_ISBLK), ("c", stat.S_ISCHR), ("p", stat.S_ISFIFO))
        real = next((letter for letter, test in tests if test(status.st_mode)), "")
        if not real or kind not in ("", real):
            raise fields.error(f"{source} is not a device{f' of type {kind}' if kind else ''}")
        kind = real
        if not major and kind != "p":
            major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return EditedNode(
        path=path,
        type=kind,
        major=major,
        minor=minor,
        mode=None if mode is None else mode & 0o777,
        uid=uid,
        gid=gid,
        access=access or "rwm",
    )


def _mount(fields: Fields) -> MountPoint:
    source, target = fields.text("hostPath", needed=True), _absolute(fields, "containerPath")
    kind, options = fields.text("type"), list(fields.texts("options"))
    fields.close()
    if kind in ("", "none", "bind") or "bind" in options or "rbind" in options:
        kind = "bind"
        if "bind" not in options and "rbind" not in options:
            options.append("rbind")
        if not os.path.exists(source):
            raise fields.error(f"hostPath: {source} is not there")
    return {"destination": target, "type": kind, "source": source, "options": options}


def _hook(fields: Fields) -> tuple[str, Hook]:
    stage = fields.text("hookName", needed=True)
    if stage not in STAGES:
        raise fields.error(f"hookName {stage!r} is not known", hint=f"one of {', '.join(STAGES)}")
    hook = read_entry(fields, (stage,))
    fields.close()
    return stage, hook


def _intel_rdt(fields: Fields | None) -> dict[str, Any]:
    if fields is None:
        return {}
    found: dict[str, Any] = {name: fields.text(name) for name in _RDT if fields.text(name)}
    found |= {name: True for name in _RDT_FLAGS if fields.flag(name)}
    fields.close()
    name = found.get("closID", "")
    if "/" in name or "\n" in name or name in (".", "..") or len(name) >= 4096:
        raise fields.error(f"closID {name!r} is not a file's name")
    return found


def _absolute(fields: Fields, name: str) -> str:
    path = fields.text(name, needed=True)
    if not path.startswith("/"):
        raise fields.error(f"{name}: {path!r} is not an absolute path")
    return os.path.normpath("/" + path.lstrip("/"))
