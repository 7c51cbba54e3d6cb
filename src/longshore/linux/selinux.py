"""SELinux as the kernel shows it, without libselinux: labels of processes, files and pipes.

Facts: selinux(8), proc_pid_attr(5), the kernel's security/selinux/hooks.c. A label is
``USER:ROLE:TYPE[:LEVEL]``. This module is imported only where SELinux is active.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.linux.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Self

XATTR = "security.selinux"
# Where container-selinux puts what containers are to have: for all policies, or for the one in use
_SHARED_CONTEXTS = "/usr/share/containers/selinux/contexts"
MAX_DEPTH = 200  # directories in one another that are relabelled; each takes two descriptors
# Those that podman refuses to relabel (4.3: github.com/opencontainers/selinux, label.Relabel), and
# what their links lead to where /usr is merged.
_SYSTEM = frozenset(
    {
        "/",
        *(f"/{name}" for name in ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media")),
        *(f"/{name}" for name in ("opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp")),
        *("/etc/passwd", "/etc/pki", "/etc/shadow", "/usr", "/var", "/var/lib", "/var/log"),
        *("/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin"),
    }
)


class Label(Value):
    """One label, in its parts; ``level`` is "" under a policy that has none."""

    user: str
    role: str
    type: str
    level: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``USER:ROLE:TYPE[:LEVEL]``; a level has colons of its own. InvalidArgument."""
        parts = text.split(":", 3)
        if len(parts) < 3 or not all(parts):
            raise InvalidArgument(
                f"{text!r} is not an SELinux label", hint="USER:ROLE:TYPE, or USER:ROLE:TYPE:LEVEL"
            )
        return cls(user=parts[0], role=parts[1], type=parts[2], level="".join(parts[3:]))

    def __str__(self) -> str:
        parts = (self.user, self.role, self.type, self.level)
        return ":".join(part for part in parts if part)


class SELinux:
    """The SELinux of one host. ``proc``, ``fs`` and ``etc`` are where its files are."""

    def __init__(
        self,
        *,
        proc: str = "/proc",
        fs: str = "/sys/fs/selinux",
        etc: str = "/etc/selinux",
        contexts: str = _SHARED_CONTEXTS,
    ) -> None:
        self._proc = proc
        self._fs = fs
        self._etc = etc
        self._contexts = contexts

    def active(self) -> bool:
        """Whether a policy is loaded, and this process may see it.

        Read-only selinuxfs is how a container is told that SELinux is not its own (libselinux's
        is_selinux_enabled(3) takes it so), and everything is "kernel" until a policy is loaded.
        """
        try:
            if os.statvfs(self._fs).f_flag & os.ST_RDONLY:
                return False
            return os.path.exists(f"{self._fs}/enforce") and self.current() not in ("", "kernel")
        except OSError:
            return False

    def current(self) -> str:
        """Return the label of the calling thread."""
        return self._attribute("thread-self", "current")

    def of_process(self, pid: int) -> str:
        """Return the label of a process; "" when it is gone."""
        try:
            return self._attribute(str(pid), "current")
        except (FileNotFoundError, ProcessLookupError):
            return ""

    def _attribute(self, who: str, name: str) -> str:
        fd = os.open(f"{self._proc}/{who}/attr/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            label = os.read(fd, 4096)  # the kernel has a page for it
        finally:
            os.close(fd)
        return label.rstrip(b"\0\n").decode("ascii", "replace")

    def without_categories(self) -> str:
        """Return the calling thread's own label at level s0; "" where it is there already.

        conmon runs with it (S11): a container may use a pipe only whose level its own dominates.
        """
        label = Label.parse(self.current())
        return "" if label.level in ("", "s0") else str(label.replace(level="s0"))

    @contextlib.contextmanager
    def executing_as(self, label: str) -> Generator[None]:
        """Let what the calling thread executes, itself or in a new process, have this label.

        The kernel keeps it for each thread (``thread-self``), so others are not touched, and a new
        process inherits it from the thread that made it. Afterwards it is what it was. OSError
        when the policy knows no such label, or refuses it.
        """
        path = f"{self._proc}/thread-self/attr/exec"
        before = self._attribute("thread-self", "exec")
        self._write(path, label)
        try:
            yield
        finally:
            self._write(path, before)

    def check(self, label: str) -> None:
        """InvalidArgument when the policy knows no such label."""
        try:
            self._write(f"{self._fs}/context", label)
        except OSError as err:
            if err.errno != errno.EINVAL:
                return  # we may not ask: whoever uses it will hear
            raise InvalidArgument(
                f"the SELinux policy of this host has no label {label}",
                hint="`seinfo --type` lists its types; or leave label= out",
            ) from None

    def _write(self, path: str, label: str) -> None:
        # O_TRUNC is nothing to the kernel's files; a write of nothing clears the attribute
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(fd, label.encode())
        except OSError as err:
            raise OSError(err.errno, f"{err.strerror} (label {label or 'none'})", path) from None
        finally:
            os.close(fd)

    def container_contexts(self) -> Mapping[str, str]:
        """Return what the policy has for containers: process, file, init_process, kvm_process …

        From container-selinux's ``contexts``, or ``lxc_contexts`` of the policy in use
        (selabel_media(5) calls such files contexts files; the keys are container-selinux's).
        """
        data = read_file(self._contexts)
        if data is None:
            data = read_file(f"{self._etc}/{self._policy()}/contexts/lxc_contexts")
        found: dict[str, str] = {}
        for line in (data or b"").decode("ascii", "replace").splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.lstrip().startswith(("#", ";")):
                found[name.strip()] = value.strip().strip('"')
        return found

    def _policy(self) -> str:
        """Return the name of the policy in use: SELINUXTYPE of selinux_config(5)."""
        for line in (
            (read_file(f"{self._etc}/config") or b"").decode("utf-8", "replace").split("\n")
        ):
            name, _, value = line.partition("=")
            if name.strip() == "SELINUXTYPE" and value.strip():
                return value.strip()
        return "targeted"

    def label_pipe(self, fd: int, label: str) -> None:
        """Give a new pipe of ours a label, both ends; where that is refused it keeps its own.

        The kernel takes the label of whoever made it, and lets that be changed as a file's.
        """
        if not label:
            return
        with contextlib.suppress(OSError):
            os.setxattr(fd, XATTR, label.encode() + b"\0")


def label_of(path: str) -> str:
    """Return the label of a file; "" where its file system has none."""
    try:
        return os.getxattr(path, XATTR).rstrip(b"\0").decode("ascii", "replace")
    except OSError as err:
        if err.errno in (errno.ENODATA, errno.ENOTSUP):
            return ""
        raise


def check_relabelling(path: str, ours: tuple[str, ...] = ()) -> None:
    """Refuse to relabel what the host needs as it is. InvalidArgument says which and why.

    ``ours`` are directories of the caller's own that must not be in it either.
    """
    given = os.path.normpath(path)
    real = os.path.realpath(path)
    if {given, real} & (_SYSTEM | _homes()):
        raise InvalidArgument(
            f"SELinux relabelling of {given} is not allowed: the host itself uses it",
            hint="mount a directory below it, or leave out z and Z and use "
            "--security-opt label=disable",
        )
    for own in ours:
        if os.path.commonpath((real, os.path.realpath(own))) == real:
            raise InvalidArgument(
                f"SELinux relabelling of {given} is not allowed: Longshore keeps {own} in it",
                hint="leave out z and Z",
            )


def _homes() -> frozenset[str]:
    """Return the caller's home, and that of who called sudo."""
    homes = {os.environ.get("HOME", "")}
    if user := os.environ.get("SUDO_USER"):
        import pwd

        with contextlib.suppress(KeyError):
            homes.add(pwd.getpwnam(user).pw_dir)
    return frozenset(os.path.realpath(home) for home in homes if home)


def relabel(path: str, label: str) -> None:
    """Give a file, or a directory and all that is in it, a label. The directory itself is last.

    Each entry is pinned before it is labelled and no link is followed, so whoever changes the tree
    meanwhile cannot lead out of it. What goes meanwhile is fine, and so are file systems without
    labels. OSError names what could not be done.
    """
    top = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _relabel(top, label.encode() + b"\0", [path])
    finally:
        os.close(top)


def _relabel(fd: int, label: bytes, trail: list[str]) -> None:
    if len(trail) > MAX_DEPTH:
        raise OSError(errno.ELOOP, f"more than {MAX_DEPTH} directories in one another", trail[0])
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        directory = os.open(f"/proc/self/fd/{fd}", flags)
        try:
            for name in os.listdir(directory):
                _relabel_entry(directory, name, label, trail)
        finally:
            os.close(directory)
    try:
        _set_label(fd, label)
    except FileNotFoundError:
        pass
    except OSError as err:
        if err.errno != errno.ENOTSUP:
            raise OSError(err.errno, err.strerror, "/".join(trail)) from None


def _relabel_entry(directory: int, name: str, label: bytes, trail: list[str]) -> None:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        _relabel(fd, label, [*trail, name])
    finally:
        os.close(fd)


def _set_label(fd: int, label: bytes) -> None:
    # fsetxattr(2) refuses O_PATH; the link in /proc leads to what is pinned, a link itself too
    os.setxattr(f"/proc/self/fd/{fd}", XATTR, label)
