"""AppArmor: which profile a container's processes are to have, and the loading of our own.

Facts: apparmor(7), apparmor.d(5), apparmor_parser(8); what podman does is in containers-common's
pkg/apparmor (``CheckProfileAndLoadDefault``). Imported only where AppArmor is active.
"""

from __future__ import annotations

import os

from longshore import _log
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.linux import userns
from longshore.linux.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# containers.conf(5): a name with this beginning is that of a default profile, to be loaded if it
# is not there
PREFIX = "containers-default-"
DEFAULT = PREFIX + "longshore"
_PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser")
_LOAD_TIMEOUT = 60.0  # seconds
# Nothing is included, so that it loads where /etc/apparmor.d is empty. What it denies is what
# docker-default and podman's own profile deny; a name of a few characters is excluded class by
# class, because the language has no "all but".
_RULES = """\
profile {name} flags=(attach_disconnected, mediate_deleted) {{
  network,
  capability,
  file,
  umount,

  # who may end it: the engine, its monitor and its runtime, and its own kind
  signal (receive) peer={{unconfined,conmon,crun,runc,runsc,podman}},
  signal (receive) peer=/{{,usr/,usr/local/}}{{bin,sbin}}/{{conmon,crun,runc,runsc,podman}},
  signal (send, receive) peer={name},
  ptrace (trace, read, tracedby, readby) peer={name},

  # of /proc: its own processes, and of /proc/sys what belongs to namespaces
  deny /proc/* w,
  deny /proc/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  deny mount,

  # of /sys: its cgroups
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


class AppArmor:
    """The AppArmor of one host. ``security`` is its directory of securityfs(5)."""

    def __init__(
        self,
        *,
        security: str = "/sys/kernel/security/apparmor",
        parsers: Sequence[str] = _PARSERS,
    ) -> None:
        self._security = security
        self._parsers = parsers

    def profile(self, asked: str, *, privileged: bool, default: str = "") -> str:
        """Return the profile to run under, loaded; "" is unconfined.

        ``asked`` is a name, "unconfined", or "" for ``default`` (containers.conf's) or our own. As
        with podman a privileged container has none that was not asked for, an ordinary user's has
        none, and where there is no apparmor_parser to load the default with, there is none.
        InvalidArgument for one that is not loaded, HostUnsupported where the default cannot be.
        """
        if asked == "unconfined" or (privileged and not asked):
            return ""
        if userns.owner() is not None:
            if not asked:
                return ""
            raise HostUnsupported(
                f"apparmor={asked}",
                "an ordinary user, and only root may change profiles",
                hint="leave it out",
            )
        name = asked or default or DEFAULT
        if name == "unconfined":
            return ""
        loaded = self.loaded()
        if name in loaded:
            return name
        if not name.startswith(PREFIX):
            raise InvalidArgument(
                f"apparmor: the profile {name} is not loaded",
                hint="load it with `apparmor_parser --replace FILE`; `aa-status` lists those "
                "that are",
            )
        parser = next((path for path in self._parsers if os.access(path, os.X_OK)), "")
        if not parser:
            if asked:
                raise HostUnsupported(
                    f"apparmor={asked}",
                    "no apparmor_parser to load it with",
                    hint="install apparmor",
                )
            _log.debug("no apparmor_parser: containers have no AppArmor profile")
            return ""
        self._load(parser, name)
        return name

    def loaded(self) -> frozenset[str]:
        """Return the names of the profiles that are loaded."""
        data = read_file(f"{self._security}/profiles") or b""
        lines = data.decode("utf-8", "replace").split("\n")
        return frozenset(line.rpartition(" (")[0] for line in lines if line)

    def _load(self, parser: str, name: str) -> None:
        from longshore.linux.procs import memory_file, run

        fd = memory_file("profile", _RULES.format(name=name).encode())
        try:
            done = run(
                [parser, "--skip-cache", "--replace", f"/proc/self/fd/{fd}"],
                pass_fds=(fd,),
                timeout=_LOAD_TIMEOUT,
            )
        finally:
            os.close(fd)
        if done.returncode:
            raise HostUnsupported(
                "AppArmor is active, and containers have a profile",
                f"apparmor_parser could not load {name}: {done.words}",
                hint="--security-opt apparmor=unconfined runs without one",
            )
