"""Every path of Longshore, in one place."""

from __future__ import annotations

import os

from longshore.errors import StoreError
from longshore.linux.files import exposed, make_directory


class Layout:
    """The two trees: ``root`` is durable, ``run`` is gone (or stale) after a reboot."""

    __slots__ = (
        "_vetted",
        "cache",
        "containers",
        "events",
        "exits",
        "levels",
        "names",
        "namespace",
        "root",
        "run",
        "runtimes",
        "supervisor",
    )

    def __init__(self, root: str, run: str) -> None:
        self.root = root
        self.run = run
        self.containers = f"{root}/containers"
        self.names = f"{root}/names"
        self.levels = f"{root}/levels"  # of SELinux, where that is active
        self.events = f"{root}/events"
        self.exits = f"{run}/exits"  # conmon's exit files, a directory a container
        self.runtimes = f"{run}/runtimes"  # the runtimes' own state (--root), one each
        self.cache = f"{run}/cache"
        self.namespace = f"{run}/namespace"  # who keeps the namespace of an ordinary user
        self.supervisor = f"{run}/supervisor.lock"  # held by the one that there is
        self._vetted = False

    def prepare(self) -> None:
        """Make what every container needs; existing is fine. StoreError names what cannot be made.

        Nothing is written where somebody else could change what is there: see `vet`.
        """
        private = (
            self.containers, self.names, self.events, f"{self.root}/exits",
            f"{self.run}/containers", self.cache,
        )  # fmt: skip
        self._vetted = False
        self.vet()
        try:
            for path in (self.root, self.run):
                make_directory(path, 0o700)
            self.vet()
            for path in private:
                make_directory(path, 0o700)
            make_directory(self.exits, 0o750)
        except OSError as err:
            raise StoreError(
                f"cannot make the directory {err.filename}: {err.strerror}",
                hint="--root and --runroot name others",
            ) from err

    def vet(self) -> None:
        """Refuse directories that others could change: a record names programs that are run.

        StoreError says whose they are. They are looked at once; `prepare` looks again.
        """
        if self._vetted:
            return
        for path, flag in ((self.root, "--root"), (self.run, "--runroot")):
            why = exposed(path)
            if not why and os.path.lexists(path) and not os.path.isdir(path):
                raise StoreError(f"{path} is not a directory", hint=f"name another ({flag})")
            if why:
                raise StoreError(
                    f"Longshore does not use {path}: {why}",
                    hint=f"remove it, or `chmod go-w` it if it is yours, or name another ({flag})",
                )
        self._vetted = os.path.isdir(self.root) and os.path.isdir(self.run)

    def paths(self, container_id: str) -> Paths:
        """Return the paths of one container."""
        return Paths(self, container_id)

    def exit_record(self, container_id: str) -> str:
        """Return where the last exit is kept after the container is gone."""
        return f"{self.root}/exits/{container_id}.json"

    def name_link(self, name: str) -> str:
        """Return the link that holds a name; its target is the id."""
        return f"{self.names}/{name}"


class Paths:
    """The paths of one container (S23)."""

    __slots__ = ("bundle", "home", "run", "shared_exits")

    def __init__(self, layout: Layout, container_id: str) -> None:
        self.home = f"{layout.containers}/{container_id}"
        self.run = f"{layout.run}/containers/{container_id}"
        self.bundle = f"{self.run}/bundle"
        self.shared_exits = f"{layout.exits}/{container_id}"

    @property
    def record(self) -> str:
        return f"{self.home}/record.json"

    @property
    def lock(self) -> str:
        return f"{self.home}/lock"

    @property
    def log(self) -> str:
        return f"{self.home}/ctr.log"

    @property
    def layer(self) -> str:
        """The copy-on-write layer of an overlay root: upper and work below it."""
        return f"{self.home}/layer"

    @property
    def merged(self) -> str:
        """Where the overlay root is mounted."""
        return f"{self.home}/merged"

    @property
    def config(self) -> str:
        return f"{self.bundle}/config.json"

    @property
    def pidfile(self) -> str:
        return f"{self.run}/pidfile"

    @property
    def conmon_pidfile(self) -> str:
        return f"{self.run}/conmon.pid"

    @property
    def runtime_log(self) -> str:
        return f"{self.run}/oci.log"

    @property
    def exit_dir(self) -> str:
        return self.shared_exits

    @property
    def exit_file(self) -> str:
        return f"{self.shared_exits}/{os.path.basename(self.home)}"

    @property
    def attach_socket(self) -> str:
        return f"{self.bundle}/attach"

    @property
    def ctl_fifo(self) -> str:
        return f"{self.bundle}/ctl"

    @property
    def winsz_fifo(self) -> str:
        return f"{self.bundle}/winsz"

    @property
    def dependents(self) -> str:
        """The ids of containers that use its namespaces: an empty file each, if there ever were."""
        return f"{self.home}/dependents"

    @property
    def oom_file(self) -> str:
        return f"{self.bundle}/oom"

    @property
    def execs(self) -> str:
        """The exec sessions: a directory each, which stays until it is forgotten."""
        return f"{self.home}/execs"

    @property
    def live_execs(self) -> str:
        """What sessions need while they live: a directory each, which goes when they are over."""
        return f"{self.run}/execs"

    def session(self, session_id: str) -> SessionPaths:
        """Return the paths of one exec session."""
        return SessionPaths(self, session_id)


class SessionPaths:
    """The paths of one exec session of a container (S23)."""

    __slots__ = ("exit_file", "home", "run")

    def __init__(self, container: Paths, session_id: str) -> None:
        self.home = f"{container.execs}/{session_id}"
        self.run = f"{container.live_execs}/{session_id}"
        # conmon names it after the container; beside the record it outlives a reboot too
        self.exit_file = f"{self.home}/{os.path.basename(container.home)}"

    @property
    def record(self) -> str:
        return f"{self.home}/record.json"

    @property
    def lock(self) -> str:
        return f"{self.home}/lock"

    @property
    def log(self) -> str:
        return f"{self.home}/exec.log"

    @property
    def process(self) -> str:
        """What the runtime is to run (the ``process`` object of the runtime-spec)."""
        return f"{self.run}/process.json"

    @property
    def pidfile(self) -> str:
        return f"{self.run}/pidfile"

    @property
    def conmon_pidfile(self) -> str:
        return f"{self.run}/conmon.pid"

    @property
    def runtime_log(self) -> str:
        return f"{self.run}/oci.log"

    @property
    def attach_socket(self) -> str:
        return f"{self.run}/attach"

    @property
    def ctl_fifo(self) -> str:
        return f"{self.run}/ctl"

    @property
    def winsz_fifo(self) -> str:
        return f"{self.run}/winsz"
