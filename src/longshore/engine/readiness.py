"""What a container has of the service manager that starts it: its sockets, and saying READY.

The sockets of activation go to the container's program; what NOTIFY_SOCKET is for, ``sdnotify``
says. Never does a start wait for READY: it is the manager who does. Protocols: sd_notify(3),
sd_listen_fds(3), systemd.service(5).

    container   MAINPID is conmon's; READY=1 is the program's own word, which conmon passes on
    conmon      MAINPID is conmon's; READY=1 is said when the program has begun
    ignore      the socket is somebody else's: nothing is said, and nobody is given it
"""

from __future__ import annotations

import os

from longshore import _log
from longshore.errors import HostUnsupported
from longshore.monitor.launch import NOTIFY_FILE, Inherited, inherited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.oci.schema import Spec
    from longshore.options import ContainerConfig
    from longshore.store import Record

_TARGET = "/run/notify"  # in the container; podman's place for it
_VARIABLE = "NOTIFY_SOCKET"


def given(machinery: Machinery, config: ContainerConfig, *, sandboxed: bool) -> Inherited:
    """Return what goes on to conmon and the container. HostUnsupported for what cannot."""
    mode = _mode(machinery, config)
    found = inherited(notifies=mode != "ignore", relays=mode == "container")
    if sandboxed and found.sockets:
        # runsc 20240729 hands no descriptor on, and the program is told of some (measured)
        raise HostUnsupported(
            f"{len(found.sockets)} activation sockets (LISTEN_FDS)",
            "a sandboxed program is given no socket of the host",
            hint="another --runtime, such as crun; or start it without LISTEN_FDS",
        )
    if found.relay:
        from longshore.runtime.features import takes_flag

        relays = takes_flag(
            machinery.conmon, "", "--sdnotify-socket", cache_dir=machinery.layout.cache
        )
        if sandboxed or not relays:
            raise HostUnsupported(
                "sdnotify: container",
                "a sandboxed program reaches no socket of the host"
                if sandboxed
                else f"{machinery.conmon} has no --sdnotify-socket",
                hint="--sdnotify=conmon says READY as soon as the container runs",
            )
    return found


def hand_over(given: Inherited, spec: Spec, bundle: str, mount_label: str) -> None:
    """Put into a spec what the program has of it; what was asked for by name is stronger."""
    process = spec["process"]
    own = list(process.get("env", ()))
    if given.relay and not any(word.startswith(f"{_VARIABLE}=") for word in own):
        directory = f"{bundle}/{os.path.dirname(NOTIFY_FILE)}"
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, 0o755)  # the program may be anybody
        if mount_label:
            from longshore.linux.selinux import relabel

            relabel(directory, mount_label)
        spec["mounts"].append(
            {
                "destination": _TARGET,
                "type": "bind",
                "source": directory,
                "options": ["bind", "rprivate", "nosuid", "nodev", "noexec"],
            }
        )
        own.append(f"{_VARIABLE}={_TARGET}/{os.path.basename(NOTIFY_FILE)}")
    if own := [*own, *given.container_env]:
        process["env"] = own


class Manager:
    """The service manager of one start. Each method is called at its moment, if there is one."""

    __slots__ = ("_address", "_mode", "_monitor", "_told")

    def __init__(self, machinery: Machinery, record: Record) -> None:
        self._mode = _mode(machinery, record.config)
        self._address = os.environ.get(_VARIABLE, "") if self._mode != "ignore" else ""
        monitor = record.run.monitor if record.run is not None else None
        self._monitor = monitor.pid if monitor is not None else 0
        self._told = False

    def starting(self) -> None:
        """Say whose end is the service's, before the program can say that it is ready.

        conmon ends with the container's exit code. Where it has a cgroup of its own, the manager
        hears it only once it is known as the main process.
        """
        if self._address and self._monitor:
            self._told = True
            self._tell(f"MAINPID={self._monitor}")

    def started(self) -> None:
        """Say READY, if that is what the program's start means."""
        if self._address and self._mode == "conmon":
            self._tell("READY=1")

    def failed(self) -> None:
        """Take it back: this process goes on, and says why."""
        if self._told:
            self._tell(f"MAINPID={os.getpid()}")

    def _tell(self, *words: str) -> None:
        from longshore.linux.notify import tell

        try:
            tell(self._address, *words)
        except OSError as err:
            _log.warn(f"the service manager at {self._address} is not told {words[0]}: {err}")


def _mode(machinery: Machinery, config: ContainerConfig) -> str:
    return config.sdnotify or machinery.sdnotify
