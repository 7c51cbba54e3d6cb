"""The front door: containers are made, found, listed and run here."""

from __future__ import annotations

import functools
import os
import time

from longshore import config as configuration
from longshore.engine import events, injected, names
from longshore.engine.container import Container
from longshore.engine.machinery import Machinery
from longshore.engine.trace import UNTRACED
from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError
from longshore.lifecycle import Op, Status, permitted
from longshore.linux.files import create_exclusive
from longshore.models import RunResult
from longshore.options import normalize
from longshore.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime
    from os import PathLike
    from typing import Unpack

    from longshore.config import Settings
    from longshore.engine.eventstream import EventStream
    from longshore.engine.host import Finding, HostInfo, VersionInfo
    from longshore.engine.inspection import Inspection
    from longshore.engine.running import Running
    from longshore.engine.trace import Trace
    from longshore.models import ExitInfo, Stats
    from longshore.options import CreateOptions


def _absolute(paths: Iterable[str | PathLike[str]]) -> tuple[str, ...]:
    return tuple(os.path.abspath(path) for path in paths)


class Engine:
    """The containers of one root directory. No daemon: engines in other processes see the same.

    Making one costs next to nothing and touches nothing; it can be used from any thread, and after
    a fork.
    """

    __slots__ = ("_machinery", "settings")

    def __init__(
        self,
        *,
        root: str | PathLike[str] | None = None,
        run_root: str | PathLike[str] | None = None,
        runtime: str | None = None,
        cgroup_manager: str | None = None,
        conmon: str | None = None,
        runtime_flags: Sequence[str] = (),
        hooks_dirs: Sequence[str | PathLike[str]] = (),
        cdi_spec_dirs: Sequence[str | PathLike[str]] = (),
        settings: Settings | None = None,
    ) -> None:
        """Everything defaults to containers.conf and the user.

        ``root`` is durable, ``run_root`` must not survive a reboot (a tmpfs). ``runtime`` is a
        name or a path, and a container can ask for another; ``runtime_flags`` are global flags of
        it, ``NAME`` or ``NAME=VALUE``. ``hooks_dirs`` are directories of OCI hooks,
        ``cdi_spec_dirs`` of CDI devices, the stronger ones later.
        """
        if settings is None:
            settings = configuration.load(
                root=None if root is None else os.fspath(root),
                run_root=None if run_root is None else os.fspath(run_root),
            )
        if hooks_dirs:
            settings = settings.replace(hooks_dirs=_absolute(hooks_dirs))
        if cdi_spec_dirs:
            settings = settings.replace(cdi_spec_dirs=_absolute(cdi_spec_dirs))
        self.settings = settings
        self._machinery = Machinery(
            settings,
            runtime=runtime,
            cgroup_manager=cgroup_manager,
            conmon=conmon,
            runtime_flags=runtime_flags,
        )

    def __repr__(self) -> str:
        return f"<Engine {self.settings.root}>"

    def create(
        self,
        image: str | None = None,
        command: Sequence[str] | None = None,
        **options: Unpack[CreateOptions],
    ) -> Container:
        """Make a container without starting it. → CREATED.

        Every option is checked before anything is touched (InvalidArgument, HostUnsupported);
        NameInUse leaves nothing behind. ``rootfs=`` stands for an image.
        """
        return self._create(image, command, options, checked=True)

    def _create(
        self,
        image: str | None,
        command: Sequence[str] | None,
        options: CreateOptions,
        *,
        whole_log: bool = False,
        checked: bool = False,
    ) -> Container:
        """Do what `create` does. ``checked``: also what only the start would find out.

        Not for what is started at once: that takes a millisecond, and everything back.
        """
        machinery = self._machinery
        container_id = names.new_id()
        given = options.get("name")
        spec_change = options.get("spec")
        if options.get("stop_timeout") is None:
            options["stop_timeout"] = self.settings.stop_timeout
        if not options.get("log_driver") and self.settings.log_driver in ("k8s-file", "none"):
            options["log_driver"] = self.settings.log_driver  # others are not there yet
        config = normalize(image, command, options, name=given or names.new_name())
        if whole_log:
            config = config.replace(log_driver="k8s-file", log_size_max=0)  # 0 is no limit
        elif config.log_driver != "none" and config.log_size_max < 0:
            config = config.replace(log_size_max=self.settings.log_size_max)
        if config.log_max_files > 1 and config.log_size_max <= 0:
            raise InvalidArgument(
                "log_opt max-file: there is one log file for as long as it has no greatest size",
                hint="say max-size too, such as max-size=10m",
            )
        if not config.cgroup_manager:
            # Kept, because what its parent is called depends on it.
            config = config.replace(cgroup_manager=machinery.cgroup_manager)
        machinery.placement(config, container_id)  # an impossible one is an error now, too
        if config.runtime or machinery.has_runtime_flags:
            machinery.runtime(config.runtime)  # an unknown one is an error now, not at the start
        if config.keep_groups and not machinery.runtime(config.runtime).name.startswith("crun"):
            raise HostUnsupported(
                "group_add: keep-groups was asked for",
                f"{machinery.runtime(config.runtime).name}, which cannot keep groups",
                hint="use --runtime crun",
            )
        if config.mounts and machinery.selinux is not None:
            from longshore.engine import confinement

            confinement.check_volumes(machinery, config)
        injected.check(self.settings, config)
        machinery.layout.prepare()
        keep: Callable[[Record], None] = machinery.store.create
        if config.joined:
            from longshore.engine import dependencies

            config = dependencies.resolved(machinery, config)
            keep = functools.partial(dependencies.create, machinery)
        if config.wants_user_namespace:
            from longshore.engine import idmaps

            config = idmaps.chosen(machinery, config)
            if idmaps.is_automatic(config):
                keep = functools.partial(idmaps.create, machinery, keep=keep)
        for attempt in range(100):
            record = Record(id=container_id, config=config, created_ns=time.time_ns())
            if spec_change is not None:
                from longshore.engine.context import changed_config

                record = record.replace(config=changed_config(machinery, record, spec_change))
            if attempt == 0 and checked:
                from longshore.engine.context import check_spec

                check_spec(machinery, record)
            try:
                keep(record)
                events.emit(machinery, "create", record)
                break
            except names.InUse:
                if given or attempt == 99:
                    raise
                config = config.replace(name=names.new_name())
        container = Container(machinery, container_id)
        if config.cidfile:
            try:
                create_exclusive(config.cidfile, container_id.encode(), mode=0o644)
            except OSError as err:
                container.remove()
                raise InvalidArgument(
                    f"cannot write the cidfile {config.cidfile}: {err.strerror}"
                ) from err
        return container

    def run(
        self,
        image: str | None = None,
        command: Sequence[str] | None = None,
        *,
        input: bytes | None = None,  # noqa: A002 - as subprocess.run names it
        timeout: float | None = None,
        check: bool = False,
        trace: Trace = UNTRACED,
        **options: Unpack[CreateOptions],
    ) -> RunResult:
        """Run a command in a new container to its end, and remove the container.

        Returns both outputs, exactly, and the `ExitInfo`. ``input`` becomes its standard input.
        After ``timeout`` seconds it is killed; the result then has the output so far and the
        reason TIMEOUT. With ``check``, anything but exit code 0 raises ContainerFailed, which
        carries the result. An exception of any kind leaves no container behind.
        """
        from longshore.linux.steps import run

        running = self._run(image, command, options, data=input, timeout=timeout, trace=trace)
        try:
            running.begin()
            if input is not None:
                running.feed(bytes(input))
            if not run(running.exit_steps()):
                running.time_out()
            return running.finish(check=check)
        except BaseException as error:
            running.abandon(error)
            raise

    def _run(
        self,
        image: str | None,
        command: Sequence[str] | None,
        options: CreateOptions,
        *,
        data: bytes | None,
        timeout: float | None,
        trace: Trace,
    ) -> Running:
        """Make the container of a run."""
        from longshore.engine import running
        from longshore.options.read import argv

        deadline = running.prepare(options, data, timeout)
        words = argv(command, "command")
        container = self._create(image, words, options, whole_log=True)
        trace.mark("create")
        program = words[0] if words else "the container"
        return running.Running(self._machinery, container, program, deadline, trace)

    def get(self, ref: str) -> Container:
        """Return the container with this name, id, or unambiguous beginning of an id."""
        return Container(self._machinery, self._machinery.store.resolve(ref))

    def list(self, *, all: bool = False) -> builtins.list[Container]:  # noqa: A002 - podman's word
        """Return the containers that run, newest first; with ``all``, every one."""
        return [
            Container(self._machinery, found.id)
            for found in self.inspect_all()
            if all or found.status in (Status.RUNNING, Status.PAUSED)
        ]

    def inspect_all(self) -> builtins.list[Inspection]:
        """Return a snapshot of every container, newest first, in one pass without locks."""
        from longshore.engine import inspection

        return inspection.inspect_all(self._machinery)

    def exit_of(self, container_id: str) -> ExitInfo | None:
        """Return the last exit of a container by its whole id, even after its removal."""
        from longshore.engine.finishing import last_exit

        return last_exit(self._machinery, container_id)

    def stats(self) -> builtins.list[Stats]:
        """Measure every container that runs. Takes no lock; one that ends meanwhile is left out."""
        from longshore.engine import stats

        return stats.stats_all(self._machinery)

    def events(
        self,
        *,
        since: int | datetime | None = None,
        until: int | datetime | None = None,
        containers: Collection[str] = (),
        actions: Collection[str] = (),
        follow: bool = True,
    ) -> EventStream:
        """Return what happens to containers, in order: a context manager and an iterator.

        ``since`` is the number after which it begins (`Event.seq`, `EventStream.seq`; 0 is the
        first of all) or a moment; None is now, or without ``follow`` the oldest that is kept.
        ``until`` is the last number or moment; None is no end. ``follow`` waits for what is yet to
        come. ``containers`` (names at the time, ids, beginnings of ids) and ``actions``
        (`Event.action`) choose; empty is all.

        Where events are not kept any more it yields a `Gap` instead: 12 MiB are kept at least,
        some 40,000 events. Any process can go on where another has stopped. Takes no lock.
        StoreError when the root directory is removed meanwhile.
        """
        from longshore.engine.eventstream import EventStream

        return EventStream(
            self._machinery,
            since=since,
            until=until,
            containers=containers,
            actions=actions,
            follow=follow,
        )

    def prune(self) -> builtins.list[str]:
        """Remove every container that does not run; return their ids.

        One whose namespaces are used by another that stays is kept.
        """
        removed: builtins.list[str] = []
        for found in self.inspect_all():
            if found.status in permitted(Op.REMOVE):
                try:
                    Container(self._machinery, found.id).remove()
                except LongshoreError:
                    continue  # it was started or removed a moment ago, or another needs it
                removed.append(found.id)
        self._machinery.store.sweep()
        self._machinery.sweep_cgroups()
        return removed

    def info(self) -> HostInfo:
        """Return what this host and this engine are."""
        from longshore.engine import host

        return host.info(self._machinery)

    def version(self) -> VersionInfo:
        """Return the versions of Longshore and of the programs it drives."""
        from longshore.engine import host

        return host.version(self._machinery)

    def doctor(self) -> builtins.list[Finding]:
        """Check what this host has and lacks; each finding names what mends it."""
        from longshore.engine import host

        return host.doctor(self._machinery)
