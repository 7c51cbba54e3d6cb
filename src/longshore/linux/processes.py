"""Processes by identity: (pid, start time), signalled and awaited through pidfds.

A pid alone can be another process a moment later. The start time is field 22 of /proc/PID/stat
(proc(5)), in clock ticks since boot; together with the boot id the pair is unique.
"""

from __future__ import annotations

import os
import signal

from longshore._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


_PF_EXITING = 4


class ProcessId(Value):
    """One process, now and for ever on this boot."""

    pid: int
    start: int  # clock ticks since boot


def _stat_fields(pid: int) -> list[bytes] | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        data = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The command name is in parentheses and may hold any byte, so cut after the last ")".
    return data[data.rindex(b")") + 2 :].split()


def identify(pid: int) -> ProcessId | None:
    """Return the identity of a process that exists (a zombie does), else None."""
    fields = _stat_fields(pid)
    return None if fields is None else ProcessId(pid=pid, start=int(fields[19]))


def is_alive(process: ProcessId | None) -> bool:
    """Whether exactly this process still runs. A zombie has ended."""
    if process is None:
        return False
    fields = _stat_fields(process.pid)
    return fields is not None and int(fields[19]) == process.start and fields[0] not in b"ZX"


def is_ending(process: ProcessId | None) -> bool:
    """Whether a process has ended, or has begun to.

    The first process of a pid namespace is still there while the kernel kills the others, and has
    PF_EXITING then (field 9 of its stat; include/linux/sched.h).
    """
    if not is_alive(process) or process is None:
        return True
    fields = _stat_fields(process.pid)
    return fields is None or bool(int(fields[6]) & _PF_EXITING)


def parent_of(pid: int, *, ending: bool = False) -> int:
    """Return the pid of a process's parent; 0 when it has ended.

    ``ending``: also of one whose first thread has ended, while others of it still go.
    """
    fields = _stat_fields(pid)
    return 0 if fields is None or (fields[0] in b"ZX" and not ending) else int(fields[1])


def open_pidfd(process: ProcessId | None) -> int | None:
    """Return a pidfd of exactly this process, or None when it has ended."""
    if process is None:
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Looked at after the pidfd was opened: if it is ours now, the pidfd is ours.
    if is_alive(process):
        return fd
    os.close(fd)
    return None


def send(process: ProcessId | None, number: int) -> bool:
    """Send a signal to exactly this process; False when it has ended."""
    fd = open_pidfd(process)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def send_group(leader: ProcessId | None, number: int) -> bool:
    """Send a signal to the process group that a living process leads; False when it has ended."""
    fd = open_pidfd(leader)
    if fd is None or leader is None:
        return False
    try:
        if os.getpgid(leader.pid) != leader.pid:
            return False
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def program_of(pid: int) -> bytes | None:
    """Return what tells the program of a process from the one it executes next; None when it ended.

    It is the auxiliary vector (proc(5)): its random bytes lie elsewhere after every execve(2), of
    the same file too. A process in the midst of one is waited for: what is read here is guarded by
    a lock that execve holds from its new memory to its new signal handlers (fs/exec.c,
    exec_update_lock), so signal masks read after this are of that program or of a later one.
    """
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            return file.read() or None
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


class SignalMasks(Value):
    """What a process does with signals: sets of signal numbers (proc(5), Sig… of status)."""

    caught: frozenset[int]
    blocked: frozenset[int]
    ignored: frozenset[int]
    is_namespace_init: bool  # pid 1 of its own pid namespace, for which defaults do not kill
    waits: bool = False  # it is in sigwait(3), or may be: what it waits for is in none of the sets


def signal_masks(pid: int) -> SignalMasks | None:
    """Read the masks of a process; those of its threads' leader. None when it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            text = status.read()
        try:
            with open(f"/proc/{pid}/wchan", "rb") as channel:
                asleep_in = channel.read()
        except PermissionError:
            asleep_in = b""
    except (FileNotFoundError, ProcessLookupError):
        return None
    masks: dict[bytes, frozenset[int]] = {}
    is_init = runs = False
    for line in text.splitlines():
        key, _, value = line.partition(b":")
        if key == b"NSpid":
            is_init = value.split()[-1] == b"1"
        elif key == b"State":
            runs = value.split()[0] == b"R"
        elif key in (b"SigCgt", b"SigBlk", b"SigIgn"):
            bits = int(value, 16)
            masks[key] = frozenset(n + 1 for n in range(64) if bits >> n & 1)
    if len(masks) < 3:
        return None
    return SignalMasks(
        caught=masks[b"SigCgt"],
        blocked=masks[b"SigBlk"],
        ignored=masks[b"SigIgn"],
        is_namespace_init=is_init,
        # The kernel unblocks what sigwait(3) waits for, for as long as it sleeps there
        # (kernel/signal.c, do_sigtimedwait). Where it does not say, "0", it may be just that.
        waits=b"sigtimedwait" in asleep_in or (asleep_in in (b"", b"0") and not runs),
    )


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield (pid, argv) of every process that can be seen. For repair only: it costs a scan."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                data = file.read()
        except OSError:
            continue
        if data:
            yield int(name), [os.fsdecode(a) for a in data.rstrip(b"\0").split(b"\0")]


def in_pid_namespace(init: int) -> set[int]:
    """Return the pids of every process in the pid namespace of another; a look at all there are."""
    found: set[int] = set()
    try:
        wanted = os.stat(f"/proc/{init}/ns/pid").st_ino
    except OSError:
        return found
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                    found.add(int(name))
            except OSError:  # it has ended, or is another user's
                continue
    return found


_boot_id: str | None = None


def boot_id() -> str:
    """Return the id of this boot of the kernel."""
    global _boot_id
    if _boot_id is None:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot_id = file.read().strip()
    return _boot_id
