"""Print as JSON what confines this process. Runs in containers; knows nothing of their makers."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import stat

HIDDEN = """
/proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats
/proc/sched_debug /proc/scsi /proc/interrupts /proc/kallsyms /proc/asound /proc/bus
/proc/fs /proc/irq /proc/sys /proc/sysrq-trigger /proc/version
/proc/sys/kernel/core_pattern /sys/firmware /sys/fs/selinux /sys/dev/block
/sys/devices/virtual/powercap /sys/kernel /sys/fs/cgroup /sys/kernel/security
/sys/kernel/debug /sys/module
"""
SYSCTLS = """
net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start net/ipv4/ip_forward
kernel/shmmax kernel/msgmax kernel/hostname fs/mqueue/queues_max
user/max_user_namespaces
"""
STATUS = (
    "CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters Uid Gid Groups Umask"
)

# name → number on x86-64 and arguments that do no harm even where they are allowed
_TEXT = ctypes.create_string_buffer(b"/no/such/place")
_USER = ctypes.create_string_buffer(b"user")
_TMPFS = ctypes.create_string_buffer(b"tmpfs")
_NODE = ctypes.create_string_buffer(b"/tmp/probe-node")
_BUFFER = ctypes.create_string_buffer(256)
_T, _U, _F, _N, _B = (ctypes.addressof(b) for b in (_TEXT, _USER, _TMPFS, _NODE, _BUFFER))
_CLONES = {
    "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "time": 0x80,
}  # fmt: skip
CALLS: dict[str, tuple[int, ...]] = {
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, _U, _T, _T, 1, -2),
    "request_key": (249, _U, _T, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "mount": (165, _T, _T, _F, 0, 0),
    "umount2": (166, _T, 0),
    "pivot_root": (155, _T, _T),
    "chroot": (161, _T),
    "setns": (308, -1, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1, 0, 0, 0, 0, 0),
    "kcmp": (312, 1, 1, 99, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, -1, -1, 0, 0, 0),
    "init_module": (175, 0, 0, _T),
    "finit_module": (313, -1, _T, 0),
    "delete_module": (176, _T, 0),
    "name_to_handle_at": (303, -1, _T, 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "userfaultfd": (323, 0),
    "clone3": (435, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "io_uring_enter": (426, -1, 0, 0, 0, 0),
    "io_uring_register": (427, -1, 0, 0, 0),
    "swapon": (167, _T, 0),
    "swapoff": (168, _T),
    "reboot": (169, 0, 0, 0, 0),
    "clock_settime": (227, -1, 0),
    "adjtimex": (159, 0),
    "acct": (163, _T),
    "syslog": (103, 10, 0, 0),
    "quotactl": (179, 0x80000700, _T, 0, 0),
    "nfsservctl": (180, 0, 0, 0),
    "lookup_dcookie": (212, 0, 0, 0),
    "iopl": (172, 0),
    "ioperm": (173, 0, 1, 0),
    "modify_ldt": (154, 9, 0, 0),
    "sysfs": (139, 3),
    "ustat": (136, 0, 0),
    "uselib": (134, _T),
    "personality": (135, 0x1234567),
    "vm86": (113, 0, 0),
    "move_pages": (279, 1, 0, 0, 0, 0, 0),
    "mbind": (237, 0, 0, 9, 0, 0, 0),
    "set_mempolicy": (238, 9, 0, 0),
    "get_mempolicy": (239, 0, 0, 0, 0, 99),
    "migrate_pages": (256, 1, 0, 0, 0),
    "fanotify_init": (300, 0, 0),
    "fsopen": (430, _F, 0),
    "fsmount": (432, -1, 0, 0),
    "open_tree": (428, -1, _T, 1),
    "move_mount": (429, -1, _T, -1, _T, 0),
    "fspick": (433, -1, _T, 0),
    "mount_setattr": (442, -1, _T, 0, 0, 0),
    "pidfd_open": (434, 1, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "process_madvise": (440, -1, 0, 0, 0, 0),
    "landlock_create_ruleset": (444, 0, 0, 1),
    "memfd_secret": (447, 0),
    "quotactl_fd": (443, -1, 0, 0, 0),
    "cachestat": (451, -1, 0, 0, 0),
    "fchmodat2": (452, -1, _T, 0, 0),
    "statmount": (457, 0, 0, 0, 0),
    "listmount": (458, 0, 0, 0, 0),
    "lsm_get_self_attr": (459, 0, 0, 0, 0),
    "setdomainname": (171, 0, -1),
    "sethostname": (170, 0, -1),
    "settimeofday": (164, 0, 0),
    "stime-like": (305, -1, 0),
    "rseq": (334, 0, 0, 0, 0),
    "socket vsock": (41, 40, 1, 0),
    "socket audit": (41, 16, 3, 9),
    "socket packet": (41, 17, 3, 0),
    "socket raw": (41, 2, 3, 1),
    "mknod char": (133, _N, stat.S_IFCHR | 0o600, 0x103),
    "mknod block": (133, _N, stat.S_IFBLK | 0o600, 0x700),
    "setgroups": (116, 0, 0),
    "setpriority": (141, 0, 0, -5),
    "sched_setscheduler": (144, 0, 1, _B),
    "nonsense": (999,),
    **{f"unshare {name}": (272, flag) for name, flag in _CLONES.items()},
}


def called(arguments: tuple[int, ...]) -> str:
    """Make a system call in a child, which may change itself; return the name of its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        words = [ctypes.c_long(a) for a in arguments]
        code = ctypes.get_errno() if libc.syscall(*words) == -1 else 0
        os.write(writer, str(code).encode())
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 16)
    os.close(reader)
    os.waitpid(child, 0)
    if os.path.lexists("/tmp/probe-node"):
        os.unlink("/tmp/probe-node")
    if not text:
        return "killed"
    return errno.errorcode.get(int(text), text.decode()) if int(text) else "done"


def read(path: str) -> str:
    """Return a file's text, or the name of the error."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace").strip("\0\n ")
    except OSError as err:
        return errno.errorcode[err.errno or 0]


def shown(path: str) -> str:
    """Return how much of a path there is: absent, hidden, read-only, writable."""
    try:
        info = os.stat(path)
    except OSError:
        return "absent"
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3):
        return "hidden"
    own_device = info.st_dev != os.stat(os.path.dirname(path)).st_dev
    if stat.S_ISDIR(info.st_mode) and own_device and not os.listdir(path):
        return "hidden"
    return "read-only" if os.statvfs(path).f_flag & os.ST_RDONLY else "writable"


def mounts() -> dict[str, list[str]]:
    """Return target → type and options of each mount."""
    found = {}
    for line in read_all("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        target, options = left.split()[4:6]
        found[target] = [right.split()[0], *sorted(options.split(","))]
    return found


def read_all(path: str) -> str:
    """Return all of a file."""
    with open(path) as file:
        return file.read()


def nodes() -> dict[str, str]:
    """Return what is in /dev."""
    found = {}
    for name in sorted(os.listdir("/dev")):
        info = os.lstat(f"/dev/{name}")
        kind = stat.filemode(info.st_mode)
        number = f" {os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if info.st_rdev else ""
        found[name] = kind + number
    return found


def probe() -> dict[str, object]:
    """Return all of it."""
    status = dict(line.split(":", 1) for line in read_all("/proc/self/status").splitlines())
    return {
        "status": {name: status.get(name, "").strip() for name in STATUS.split()},
        "label": read("/proc/self/attr/current"),
        "paths": {path: shown(path) for path in HIDDEN.split()},
        "mounts": mounts(),
        "dev": nodes(),
        "namespaces": {
            name: os.readlink(f"/proc/self/ns/{name}")
            for name in ("cgroup", "ipc", "mnt", "net", "pid", "uts", "user", "time")
        },
        "rlimits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        },
        "cgroup": read("/proc/self/cgroup"),
        "oom_score_adj": read("/proc/self/oom_score_adj"),
        "sysctls": {name: read(f"/proc/sys/{name}") for name in SYSCTLS.split()},
        "environment": sorted(os.environ),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "calls": {name: called(arguments) for name, arguments in CALLS.items()},
    }


if __name__ == "__main__":
    print(json.dumps(probe()))
