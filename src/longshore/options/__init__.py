"""What a caller may ask of a new container, and its checked, normal form.

`CreateOptions` are the keyword arguments of `Engine.create` and `Engine.run`; the command line
fills the same ones. `normalize` checks every one of them before anything is touched and returns a
`ContainerConfig`, which is what a record keeps and what the spec is built from.
"""

from __future__ import annotations

from longshore._value import Value
from longshore.models import Device, Mount, Ulimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike
    from typing import Any, ClassVar, TypedDict

    from longshore.oci.schema import Spec

    class CreateOptions(TypedDict, total=False):
        """Options of `create` and `run`; sizes are bytes or text such as "64m", times seconds."""

        name: str | None  # a random one when it is None
        rootfs: str | PathLike[str] | None  # a directory to run from, instead of an image
        overlay: bool  # leave the rootfs untouched: changes go to a layer of the container's own
        entrypoint: str | Sequence[str] | None
        env: (
            Mapping[str, str] | Iterable[str] | None
        )  # {"A": "1"}, or "A=1"; "A" takes the caller's
        workdir: str | None
        user: str | None  # name or uid, with :group or :gid; looked up inside the container
        group_add: Iterable[str]
        hostname: str | None
        labels: Mapping[str, str] | Iterable[str] | None
        annotations: Mapping[str, str] | Iterable[str] | None
        volumes: Iterable[str]  # "SRC:DST[:OPTIONS]" as podman's -v; host paths only for now
        mounts: Iterable[Mount | str]  # Mount, or "type=bind,source=…,target=…" as podman's --mount
        tmpfs: Mapping[str, str] | Iterable[str] | None  # "/tmp:size=64m", or {"/tmp": "size=64m"}
        read_only: bool  # the root file system; /tmp, /run, /var/tmp stay writable (see below)
        read_only_tmpfs: bool  # with read_only: fresh tmpfs on /run, /tmp, /var/tmp (default True)
        memory: int | str | None
        memory_swap: int | str | None  # memory + swap; -1 is unlimited
        memory_reservation: int | str | None
        memory_swappiness: int | None
        cpus: float | str | None
        cpu_shares: int | None
        cpu_period: int | None  # microseconds
        cpu_quota: int | None  # microseconds
        cpuset_cpus: str | None
        cpuset_mems: str | None
        pids_limit: int | None  # -1 or 0 is unlimited; None is containers.conf's, 2048
        blkio_weight: int | None
        blkio_weight_device: Mapping[str, int] | Iterable[str] | None  # {"/dev/sda": 200}
        device_read_bps: Mapping[str, int | str] | Iterable[str] | None  # "/dev/sda:1m", a second
        device_write_bps: Mapping[str, int | str] | Iterable[str] | None
        device_read_iops: Mapping[str, int] | Iterable[str] | None
        device_write_iops: Mapping[str, int] | Iterable[str] | None
        ulimits: Mapping[str, int | tuple[int, int]] | Iterable[str | Ulimit] | None
        cap_add: Iterable[str]
        cap_drop: Iterable[str]
        security_opt: Iterable[str]
        privileged: bool
        devices: Iterable[str | Device]  # "SRC[:DST[:rwm]]", or a CDI device: "VENDOR/CLASS=NAME"
        gpus: str | Iterable[str] | None  # "all", or numbers or ids: CDI devices of nvidia.com/gpu
        sysctls: Mapping[str, str] | Iterable[str] | None
        stop_signal: str | int | None
        stop_timeout: float | None
        runtime: str | None  # name or absolute path
        cgroup_parent: str | None
        cgroup_manager: str | None
        cgroups: str | None  # enabled, or no-conmon: conmon stays in the cgroup of who starts it
        cgroupns: str | None  # host, private, container:ID, ns:PATH (and so the others)
        ipc: str | None
        pid: str | None
        uts: str | None
        userns: str | None  # also keep-id[:uid=,gid=], auto[:size=], nomap
        uidmap: Iterable[str]  # "INSIDE:OUTSIDE[:COUNT]"; of a namespace of its own
        gidmap: Iterable[str]
        subuidname: str | None  # whose line of /etc/subuid
        subgidname: str | None
        network: str | None  # none, host, private, container:ID, ns:PATH
        init: bool
        init_path: str | None
        shm_size: int | str | None
        oom_score_adj: int | None
        log_driver: str | None  # k8s-file (also json-file, as podman does), none
        log_opt: Mapping[str, str] | Iterable[str] | None  # path=, max-size=, max-file=
        pidfile: str | PathLike[str] | None
        conmon_pidfile: str | PathLike[str] | None
        cidfile: str | PathLike[str] | None
        interactive: bool  # keep stdin open
        tty: bool
        remove: bool  # remove the container when it has ended
        umask: str | int | None
        unmask: Iterable[str]  # set by security_opt unmask=
        sdnotify: str | None  # container, conmon, ignore: who says READY=1 to $NOTIFY_SOCKET
        run_timeout: float | None  # the container is killed after this many seconds (--timeout)
        spec: Callable[[Spec], Spec | None] | None  # changes the finished spec
        spec_patch: Mapping[str, Any] | None  # an RFC 7396 merge patch for the finished spec
        create_command: Sequence[str]  # the command line that asked, for inspect

    class UpdateOptions(TypedDict, total=False):
        """Limits that `update` can change: those of `CreateOptions`; what is None stays.

        What takes a limit away: 0 (memory, memory_reservation, cpus, cpu_shares, a device's rate),
        -1 (memory_swap, memory_swappiness, cpu_quota, pids_limit), "" (cpuset_cpus, cpuset_mems).
        """

        memory: int | str | None
        memory_swap: int | str | None
        memory_reservation: int | str | None
        memory_swappiness: int | None
        cpus: float | str | None
        cpu_shares: int | None
        cpu_period: int | None
        cpu_quota: int | None
        cpuset_cpus: str | None
        cpuset_mems: str | None
        pids_limit: int | None
        blkio_weight: int | None
        blkio_weight_device: Mapping[str, int] | Iterable[str] | None
        device_read_bps: Mapping[str, int | str] | Iterable[str] | None
        device_write_bps: Mapping[str, int | str] | Iterable[str] | None
        device_read_iops: Mapping[str, int] | Iterable[str] | None
        device_write_iops: Mapping[str, int] | Iterable[str] | None


NAMESPACES = ("network", "pid", "ipc", "uts", "userns", "cgroupns")


class ContainerConfig(Value):
    """A container as it was asked for: checked, complete, and free of the caller's objects.

    Only what was asked is here. Defaults that depend on the host (rlimits, seccomp profile, default
    capabilities of containers.conf) are applied when the spec is built.
    """

    _nested: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "mounts": Mount.from_json,
        "ulimits": Ulimit.from_json,
        "devices": Device.from_json,
    }

    # identity
    name: str
    image: str = ""
    rootfs: str = ""  # absolute
    overlay: bool = False
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    create_command: tuple[str, ...] = ()
    # process
    command: tuple[str, ...] = ()  # as asked, without the entrypoint
    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    workdir: str = ""  # "" is / (or the image's)
    user: str = ""
    group_add: tuple[str, ...] = ()
    keep_groups: bool = False  # those of who creates it
    umask: int | None = None
    tty: bool = False
    interactive: bool = False
    init: bool = False
    init_path: str = ""
    # file systems
    mounts: tuple[Mount, ...] = ()  # volumes, mounts and tmpfs together, in the order asked
    read_only: bool = False
    read_only_tmpfs: bool = True
    shm_size: int | None = None  # bytes
    devices: tuple[Device, ...] = ()
    cdi_devices: tuple[str, ...] = ()  # VENDOR/CLASS=NAME; what they are shows at the start
    # limits: None is "not asked"
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None  # cpus= becomes quota and period
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: Mapping[str, int] = {}  # block devices by path
    device_read_bps: Mapping[str, int] = {}  # bytes a second
    device_write_bps: Mapping[str, int] = {}
    device_read_iops: Mapping[str, int] = {}
    device_write_iops: Mapping[str, int] = {}
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None
    # privilege
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # CAP_… names; "ALL" is kept as CAP_ALL
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""  # "" is the default profile, "unconfined", or an absolute path
    apparmor: str = ""
    selinux_opts: tuple[str, ...] = ()  # label=… as given, without "label="
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()  # "ALL", or paths
    sysctls: Mapping[str, str] = {}
    # namespaces: "", host, private, none, container:ID, ns:PATH
    network: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    uidmap: tuple[str, ...] = ()  # INSIDE:OUTSIDE:COUNT, as asked
    gidmap: tuple[str, ...] = ()
    subuidname: str = ""
    subgidname: str = ""
    mapped_uids: tuple[str, ...] = ()  # what its user namespace maps; chosen at the creation
    mapped_gids: tuple[str, ...] = ()
    cgroupns: str = ""
    hostname: str = ""
    # life
    stop_signal: int = 15
    stop_timeout: float = 10.0  # seconds
    run_timeout: float = 0.0  # seconds; 0 is none
    remove: bool = False
    sdnotify: str = ""  # "" leaves it to who starts it: the command line means container
    # machinery
    runtime: str = ""  # "" is the default
    cgroup_parent: str = ""
    cgroup_manager: str = ""
    cgroups: str = ""  # "" is enabled
    log_driver: str = ""  # "" is k8s-file
    log_path: str = ""
    log_size_max: int = -1  # bytes; -1 and 0 are no limit
    log_max_files: int = 1  # with log_size_max: how many of that size, the newest included
    pidfile: str = ""
    conmon_pidfile: str = ""
    cidfile: str = ""
    spec_patch: Mapping[str, Any] = {}

    @property
    def wants_user_namespace(self) -> bool:
        """Whether it is to have a user namespace of its own, or another's."""
        asked = (self.uidmap, self.gidmap, self.subuidname, self.subgidname)
        return self.userns not in ("", "host") or any(asked)

    @property
    def joined(self) -> dict[str, str]:
        """Which namespaces (fields of this) are those of other containers, and of which."""
        modes: dict[str, str] = {kind: getattr(self, kind) for kind in NAMESPACES}
        return {k: m[len("container:") :] for k, m in modes.items() if m.startswith("container:")}


def normalize(
    image: str | None,
    command: Sequence[str] | None,
    options: CreateOptions,
    *,
    name: str,
) -> ContainerConfig:
    """Check everything that was asked and return its normal form; nothing is touched.

    ``name`` is the container's name, given or made up. An option that is None is not given. Raises
    `InvalidArgument` for what makes no sense, and `HostUnsupported` for what this version does not
    have. ``options["spec"]`` is checked and stays with the caller.
    """
    # what only reads containers (ps, logs, wait) never pays for the parsers
    from longshore.options import check

    return check.normalize(image, command, options, name=name)
