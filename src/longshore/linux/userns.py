"""User namespaces: whose ids are mapped here, which ids a user may map, and what maps them.

Facts: user_namespaces(7), subuid(5), newuidmap(1), nsenter(1), unshare(1).
"""

from __future__ import annotations

import os

from longshore._value import Value
from longshore.errors import HostUnsupported
from longshore.linux.processes import identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

# The markers by which the programs of this family (podman, buildah, skopeo, crun's hooks …) know
# that they are already in the user namespace of an ordinary user, and whose it is.
CONFIGURED = "_CONTAINERS_USERNS_CONFIGURED"
OWNER_UID = "_CONTAINERS_ROOTLESS_UID"
OWNER_GID = "_CONTAINERS_ROOTLESS_GID"
_ALL = 1 << 32
# In the background of a shell, so that what stays is nobody's child. It says its pid when the
# namespaces are made, waits for a word on its stdin, and ends without one; then it sleeps. No
# capability survives its execve, because its uid is not mapped yet: it needs none.
_KEEPER = "echo $$; read -r word && exec sleep infinity </dev/null >/dev/null 2>&1"
# (A background process of dash has /dev/null for stdin before anything else is redirected.)
_APART = (
    "unshare=$1 keeper=$2; shift 2; exec 3<&0; "
    '"$unshare" --user "$@" /bin/sh -c "$keeper" <&3 3<&- &'
)


class IdMap(Value):
    """A range of ids: ``count`` from ``inside`` on are those from ``outside`` on."""

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        return f"{self.inside}:{self.outside}:{self.count}"


def owner() -> int | None:
    """Return the uid of the ordinary user that this process works for; None for the real root.

    That is its own uid or, as root of a user namespace, whose namespace the markers say it is.
    """
    uid = os.geteuid()
    if uid != 0:
        return uid
    marked = os.environ.get(OWNER_UID, "")
    if marked.isdecimal() and os.environ.get(CONFIGURED) and not is_initial():
        return int(marked)
    return None


def is_initial() -> bool:
    """Whether this process is in the user namespace of the host: every id is mapped to itself."""
    return current("uid") in ((), (IdMap(inside=0, outside=0, count=_ALL - 1),))


def current(kind: str, pid: str = "self") -> tuple[IdMap, ...]:
    """Return what is mapped in the namespace of a process, "uid" or "gid"; () where it is gone.

    Outside is what this process sees (user_namespaces(7)).
    """
    try:
        with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    return tuple(IdMap(inside=int(i), outside=int(o), count=int(n)) for i, o, n in lines)


def maps_of(namespace: str) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
    """Return what a namespace maps, by the path of its file; HostUnsupported if it is none."""
    from longshore.linux.procs import run

    entering = [program("nsenter"), "--preserve-credentials", f"--user={namespace}"]
    found: list[tuple[IdMap, ...]] = []
    for kind in ("uid", "gid"):
        done = run([*entering, "cat", f"/proc/self/{kind}_map"], timeout=30)
        lines = [line.split() for line in done.stdout.decode("ascii", "replace").splitlines()]
        if done.returncode != 0 or not lines:
            raise HostUnsupported(
                f"the user namespace {namespace} was asked for", done.words or "it maps nothing"
            )
        found.append(tuple(IdMap(inside=int(i), outside=int(o), count=int(n)) for i, o, n in lines))
    return found[0], found[1]


def parse(texts: Sequence[str]) -> tuple[IdMap, ...]:
    """Return the ranges of a configuration."""
    ranges = (map(int, text.split(":")) for text in texts)
    return tuple(IdMap(inside=i, outside=o, count=n) for i, o, n in ranges)


def outside(maps: Sequence[IdMap], inside: int) -> int | None:
    """Return what an id of the container is outside; itself without maps, None if not mapped."""
    for one in maps:
        if one.inside <= inside < one.inside + one.count:
            return one.outside + inside - one.inside
    return None if maps else inside


def inside(maps: Sequence[IdMap], outside: int) -> int | None:
    """Return what an id outside is in the container; itself without maps, None if not mapped."""
    for one in maps:
        if one.outside <= outside < one.outside + one.count:
            return one.inside + outside - one.outside
    return None if maps else outside


def markers(uid: int, gid: int) -> dict[str, str]:
    """Return the markers of a process in the namespace of a user."""
    return {CONFIGURED: "done", OWNER_UID: str(uid), OWNER_GID: str(gid)}


def subordinate(file: str, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the (first, count) ranges of a user in /etc/subuid or /etc/subgid.

    ``names`` are what a line may call it: its name, or its uid. A file that is not there, or a line
    that makes no sense, gives nothing, as newuidmap sees it.
    """
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            words = [line.strip().split(":") for line in lines]
    except OSError:
        return ()
    return tuple(
        (int(first), int(count))
        for name, first, count in (w for w in words if len(w) == 3)
        if name in names and first.isdecimal() and count.isdecimal() and int(count) > 0
    )


def mappings(own: int, ranges: Sequence[tuple[int, int]]) -> tuple[IdMap, ...]:
    """Return what a user's namespace maps: itself to 0, its subordinate ids to 1 and on."""
    found = [IdMap(inside=0, outside=own, count=1)]
    after = 1
    for first, count in ranges:
        found.append(IdMap(inside=after, outside=first, count=count))
        after += count
    return tuple(found)


def mappers() -> tuple[str, str] | None:
    """Return newuidmap(1) and newgidmap(1), if both are there."""
    import shutil

    found = [shutil.which(name) for name in ("newuidmap", "newgidmap")]
    return (found[0], found[1]) if found[0] and found[1] else None


def program(name: str) -> str:
    """Return the path of a program of util-linux. HostUnsupported without it."""
    import shutil

    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise HostUnsupported(
            "a user namespace is needed",
            f"no {name}",
            hint="install util-linux",
        )
    return found


class Held:
    """A user namespace with these ids, for as long as the context lasts; kept on after `stay`.

    ``keeper`` is a process in it. Whatever happens to us, it ends, unless it was told to stay.
    """

    __slots__ = ("_word", "keeper")

    def __init__(
        self, uids: Sequence[IdMap], gids: Sequence[IdMap], *, mounts: bool = False
    ) -> None:
        """``mounts``: a mount namespace too, in which what the host mounts shows up."""
        from longshore.linux.procs import PIPE, clean_env, memory_file, read_memory_file, spawn

        words = memory_file("unshare-stderr")
        flags = ["--mount", "--propagation", "slave"] if mounts else []
        try:
            process = spawn(
                ["/bin/sh", "-c", _APART, "sh", program("unshare"), _KEEPER, *flags],
                env=clean_env(),
                stdin=PIPE,
                stdout=PIPE,
                stderr=words,
                cwd="/",
                new_session=True,
            )
            assert process.stdin is not None and process.stdout is not None
            self._word = process.stdin
            try:
                with process.stdout:
                    begun = process.stdout.readline().strip()
                process.wait()
                keeper = identify(int(begun)) if begun.isdigit() else None
                if keeper is None:
                    said = read_memory_file(words).decode("utf-8", "replace").strip()
                    raise HostUnsupported(
                        "a user namespace is needed",
                        said or "unshare(1) failed",
                        hint="see user.max_user_namespaces, kernel.unprivileged_userns_clone and "
                        "kernel.apparmor_restrict_unprivileged_userns (sysctl), or run as root",
                    )
                self.keeper = keeper
                _map(keeper.pid, uids, gids)
            except BaseException:
                self._word.close()
                raise
        finally:
            os.close(words)

    def stay(self) -> None:
        """Let it outlive us."""
        self._word.write(b"stay\n")
        self._word.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._word.close()


def _map(pid: int, uids: Sequence[IdMap], gids: Sequence[IdMap]) -> None:
    root = os.geteuid() == 0
    if root or len(uids) == len(gids) == 1 == uids[0].count == gids[0].count:
        # what a user may do without a helper: its own ids, and no setgroups(2)
        _write(pid, "uid_map", uids)
        if not root:
            with open(f"/proc/{pid}/setgroups", "w", encoding="ascii") as file:
                file.write("deny")
        _write(pid, "gid_map", gids)
        return
    from longshore.linux.procs import run

    found = mappers()
    assert found is not None  # else one id is mapped
    for mapper, maps in zip(found, (uids, gids), strict=True):
        numbers = [str(n) for m in maps for n in (m.inside, m.outside, m.count)]
        done = run([mapper, str(pid), *numbers], timeout=30)
        if done.returncode != 0:
            raise HostUnsupported(
                "a user namespace with subordinate ids is needed",
                done.words or f"{mapper} failed",
                hint=f"{mapper} must be setuid root, and /etc/subuid and /etc/subgid must have "
                "what it is asked for",
            )


def _write(pid: int, file: str, maps: Sequence[IdMap]) -> None:
    """Write a whole map, which the kernel takes in one piece only."""
    fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, "".join(f"{one}\n".replace(":", " ") for one in maps).encode())
    finally:
        os.close(fd)
