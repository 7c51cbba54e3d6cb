"""What every operation of an engine shares: settings, store, cgroups, the programs to drive."""

from __future__ import annotations

import contextlib
import functools
import os
import sys

from longshore.cgroup.placement import (
    CGROUPFS,
    DEFAULT_PARENT,
    NONE,
    SYSTEMD,
    Cgroupfs,
    Unplaced,
)
from longshore.config import check_cgroup_manager, check_runtime_flag
from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError
from longshore.linux import cgroups, userns
from longshore.runtime import Runtime
from longshore.store import Layout, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from longshore.cgroup import systemd
    from longshore.cgroup.placement import Placement
    from longshore.config import Settings
    from longshore.engine.rootless import Rootless
    from longshore.linux.selinux import SELinux
    from longshore.options import ContainerConfig
    from longshore.store import Paths, Record

_PLACES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin")
_CONMON_PLACES = ("/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman")
RUNTIMES = ("crun", "runc", "runsc", "youki", "kata-runtime")  # in the order of preference
_SYSTEMD_RUNS = "/run/systemd/system"  # sd_booted(3)
# what podman's own list has, whatever a file says of others
_LOGGING = ("crun", "runc", "runsc", "kata", "youki")


def find_program(name: str, places: tuple[str, ...] = ()) -> str | None:
    """Return the first executable of this name in ``places`` and then in PATH and its like."""
    if "/" in name:
        return name if os.access(name, os.X_OK) and not os.path.isdir(name) else None
    path = os.environ.get("PATH", "").split(":")
    for directory in (*places, *path, *_PLACES):
        candidate = f"{directory}/{name}"
        if directory and os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return None


def _what_is_there(program: str) -> str:
    """Say what was found instead of a program."""
    if "/" not in program or not os.path.exists(program):
        return "no such program"
    return "a directory" if os.path.isdir(program) else "a file that cannot be executed"


class Machinery:
    """The host as one engine sees it. Everything is looked up when it is first needed, so that a
    missing runtime or conmon does not keep `ps`, `inspect` and forced removal from working."""

    def __init__(
        self,
        settings: Settings,
        *,
        runtime: str | None = None,
        cgroup_manager: str | None = None,
        conmon: str | None = None,
        runtime_flags: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self.layout = Layout(settings.root, settings.run_root)
        self.store = Store(
            self.layout, busy_timeout=settings.busy_timeout, remove_owned=self._remove_owned
        )
        self._runtime_asked = runtime or ""
        self._conmon_asked = conmon or ""
        self._flags_asked = tuple(check_runtime_flag(flag) for flag in runtime_flags)
        if cgroup_manager is not None:
            check_cgroup_manager(cgroup_manager)
        self._manager_asked = cgroup_manager or ""
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        # What NOTIFY_SOCKET is for when a container does not say it. A library's caller may be a
        # service itself, whose socket that is.
        self.sdnotify = "ignore"

    @functools.cached_property
    def cgroup_layout(self) -> cgroups.Layout:
        """The cgroup hierarchies of this mount namespace."""
        return cgroups.detect()

    @functools.cached_property
    def user(self) -> int | None:
        """The uid of the ordinary user that this engine works for; None for root."""
        return userns.owner()

    @functools.cached_property
    def rootless(self) -> Rootless | None:
        """The user's namespace, if this process is outside of it: what needs it is run there."""
        if os.geteuid() == 0:
            return None
        from longshore.engine.rootless import Rootless

        return Rootless(self)

    def entering(self) -> tuple[str, ...]:
        """Return the words before the command line of a program that has to be root, as which it
        may be the user's own."""
        return () if self.rootless is None else self.rootless.entering()

    @functools.cached_property
    def conmon_env(self) -> dict[str, str]:
        """What conmon's environment has besides what every program gets (S7)."""
        pairs = (entry.partition("=") for entry in self.settings.conmon_env)
        env = {name: value for name, _, value in pairs}
        if self.rootless is not None:
            env |= self.rootless.markers
            if not os.environ.get("XDG_RUNTIME_DIR"):  # where runtimes look for a place of theirs
                env["XDG_RUNTIME_DIR"] = self.settings.run_root
        return env

    def _remove_owned(self, path: str) -> None:
        from longshore.engine.roots import remove_owned

        remove_owned(self, path)

    @functools.cached_property
    def selinux(self) -> SELinux | None:
        """The SELinux of this host; None where it is not active, which is one stat(2)."""
        if not os.path.exists("/sys/fs/selinux/enforce"):
            return None
        from longshore.linux.selinux import SELinux

        found = SELinux()
        return found if found.active() else None

    def spawning(self) -> AbstractContextManager[None]:
        """Return the context in which this thread spawns a conmon: as itself, but at level s0."""
        label = self.selinux.without_categories() if self.selinux is not None else ""
        if self.selinux is None or not label:
            return contextlib.nullcontext()
        return self.selinux.executing_as(label)

    @functools.cached_property
    def cgroup_manager(self) -> str:
        """Who makes the cgroups of new containers: asked for, or of containers.conf, or found.

        systemd is what a host with cgroup v2 has for it, if it runs and can be talked to. A user
        who has no systemd, and was given no part of the tree, can have none made.
        """
        written = self._manager_asked or self.settings.cgroup_manager
        if written:
            return written
        other = CGROUPFS if self.cgroup_parent else NONE
        if self.cgroup_layout.mode != "v2" or not os.path.isdir(_SYSTEMD_RUNS):
            return other
        try:
            self.systemd.root()
        except (LongshoreError, OSError):
            return other
        return SYSTEMD

    @functools.cached_property
    def controllers(self) -> frozenset[str]:
        """The cgroup controllers that containers can have; of a user's, those it was given."""
        layout = self.cgroup_layout
        if self.user is None:
            return layout.controllers()
        top = ""
        if self.cgroup_manager == SYSTEMD:
            top = self.systemd.root()
        elif self.cgroup_manager == CGROUPFS:
            top = os.path.dirname(self.cgroup_parent)
        return cgroups.Cgroup(layout, top).controllers()

    @functools.cached_property
    def cgroup_parent(self) -> str:
        """The cgroup below which cgroupfs puts containers; "" where this user may make none."""
        if self.user is None:
            return DEFAULT_PARENT
        home = cgroups.delegated(self.cgroup_layout)
        return "" if home is None else f"{home.rstrip('/')}{DEFAULT_PARENT}"

    @functools.cached_property
    def systemd(self) -> systemd.Host:
        """The systemd of this user."""
        from longshore.cgroup import systemd

        return systemd.Host(
            user=self.user is not None,
            timeout=self.settings.create_timeout,
            cache=self._systemd_used,
            label=self.settings.root,
        )

    @property
    def _systemd_used(self) -> str:
        """A file that is there once systemd has been asked for anything, in this boot."""
        return f"{self.layout.cache}/systemd.json"

    def sweep_cgroups(self) -> None:
        """Take away what containers that are not there any more have left with systemd."""
        if self.cgroup_manager == SYSTEMD or os.path.exists(self._systemd_used):
            from longshore.cgroup.systemd import sweep

            sweep(self.systemd, self.store.ids)

    @functools.cached_property
    def conmon(self) -> str:
        """The path of conmon: asked for, or of containers.conf, or found."""
        if self._conmon_asked:
            found = find_program(self._conmon_asked)
            wanted = self._conmon_asked
        else:
            wanted = "conmon"
            found = next((p for p in self.settings.conmon_paths if os.access(p, os.X_OK)), None)
            found = found or find_program("conmon", _CONMON_PLACES)
        if found is None:
            raise HostUnsupported(
                "every container runs under conmon",
                f"no program {wanted!r}"
                if "/" not in wanted
                else f"{wanted}: {_what_is_there(wanted)}",
                hint="install the conmon package, or name it with --conmon",
            )
        return os.path.abspath(found)

    def runtime(self, asked: str = "", manager: str = CGROUPFS) -> Runtime:
        """Return the driver of a runtime, by name or path; "" is the engine's default.

        ``manager`` is that of the cgroups of the containers that it is to be called for.
        """
        asked = asked or self._runtime_asked or self.settings.runtime
        known = self._runtimes.get((asked, manager))
        if known is None:
            name, path = self._find_runtime(asked)
            known = self._driver(name, path, manager, self._runtime_flags(name, path))
            self._runtimes[asked, manager] = known
        return known

    def runtime_of(self, record: Record) -> Runtime | None:
        """Return the driver of the runtime that a run was started with; None without a run."""
        run = record.run
        if run is None:
            return None
        return self._driver(run.runtime, run.runtime_path, run.manager, run.runtime_flags)

    @property
    def has_runtime_flags(self) -> bool:
        """Whether somebody wants runtimes to be given global flags."""
        return bool(self._flags_asked or self.settings.runtimes_flags)

    def _runtime_flags(self, name: str, path: str) -> tuple[str, ...]:
        """Return the global flags of a runtime: those asked for, or else containers.conf's.

        InvalidArgument for one that its ``--help`` does not know.
        """
        wanted = self._flags_asked or tuple(self.settings.runtimes_flags.get(name, ()))
        for flag in wanted:
            from longshore.runtime.features import takes_flag

            word = flag.partition("=")[0]
            if not takes_flag(path, "", f"--{word}", cache_dir=self.layout.cache):
                raise InvalidArgument(
                    f"{name} has no flag --{word}", hint=f"`{path} --help` shows what it has"
                )
        return tuple(f"--{flag}" for flag in wanted)

    def _driver(self, name: str, path: str, manager: str, flags: Sequence[str]) -> Runtime:
        return Runtime(
            name,
            path,
            state_dir=f"{self.layout.runtimes}/{name}",
            cache_dir=f"{self.layout.cache}/filters",
            flags=flags,
            systemd=manager == SYSTEMD,
            entering=self.entering,
            timeout=self.settings.create_timeout,
            json_log=self.logs_json(name),
        )

    def logs_json(self, name: str) -> bool:
        """Whether a runtime has --log and --log-format=json, as containers.conf says."""
        known = self.settings.runtimes_json
        return known is None or name in known or name in _LOGGING

    def _find_runtime(self, asked: str) -> tuple[str, str]:
        if asked:
            places = tuple(self.settings.runtimes.get(asked, ()))
            configured = next((p for p in places if os.access(p, os.X_OK)), None)
            found = configured or find_program(asked)
            if found is None:
                raise HostUnsupported(
                    f"the OCI runtime {asked!r} was asked for",
                    _what_is_there(asked),
                    hint="install it, or name another with --runtime (crun, runc, or a path)",
                )
            return os.path.basename(asked), os.path.abspath(found)
        order: tuple[str, ...] = RUNTIMES
        if self.cgroup_layout.mode == "hybrid":
            # crun of every version refuses a mix of cgroup v1 and v2 ("cgroups in hybrid mode not
            # supported"), so it is the last choice there.
            order = (*(r for r in RUNTIMES if r != "crun"), "crun")
        for name in order:
            places = tuple(self.settings.runtimes.get(name, ()))
            configured = next((p for p in places if os.access(p, os.X_OK)), None)
            found = configured or find_program(name)
            if found is not None:
                return name, os.path.abspath(found)
        raise HostUnsupported(
            "containers need an OCI runtime", "none on this host", hint="install crun or runc"
        )

    def paths(self, container_id: str) -> Paths:
        """Return the paths of one container."""
        return self.layout.paths(container_id)

    def placement(self, config: ContainerConfig, container_id: str) -> Placement:
        """Return where a container will live in the cgroup tree when it is started.

        InvalidArgument for a parent that its manager cannot have, HostUnsupported when systemd is
        its manager and cannot be talked to.
        """
        manager = config.cgroup_manager or self.cgroup_manager
        if manager == NONE and not config.cgroup_parent:
            return Unplaced()
        if manager != SYSTEMD:
            parent = config.cgroup_parent or self.cgroup_parent
            if not parent:
                raise HostUnsupported(
                    f"the cgroup manager {manager} was asked for",
                    f"uid {self.user} was given no part of the cgroup tree",
                    hint="leave --cgroup-manager out, or log in through systemd",
                )
            return Cgroupfs(self.cgroup_layout, parent, container_id)
        from longshore.cgroup import systemd

        return systemd.place(self.cgroup_layout, self.systemd, config.cgroup_parent, container_id)

    def placement_of(self, record: Record) -> Placement:
        """Return where the run of a container lives, whichever manager it was started with."""
        run = record.run
        if run is None:
            return self.placement(record.config, record.id)
        if run.manager == NONE:
            return Unplaced()
        if run.manager == CGROUPFS:
            parent = os.path.dirname(run.cgroup)
            return Cgroupfs(self.cgroup_layout, parent, record.id)
        from longshore.cgroup.systemd import Systemd

        return Systemd(self.cgroup_layout, self.systemd, run.cgroup, record.id)

    @property
    def python(self) -> str:
        """The interpreter for processes of our own."""
        return sys.executable or find_program("python3") or "/usr/bin/python3"

    def import_path(self, manager: str) -> str:
        """Return where processes of our own find what they import, a directory a line.

        They run isolated and without site, a third of the interpreter's start-up.
        """
        found = [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
        if manager == SYSTEMD:
            found += [path for path in sys.path if os.path.isdir(f"{path}/jeepney")][:1]
        return "\n".join(dict.fromkeys(found))

    def exit_command(self, container_id: str, manager: str = CGROUPFS) -> tuple[str, ...]:
        """Return what conmon runs when the container has ended; see `engine.exitcmd`."""
        from longshore.engine import exitcmd

        return exitcmd.command(
            python=self.python,
            import_path=self.import_path(manager),
            root=self.settings.root,
            run_root=self.settings.run_root,
            run_dir=self.paths(container_id).run,
            container_id=container_id,
        )
