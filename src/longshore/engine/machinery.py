"""What every operation of an engine shares: settings, store, cgroups, the programs to drive."""

from __future__ import annotations

import contextlib
import functools
import os
import sys

from longshore import _log
from longshore.cgroup.placement import DEFAULT_PARENT, Placement
from longshore.config import check_cgroup_manager
from longshore.errors import HostUnsupported
from longshore.linux import cgroups
from longshore.runtime import Runtime
from longshore.store import Layout, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from longshore.config import Settings
    from longshore.linux.selinux import SELinux
    from longshore.options import ContainerConfig
    from longshore.store import Paths, Record

_PLACES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin")
_CONMON_PLACES = ("/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman")
_RUNTIMES = ("crun", "runc", "runsc", "youki", "kata-runtime")  # in the order of preference

_warned: set[str] = set()  # what this process has been told once


def find_program(name: str, places: tuple[str, ...] = ()) -> str | None:
    """Return the first executable of this name in ``places`` and then in PATH and its like."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    path = os.environ.get("PATH", "").split(":")
    for directory in (*places, *path, *_PLACES):
        candidate = f"{directory}/{name}"
        if directory and os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return None


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
    ) -> None:
        self.settings = settings
        self.layout = Layout(settings.root, settings.run_root)
        self.store = Store(self.layout, busy_timeout=settings.busy_timeout)
        self._runtime_asked = runtime or ""
        self._conmon_asked = conmon or ""
        if cgroup_manager is not None:
            check_cgroup_manager(cgroup_manager)
            if cgroup_manager == "systemd":
                raise HostUnsupported(
                    "the systemd cgroup manager was asked for",
                    "this version of Longshore, which has cgroupfs only",
                    hint="leave --cgroup-manager out, or use cgroupfs",
                )
        self.cgroup_manager = "cgroupfs"
        self._manager_asked = cgroup_manager is not None
        self._runtimes: dict[str, Runtime] = {}

    @functools.cached_property
    def cgroup_layout(self) -> cgroups.Layout:
        """The cgroup hierarchies of this mount namespace."""
        return cgroups.detect()

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
                f"no program {wanted!r}",
                hint="install the conmon package, or name it with --conmon",
            )
        return os.path.abspath(found)

    def runtime(self, asked: str = "") -> Runtime:
        """Return the driver of a runtime, by name or path; "" is the engine's default."""
        asked = asked or self._runtime_asked or self.settings.runtime
        known = self._runtimes.get(asked)
        if known is None:
            name, path = self._find_runtime(asked)
            known = self._driver(name, path)
            self._runtimes[asked] = known
        return known

    def runtime_of(self, record: Record) -> Runtime | None:
        """Return the driver of the runtime that a run was started with; None without a run."""
        run = record.run
        return None if run is None else self._driver(run.runtime, run.runtime_path)

    def _driver(self, name: str, path: str) -> Runtime:
        return Runtime(
            name,
            path,
            state_dir=f"{self.layout.runtimes}/{name}",
            cache_dir=f"{self.layout.cache}/filters",
            flags=self.settings.runtime_flags,
            timeout=self.settings.create_timeout,
        )

    def _find_runtime(self, asked: str) -> tuple[str, str]:
        if asked:
            places = tuple(self.settings.runtimes.get(asked, ()))
            configured = next((p for p in places if os.access(p, os.X_OK)), None)
            found = configured or find_program(asked)
            if found is None:
                raise HostUnsupported(
                    f"the OCI runtime {asked!r} was asked for",
                    "no such program",
                    hint="install it, or name another with --runtime (crun, runc, or a path)",
                )
            return os.path.basename(asked), os.path.abspath(found)
        order: tuple[str, ...] = _RUNTIMES
        if self.cgroup_layout.mode == "hybrid":
            # crun of every version refuses a mix of cgroup v1 and v2 ("cgroups in hybrid mode not
            # supported"), so it is the last choice there.
            order = (*(r for r in _RUNTIMES if r != "crun"), "crun")
        for name in order:
            places = tuple(self.settings.runtimes.get(name, ()))
            configured = next((p for p in places if os.access(p, os.X_OK)), None)
            found = configured or find_program(name)
            if found is not None:
                return name, os.path.abspath(found)
        raise HostUnsupported(
            "containers need an OCI runtime", "none on this host", hint="install crun or runc"
        )

    def warn_of_settings(self) -> None:
        """Say, once in a process, which setting of containers.conf a start does not follow."""
        # It has no default: a value was written by somebody.
        ignored = self.settings.cgroup_manager == "systemd" and not self._manager_asked
        if ignored and "cgroup_manager" not in _warned:
            _warned.add("cgroup_manager")
            _log.warn(
                'containers.conf says cgroup_manager = "systemd", which this version of Longshore '
                "does not have: containers get their cgroups from cgroupfs"
            )

    def paths(self, container_id: str) -> Paths:
        """Return the paths of one container."""
        return self.layout.paths(container_id)

    def placement(self, config: ContainerConfig, container_id: str) -> Placement:
        """Return where a container lives in the cgroup tree."""
        return Placement(self.cgroup_layout, config.cgroup_parent or DEFAULT_PARENT, container_id)

    @property
    def python(self) -> str:
        """The interpreter for processes of our own."""
        return sys.executable or find_program("python3") or "/usr/bin/python3"

    def exit_command(self, container_id: str) -> tuple[str, ...]:
        """Return what conmon runs when the container has ended; see `engine.exitcmd`."""
        from longshore.engine import exitcmd

        return exitcmd.command(
            python=self.python,
            root=self.settings.root,
            run_root=self.settings.run_root,
            run_dir=self.paths(container_id).run,
            container_id=container_id,
        )
