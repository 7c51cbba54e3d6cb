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
    """The files below the search path: each name once, from the strongest directory."""

    __slots__ = ("directories", "files", "others")

    def __init__(self, path: Sequence[str], *, user: bool) -> None:
        self.files: dict[str, str] = {}
        self.others: dict[str, str] = {}
        self.directories: list[str] = []
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
            if name.endswith(_SUFFIX) and os.path.isfile(whole):
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


def write(made: Sequence[Generated], directory: str) -> None:
    """Write services and links. OSError where that cannot be done."""
    for one in made:
        with open(f"{directory}/{one.name}", "w", encoding="utf-8") as file:
            file.write(one.text)
        for path, target in one.links:
            link = f"{directory}/{path}"
            os.makedirs(os.path.dirname(link), exist_ok=True)
            try:
                os.symlink(target, link)
            except FileExistsError:
                os.unlink(link)
                os.symlink(target, link)
