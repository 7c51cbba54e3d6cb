"""The runtime-spec's config.json, as far as Longshore writes it (runtime-spec 1.0.2 and 1.1).

For type checkers: nothing imports this module at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NotRequired


class User(TypedDict):
    """Who the program runs as."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]


class Capabilities(TypedDict, total=False):
    """The five sets of capabilities(7), as CAP_… names."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """One limit; unlimited is 2**64 - 1."""

    type: str
    soft: int
    hard: int


class ConsoleSize(TypedDict):
    """A terminal's size, in characters."""

    height: int
    width: int


class Process(TypedDict):
    """The program of the container."""

    args: list[str]
    cwd: str
    user: User
    env: list[str]
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    capabilities: NotRequired[Capabilities]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]
    oomScoreAdj: NotRequired[int]


class Root(TypedDict):
    """The root file system."""

    path: str
    readonly: NotRequired[bool]


class MountPoint(TypedDict):
    """One mount; they are made in the order of the list."""

    destination: str
    type: str
    source: str
    options: list[str]


class Hook(TypedDict):
    """One program that the runtime runs."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Hooks(TypedDict, total=False):
    """Programs that the runtime runs at points of a container's life."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup"]


class Namespace(TypedDict):
    """A new namespace, or the one at a path."""

    type: NamespaceType
    path: NotRequired[str]


class IdMapping(TypedDict):
    """A range of ids of a user namespace."""

    containerID: int
    hostID: int
    size: int


class DeviceNode(TypedDict):
    """A device file to make."""

    path: str
    type: str
    major: int
    minor: int
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class DeviceRule(TypedDict):
    """One rule of the device cgroup; later ones win."""

    allow: bool
    access: str
    type: NotRequired[str]
    major: NotRequired[int]
    minor: NotRequired[int]


class Memory(TypedDict, total=False):
    """Bytes; ``swap`` is memory and swap together, −1 is unlimited."""

    limit: int
    reservation: int
    swap: int
    swappiness: int


class Cpu(TypedDict, total=False):
    """CPU time and placement; quota and period in microseconds."""

    shares: int
    quota: int
    period: int
    cpus: str
    mems: str


class Pids(TypedDict):
    """How many tasks."""

    limit: int


class WeightDevice(TypedDict):
    """A block device's weight."""

    major: int
    minor: int
    weight: int


class ThrottleDevice(TypedDict):
    """A block device's rate: bytes or operations a second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Block devices."""

    weight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class Resources(TypedDict, total=False):
    """Limits in the words of cgroup v1; runtimes translate them for v2."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIO


class SyscallArg(TypedDict):
    """A condition on an argument of a system call."""

    index: int
    value: int
    op: str
    valueTwo: NotRequired[int]


class Syscall(TypedDict):
    """What happens to some system calls."""

    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[SyscallArg]]


class Seccomp(TypedDict):
    """The filter of system calls."""

    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    architectures: NotRequired[list[str]]
    flags: NotRequired[list[str]]
    listenerPath: NotRequired[str]
    listenerMetadata: NotRequired[str]
    syscalls: NotRequired[list[Syscall]]


class IntelRdt(TypedDict, total=False):
    """Cache and memory bandwidth (resctrl)."""

    closID: str
    l3CacheSchema: str
    memBwSchema: str
    enableCMT: bool
    enableMBM: bool


class Linux(TypedDict, total=False):
    """What only Linux has."""

    namespaces: list[Namespace]
    devices: list[DeviceNode]
    cgroupsPath: str
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]
    resources: Resources
    sysctl: dict[str, str]
    seccomp: Seccomp
    intelRdt: IntelRdt
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    rootfsPropagation: str


class Spec(TypedDict):
    """A config.json."""

    ociVersion: str
    root: Root
    process: Process
    hostname: NotRequired[str]
    mounts: list[MountPoint]
    annotations: NotRequired[dict[str, str]]
    hooks: NotRequired[Mapping[str, list[Hook]]]
    linux: Linux
