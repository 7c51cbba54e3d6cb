"""Find Quadlet files and their drop-ins, and write the services into a unit directory.

What systemd.generator(7) asks for: quick, nothing but files, and one bad file keeps no other from
becoming a service.
"""

from __future__ import annotations

import os
import re

from longshore.errors import LongshoreError
from longshore.units import quadlet
from longshore.units.unitfile import UnitFile, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SUFFIX = ".container"
# Quadlet's others, which nothing here makes anything of yet
_OTHERS = (".volume", ".network", ".kube", ".pod", ".image", ".build")
_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\-]*)?", re.ASCII)


def search_path(environ: Mapping[str, str], *, user: bool, uid: int) -> list[str]:
    """Return the directories of Quadlet files, the strongest first (podman-systemd.unit(5))."""
    given = environ.get("QUADLET_UNIT_DIRS")
    if given:
        return [path for path in given.split(":") if path.startswith("/")]
    if not user:
        places = ("/run", "/etc", "/usr/share")
        return [f"{place}/containers/systemd" for place in places]
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    found = [environ.get("XDG_RUNTIME_DIR", ""), config]
    return [
        *(f"{place}/containers/systemd" for place in found if place.startswith("/")),
        f"/etc/containers/systemd/users/{uid}",
        "/etc/containers/systemd/users",
    ]


class Found:
    """The files below the search path: each name once, from the strongest directory.

    A link to /dev/null there means that there is none, as for units (systemd.unit(5)).
    """

    __slots__ = ("_masked", "directories", "files", "others")

    def __init__(self, path: Sequence[str], *, user: bool) -> None:
        self.files: dict[str, str] = {}
        self.others: dict[str, str] = {}
        self.directories: list[str] = []
        self._masked: set[str] = set()
        for top in path:
            self._walk(top, top, user=user)

    def _walk(self, directory: str, top: str, *, user: bool) -> None:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            return
        self.directories.append(directory)
        for name in names:
            whole = f"{directory}/{name}"
            if name.endswith((_SUFFIX, *_OTHERS)) and _is_mask(whole):
                self._masked |= {name} - self.files.keys() - self.others.keys()
            elif name in self._masked:
                continue
            elif name.endswith(_SUFFIX) and os.path.isfile(whole):
                self.files.setdefault(name, whole)
            elif name.endswith(_OTHERS) and os.path.isfile(whole):
                self.others.setdefault(name, whole)
            elif not name.endswith(".d") and os.path.isdir(whole):
                # those of users are not the system's, and of users each has its own
                others = name.isdecimal() if user else name == "users"
                if not (others and directory == top) and not os.path.islink(whole):
                    self._walk(whole, top, user=user)

    def dropins(self, name: str) -> Iterator[str]:
        """Yield a file's drop-ins in the order of their names, each name from its best place."""
        chosen: dict[str, str] = {}
        for place in _dropin_places(name):  # the weakest first
            for directory in reversed(self.directories):
                try:
                    names = os.listdir(f"{directory}/{place}")
                except OSError:
                    continue
                chosen |= {n: f"{directory}/{place}/{n}" for n in names if n.endswith(".conf")}
        for _, path in sorted(chosen.items()):
            yield path


def _is_mask(path: str) -> bool:
    return os.path.islink(path) and os.path.realpath(path) == os.devnull


def _dropin_places(name: str) -> list[str]:
    """Return the names of the directories of a file's drop-ins, the weakest first."""
    stem = name.removesuffix(_SUFFIX)
    base, at, instance = stem.partition("@")
    parts = base.split("-")
    places = ["container.d"]
    places += [f"{'-'.join(parts[:n])}-{_SUFFIX}.d" for n in range(1, len(parts))]
    if at and instance:
        places.append(f"{base}@{_SUFFIX}.d")
    return [*places, f"{name}.d"]


class Generated:
    """One service: its file, and the links to it, as (path, target) below the unit directory."""

    __slots__ = ("links", "name", "source", "text")

    def __init__(self, name: str, source: str, text: str, links: list[tuple[str, str]]) -> None:
        self.name = name
        self.source = source
        self.text = text
        self.links = links


def generate(found: Found, *, program: str, tell: Callable[[str], None]) -> list[Generated]:
    """Make the services of all files; what is wrong with one is told, and it is left out."""
    made: list[Generated] = []
    for name, path in sorted(found.files.items()):
        try:
            made.append(_one(found, name, path, program))
        except LongshoreError as err:
            tell(f"{path}: {err}" + (f" ({err.hint})" if err.hint else ""))
        except (OSError, UnicodeError) as err:
            tell(f"{path}: it cannot be read: {err}")
    for _, path in sorted(found.others.items()):
        tell(f"{path}: only {_SUFFIX} files become services in this version")
    return made


def _one(found: Found, name: str, path: str, program: str) -> Generated:
    stem = name.removesuffix(_SUFFIX)
    if not _NAME.fullmatch(stem):
        from longshore.errors import InvalidArgument

        raise InvalidArgument(f"{stem!r} cannot be the name of a unit")
    source = _read(path)
    for dropin in found.dropins(name):
        source.merge(_read(dropin))
    unit = quadlet.service(source, path=path, name=stem, program=program)
    text = f"# made by longshore-generator of {path}\n\n{unit.text()}"
    return Generated(f"{stem}.service", path, text, quadlet.enabled(source, stem))


def _read(path: str) -> UnitFile:
    with open(path, encoding="utf-8") as file:
        return parse(file.read(), path)


def write(made: Sequence[Generated], directory: str, *, tell: Callable[[str], None]) -> None:
    """Write services and links. What cannot be done is told, and keeps nothing else from it.

    All services come first: a link never takes the place of one, nor of what another has put there,
    and no service is written through a link.
    """
    written: list[Generated] = []
    for one in made:
        try:
            _write_service(f"{directory}/{one.name}", one.text)
        except (OSError, UnicodeError) as err:
            tell(f"{one.source}: {_failed(directory, one.name, err)}")
        else:
            written.append(one)
    for one in written:
        for path, target in one.links:
            if path == target:  # an alias that is its own name
                continue
            try:
                there = _link(f"{directory}/{path}", target)
            except (OSError, UnicodeError) as err:
                tell(f"{one.source}: {_failed(directory, path, err)}")
                continue
            if there:
                tell(f"{one.source}: {path} is not made a link to {one.name}: {there} already")


def _failed(directory: str, name: str, err: OSError | UnicodeError) -> str:
    why = err.strerror if isinstance(err, OSError) else err
    return f"cannot write {directory}/{name}: {why}"


def _write_service(path: str, text: str) -> None:
    data = text.encode()
    if os.path.islink(path):
        os.unlink(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o644), "wb") as file:
        file.write(data)


def _link(path: str, target: str) -> str:
    """Make a link; return what is there instead, if that is anything else."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.symlink(target, path)
    except FileExistsError:
        if not os.path.islink(path):
            return "it is there"
        found = os.readlink(path)
        return "" if found == target else f"it is one to {found}"
    return ""
