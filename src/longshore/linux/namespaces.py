"""What kind of namespace a file stands for."""

from __future__ import annotations

import fcntl
import os
import stat

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2): _IO(NSIO, 3), of Linux 4.11
# Machines whose _IOC_NONE is 1, and not 0, in the uppermost three bits of a number
# (Linux, arch/*/include/uapi/asm/ioctl.h)
_IOC_NONE_IS_1 = ("alpha", "mips", "ppc", "sparc")
# the CLONE_NEW… flag that it answers with (sched.h), and the names of namespaces(7)
_KINDS = {
    0x00000080: "time",
    0x00020000: "mnt",
    0x02000000: "cgroup",
    0x04000000: "uts",
    0x08000000: "ipc",
    0x10000000: "user",
    0x20000000: "pid",
    0x40000000: "net",
}


def kind_of(path: str) -> str | None:
    """Return "net", "ipc", "pid" …; None for a file that is no namespace. OSError of opening it."""
    # Only what is like a file is opened: to open a fifo may block, and a device may act.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _KINDS.get(fcntl.ioctl(fd, _request(os.uname().machine)))
    except OSError:  # ENOTTY, and whatever else a file system says to what it does not know
        return None
    finally:
        os.close(fd)


def _request(machine: str) -> int:
    """Return NS_GET_NSTYPE's number on a machine (uname(2))."""
    return _NS_GET_NSTYPE | (1 << 29 if machine.startswith(_IOC_NONE_IS_1) else 0)
