"""Which ids a container's own user namespace maps to which of its host's.

"Host" is where the runtime runs: the machine for root; for an ordinary user its namespace
(`engine.rootless`), whose ids are the user's own (0) and its subordinate ones (1 and on). The
modes are podman's: podman-run(1), --userns.
"""

from __future__ import annotations

import os
import time

from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError
from longshore.linux import userns
from longshore.linux.userns import IdMap, inside, outside, parse
from longshore.options.usernamespaces import LAST_ID, settings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longshore.engine.machinery import Machinery
    from longshore.options import ContainerConfig
    from longshore.store import Record

    Maps = tuple[IdMap, ...]

_AUTO_OWNER = "containers"  # whose subordinate ids --userns=auto takes for root
_AUTO_LEAST, _AUTO_MOST = 1024, 65536  # ids, as podman gives them
_NOBODY = 65534
_CHOOSING = 60.0  # seconds that others may take to choose theirs


def is_automatic(config: ContainerConfig) -> bool:
    """Whether a container gets ids that no other has."""
    return config.userns.partition(":")[0] == "auto"


def chosen(machinery: Machinery, config: ContainerConfig) -> ContainerConfig:
    """Return a configuration that says what is mapped. Nothing is touched.

    InvalidArgument and HostUnsupported for what cannot be had. For ``auto`` see `create`.
    """
    if config.userns.startswith("ns:"):  # what it maps was said by who made it
        uids, gids = userns.maps_of(config.userns[len("ns:") :])
        return config.replace(mapped_uids=_texts(uids), mapped_gids=_texts(gids))
    if config.userns.startswith("container:"):
        other = machinery.store.peek(machinery.store.resolve(config.userns[len("container:") :]))
        if not other.config.mapped_uids:
            raise InvalidArgument(
                f"userns: container {other.name} has no user namespace of its own",
                hint="leave userns out: it is the same then",
            )
        return config.replace(
            mapped_uids=other.config.mapped_uids, mapped_gids=other.config.mapped_gids
        )
    if is_automatic(config):
        return config
    uids, gids = _maps(machinery, config)
    if machinery.user is not None:
        uids, gids = (
            _within(maps, above)
            for maps, above in zip((uids, gids), _host_maps(machinery), strict=True)
        )
    if outside(uids, 0) is None or outside(gids, 0) is None:
        name = machinery.runtime(config.runtime).name
        if not name.startswith("crun"):  # runc: "no user mapping found" (libcontainer)
            raise HostUnsupported(
                "a container whose user namespace has no id 0 was asked for",
                f"{name}, which starts every container as its root",
                hint=f"use --runtime crun, or map 0 too; for a user, {_MORE}",
            )
    changes: dict[str, object] = {"mapped_uids": _texts(uids), "mapped_gids": _texts(gids)}
    if config.userns.partition(":")[0] == "keep-id" and not config.user:
        changes["user"] = "{}:{}".format(*_kept(machinery, config))
    return config.replace(**changes)


def create(machinery: Machinery, record: Record, *, keep: Callable[[Record], None]) -> None:
    """Keep a new container's record with ids that no other has (``auto``).

    Which are taken is what the records say, so nothing has to be given back.
    """
    from longshore.linux.files import make_directory
    from longshore.linux.locks import FileLock

    make_directory(machinery.layout.root)
    path = f"{machinery.layout.root}/idmaps.lock"
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with FileLock(path, purpose="choose ids", deadline=time.monotonic() + _CHOOSING):
        config = record.config
        size = settings_of(config.userns).get("size") or _size_of(config.rootfs)
        taken = list(_taken(machinery))
        found: list[tuple[str, ...]] = []
        for kind, free in zip(("uid", "gid"), _available(machinery, auto=True), strict=True):
            used = [mapped[kind == "gid"] for mapped in taken]
            first = _first_free(free, [one for maps in used for one in maps], size)
            if first is None:
                raise HostUnsupported(
                    f"userns auto needs {size} {kind}s that no other container has",
                    "all subordinate ids are in use or too few",
                    hint="remove containers, say auto:size=N, or give more ids in /etc/subuid and "
                    "/etc/subgid",
                )
            maps: Maps = (IdMap(inside=0, outside=first, count=size),)
            if machinery.user is not None:
                maps = _within(maps, _host_maps(machinery)[kind == "gid"])
            found.append(_texts(maps))
        record = record.replace(config=config.replace(mapped_uids=found[0], mapped_gids=found[1]))
        keep(record)


def gids_of(machinery: Machinery, config: ContainerConfig) -> Maps:
    """Return what a container's gids are of its host's; () if they are the machine's own."""
    if config.mapped_gids:
        return parse(config.mapped_gids)
    if machinery.user is None:
        return ()
    (own,) = _available(machinery)[1]
    return (own,)


def _within(maps: Sequence[IdMap], above: Sequence[IdMap]) -> Maps:
    """Cut ranges so that each is within one range of the namespace above, as the kernel wants it
    (kernel/user_namespace.c, map_write)."""
    found: list[IdMap] = []
    for one in maps:
        for other in sorted(above, key=lambda m: m.inside):
            first = max(one.outside, other.inside)
            last = min(one.outside + one.count, other.inside + other.count)
            if first < last:
                inner = one.inside + first - one.outside
                found.append(IdMap(inside=inner, outside=first, count=last - first))
    return tuple(found)


def _texts(maps: Sequence[IdMap]) -> tuple[str, ...]:
    return tuple(str(one) for one in maps)


def _maps(machinery: Machinery, config: ContainerConfig) -> tuple[Maps, Maps]:
    word = config.userns.partition(":")[0]
    if word in ("", "private"):
        return _written(machinery, config)
    if machinery.user is None:
        if word == "keep-id":  # every id is kept
            every = (IdMap(inside=0, outside=0, count=LAST_ID + 1),)
            return every, every
        raise HostUnsupported(
            f"userns={config.userns}",
            "root, who has no ids of its own that could be left out",
            hint="use auto, or say which with --uidmap",
        )
    own = _available(machinery)
    if word == "nomap":
        maps = [_shifted(free) for free in own]
        if not all(maps):
            raise HostUnsupported(
                "userns=nomap maps subordinate ids only", "this user has none", hint=_MORE
            )
        return maps[0], maps[1]
    kept = _kept(machinery, config)
    return _keep(own[0], kept[0]), _keep(own[1], kept[1])


_MORE = "root gives them with `usermod --add-subuids 100000-165535 --add-subgids 100000-165535`"


def _kept(machinery: Machinery, config: ContainerConfig) -> tuple[int, int]:
    """Return the uid and gid that a user has in the container with keep-id."""
    given = settings_of(config.userns)
    if machinery.user is None:
        own = (0, 0)
    elif machinery.rootless is not None:
        own = (machinery.rootless.uid, machinery.rootless.gid)
    else:
        own = (machinery.user, int(os.environ.get(userns.OWNER_GID, machinery.user)))
    return given.get("uid", own[0]), given.get("gid", own[1])


def _keep(free: Sequence[IdMap], kept: int) -> Maps:
    """Map the user itself, 0 of its namespace, to an id, and the others around it in order."""
    others = sum(one.count for one in free) - 1
    below = min(kept, others)
    found = [IdMap(inside=0, outside=1, count=below)] if below else []
    found.append(IdMap(inside=kept, outside=0, count=1))
    if others > below:
        found.append(IdMap(inside=kept + 1, outside=below + 1, count=others - below))
    return tuple(found)


def _shifted(free: Sequence[IdMap]) -> Maps:
    others = sum(one.count for one in free) - 1
    return (IdMap(inside=0, outside=1, count=others),) if others else ()


def _written(machinery: Machinery, config: ContainerConfig) -> tuple[Maps, Maps]:
    """Return the maps that were given by number, or by the name of whose they are."""
    uids, gids = parse(config.uidmap), parse(config.gidmap)
    if config.subuidname or config.subgidname:
        name = config.subuidname or config.subgidname
        uids = uids or _of_name(machinery, "uid", config.subuidname or name)
        gids = gids or _of_name(machinery, "gid", config.subgidname or name)
    if not uids and not gids:
        if machinery.user is None:
            raise InvalidArgument(
                "userns=private says not which ids the container has",
                hint="use auto, or add --uidmap 0:100000:65536",
            )
        own = _available(machinery)
        found = [(IdMap(inside=0, outside=0, count=sum(m.count for m in free)),) for free in own]
        return found[0], found[1]
    uids, gids = uids or gids, gids or uids  # as podman: one of them stands for both
    if machinery.user is not None:
        for kind, maps, free in zip(
            ("uid", "gid"), (uids, gids), _available(machinery), strict=True
        ):
            most = sum(one.count for one in free)
            for one in maps:
                if one.outside + one.count > most:
                    raise InvalidArgument(
                        f"{kind}map: {one} goes beyond what this user has: 0 (itself) "
                        f"and 1 to {most - 1} (its subordinate ids)",
                        hint=_MORE,
                    )
    return uids, gids


def _of_name(machinery: Machinery, kind: str, name: str) -> Maps:
    ranges = userns.subordinate(f"/etc/sub{kind}", [name])
    if not ranges:
        raise HostUnsupported(
            f"sub{kind}name: the subordinate ids of {name} were asked for",
            f"no line for it in /etc/sub{kind}",
        )
    found: list[IdMap] = []
    after = 0
    for first, count in ranges:
        start = first
        if machinery.user is not None:
            own = _host_maps(machinery)[kind == "gid"]
            translated = inside(own, first)
            if translated is None or inside(own, first + count - 1) is None:
                raise HostUnsupported(
                    f"sub{kind}name: the ids of {name} were asked for", "they are another user's"
                )
            start = translated
        found.append(IdMap(inside=after, outside=start, count=count))
        after += count
    return tuple(found)


def _host_maps(machinery: Machinery) -> tuple[Maps, Maps]:
    """Return what a user's namespace maps to the ids of the machine."""
    if machinery.rootless is not None:
        return machinery.rootless.mappings()
    return userns.current("uid"), userns.current("gid")


def _available(machinery: Machinery, *, auto: bool = False) -> tuple[Maps, Maps]:
    """Return what there is to give, uids and gids. ``auto``: to containers, each its own."""
    if machinery.user is not None:
        maps = _host_maps(machinery)
        sizes = [sum(one.count for one in kind) for kind in maps]
        least = 1 if auto else 0  # the user itself is nobody's own
        found = [(IdMap(inside=0, outside=least, count=n - least),) for n in sizes]
        return found[0], found[1]
    ranges = [userns.subordinate(f"/etc/sub{kind}", [_AUTO_OWNER]) for kind in ("uid", "gid")]
    for kind, given in zip(("uid", "gid"), ranges, strict=True):
        if not given:
            raise HostUnsupported(
                f"userns=auto takes the subordinate ids of {_AUTO_OWNER!r}",
                f"no line for it in /etc/sub{kind}",
                hint=f"add a line such as {_AUTO_OWNER}:2147483647:2147483648 to /etc/subuid and "
                "/etc/subgid",
            )
    uids, gids = (tuple(IdMap(inside=0, outside=f, count=n) for f, n in kind) for kind in ranges)
    return uids, gids


def _taken(machinery: Machinery) -> Sequence[tuple[Maps, Maps]]:
    found: list[tuple[Maps, Maps]] = []
    for container_id in machinery.store.ids():
        try:
            config = machinery.store.peek(container_id).config
        except LongshoreError:
            continue  # it is damaged, or has just gone
        if config.mapped_uids or config.mapped_gids:
            found.append((parse(config.mapped_uids), parse(config.mapped_gids)))
    return found


def _first_free(free: Sequence[IdMap], used: Sequence[IdMap], size: int) -> int | None:
    for one in free:
        first = one.outside
        for other in sorted(used, key=lambda m: m.outside):
            if other.outside < first + size and first < other.outside + other.count:
                first = other.outside + other.count
        if first + size <= one.outside + one.count:
            return first
    return None


def _size_of(rootfs: str) -> int:
    """Return how many ids a root needs: all that its passwd and group files name."""
    from longshore.oci.users import parse_table, read_inside

    most = 0
    for path, columns in (("/etc/passwd", 7), ("/etc/group", 4)):
        try:
            rows = parse_table(read_inside(rootfs, path), columns)
        except (LongshoreError, OSError):
            continue
        numbers = (row[2] for row in rows)
        most = max([most, *(int(n) for n in numbers if n.isdigit() and int(n) != _NOBODY)])
    return min(max(most + 1, _AUTO_LEAST), _AUTO_MOST)
