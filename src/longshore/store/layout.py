"""Every path of Longshore, in one place."""

from __future__ import annotations

import os

from longshore.linux.files import make_directory


class Layout:
    """The two trees: ``root`` is durable, ``run`` is gone (or stale) after a reboot."""

    __slots__ = ("cache", "containers", "exits", "names", "root", "run", "runtimes", "sockets")

    def __init__(self, root: str, run: str) -> None:
        self.root = root
        self.run = run
        self.containers = f"{root}/containers"
        self.names = f"{root}/names"
        self.exits = f"{run}/exits"  # conmon's exit files, a directory a container
        self.sockets = f"{run}/socket"
        self.runtimes = f"{run}/runtimes"  # the runtimes' own state (--root), one each
        self.cache = f"{run}/cache"

    def prepare(self) -> None:
        """Make what every container needs; existing is fine, failing names the path."""
        for path in (self.root, self.run, self.containers, self.names, f"{self.root}/exits"):
            make_directory(path, 0o700)
        for path in (self.exits, self.sockets):
            make_directory(path, 0o750)
        make_directory(f"{self.run}/containers", 0o700)
        make_directory(self.cache, 0o700)

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
    def shm(self) -> str:
        return f"{self.run}/shm"

    @property
    def checkpoint(self) -> str:
        return f"{self.home}/checkpoint"

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
    def oom_file(self) -> str:
        return f"{self.bundle}/oom"
