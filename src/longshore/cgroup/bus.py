"""systemd's manager on D-Bus: start and stop units and wait until that is done.

jeepney packs and parses the messages. The waiting is here: every exchange has a deadline, and all
that is known beforehand goes out in one piece (authentication, Hello and the calls), because each
answer that is waited for is a round trip through two other processes. A connection lives as long
as one exchange, so nothing is shared by threads or across a fork. Facts: the D-Bus Specification;
org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from jeepney.bus import get_connectable_addresses
from jeepney.low_level import HeaderFields, Message, MessageType, Parser
from jeepney.wrappers import DBusAddress, new_method_call

from longshore.errors import HostUnsupported, LongshoreError, OperationTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self

    Property = tuple[str, tuple[str, Any]]  # name, (D-Bus signature, value)

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _SYSTEMD, f"{_SYSTEMD}.Manager")
_PROPERTIES = DBusAddress("/org/freedesktop/systemd1", _SYSTEMD, "org.freedesktop.DBus.Properties")
# Without an identity the bus takes the one of the socket, which also holds in a user namespace; the
# answer to its question for more is empty. What follows BEGIN is messages.
_GREETING = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
_JOBS = f"type='signal',sender='{_SYSTEMD}',interface='{_SYSTEMD}.Manager',member='JobRemoved'"

NO_SUCH_UNIT = f"{_SYSTEMD}.NoSuchUnit"
UNIT_EXISTS = f"{_SYSTEMD}.UnitExists"
_DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)
_HINT = "is D-Bus running? Without it: --cgroup-manager cgroupfs"


class Refused(LongshoreError):
    """systemd, or the bus, answered a call with an error; ``name`` is that of D-Bus."""

    def __init__(self, message: str, name: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


def address(*, user: bool) -> str:
    """Return the address of the system's bus, or of the user's; HostUnsupported if there is none.

    systemd's private socket is faster, and not for others than its own tools (systemd(1)).
    """
    if not user:
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS
    told = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    if told:
        return told
    directory = os.environ.get("XDG_RUNTIME_DIR")
    if directory:
        return f"unix:path={directory}/bus"
    raise HostUnsupported(
        "the systemd cgroup manager needs the user's D-Bus",
        "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR in the environment",
        hint="log in with a session (machinectl shell, ssh), or use --cgroup-manager cgroupfs",
    )


class Manager:
    """One exchange with systemd; a context manager. ``deadline`` is of `time.monotonic`.

    HostUnsupported without a bus, OperationTimeout at the deadline, Refused when an answer is an
    error, LongshoreError when the bus goes away or a job fails.
    """

    def __init__(self, bus: str, deadline: float) -> None:
        self._bus = bus
        self._deadline = deadline
        self._parser = Parser()
        self._out = bytearray(_GREETING)
        self._lines: bytes | None = b""  # of the authentication; None when that is over
        self._serial = 0
        self._replies: dict[int, Message] = {}
        self._results: dict[tuple[str, str], str] = {}  # (who says it, job) → how it ended
        self._watching = False
        self._call(_BUS, "Hello")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _connect(self) -> None:
        where = self._bus
        try:
            where = next(get_connectable_addresses(self._bus))
            # A bus with a long queue lets us wait, which only a blocking connect(2) does.
            left = max(self._deadline - time.monotonic(), 0.001)
            patience = struct.pack("@ll", int(left), int(left % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            self._socket.connect(where)
            self._socket.setblocking(False)
        except (OSError, RuntimeError, ValueError) as err:
            why = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            raise HostUnsupported(
                "the systemd cgroup manager needs D-Bus", f"{where}: {why}", hint=_HINT
            ) from err

    # what systemd is asked

    def root(self) -> str:
        """Return the cgroup that all units are below; "" is the root of the tree."""
        serial = self._call(_PROPERTIES, "Get", "ss", (_MANAGER.interface, "ControlGroup"))
        ((_, path),), _ = self._reply(serial, "ask where its cgroups are")
        return str(path).rstrip("/")

    def start(self, units: Iterable[tuple[str, Sequence[Property]]]) -> list[LongshoreError | None]:
        """Start transient units, all at once; return why each was not, or None.

        OperationTimeout, and what else ends the exchange as a whole, is raised.
        """
        self._watch_jobs()
        calls = [
            (
                name,
                self._call(
                    _MANAGER,
                    "StartTransientUnit",
                    "ssa(sv)a(sa(sv))",
                    (name, "replace", list(properties), []),
                ),
            )
            for name, properties in units
        ]
        return [self._outcome(name, serial, f"start {name}") for name, serial in calls]

    def stop(self, unit: str, forget: Sequence[str] = ()) -> None:
        """Stop a unit, and all below a slice, and wait until that is done.

        Failures of the units in ``forget`` are forgotten. What is not there is fine.
        """
        self._watch_jobs()
        stopping = self._call(_MANAGER, "StopUnit", "ss", (unit, "replace"))
        resets = [self._call(_MANAGER, "ResetFailedUnit", "s", (name,)) for name in forget]
        _raise(self._outcome(unit, stopping, f"stop {unit}"))
        for name, serial in zip(forget, resets, strict=True):
            try:
                self._reply(serial, f"forget the failure of {name}")
            except Refused as refused:
                if refused.name != NO_SUCH_UNIT:
                    raise

    def units(self, pattern: str) -> list[tuple[str, str]]:
        """Return (name, description) of the loaded units that a glob pattern fits."""
        serial = self._call(_MANAGER, "ListUnitsByPatterns", "asas", ([], [pattern]))
        (found,), _ = self._reply(serial, f"list {pattern}")
        return [(str(unit[0]), str(unit[1])) for unit in found]

    def is_empty(self, unit: str) -> bool:
        """Whether a unit has no process; one that is not there has none."""
        serial = self._call(_MANAGER, "GetUnitProcesses", "s", (unit,))
        try:
            (found,), _ = self._reply(serial, f"look into {unit}")
        except Refused as refused:
            if refused.name != NO_SUCH_UNIT:
                raise
            return True
        return not found

    # the exchange

    def _watch_jobs(self) -> None:
        # Before a job is begun: its end could come before the answer that names it.
        if not self._watching:
            self._watching = True
            self._call(_BUS, "AddMatch", "s", (_JOBS,))

    def _call(
        self,
        target: DBusAddress,
        method: str,
        signature: str | None = None,
        body: tuple[Any, ...] = (),
    ) -> int:
        """Put a call into what is sent next; return its serial number."""
        self._serial += 1
        message = new_method_call(target, method, signature, body)
        self._out += message.serialise(serial=self._serial)
        return self._serial

    def _outcome(self, unit: str, serial: int, doing: str) -> LongshoreError | None:
        """Wait for the job that a call has begun; return why it did not succeed, or None."""
        try:
            (job,), systemd = self._reply(serial, doing)
        except Refused as refused:
            # Whoever keeps it would else be in a cycle with his own frame, and his callers'.
            return refused.with_traceback(None)
        while (result := self._results.get((systemd, job))) is None:
            self._receive(doing)
        if result == "done":
            return None
        return LongshoreError(
            f"cannot {doing}: the job of systemd ended as {result!r}",
            hint=f"`systemctl status {unit}` and `journalctl --unit {unit}` say more",
        )

    def _reply(self, serial: int, doing: str) -> tuple[tuple[Any, ...], str]:
        """Wait for the answer to a call; return it, and who gave it."""
        while serial not in self._replies:
            self._receive(doing)
        message = self._replies.pop(serial)
        if message.header.message_type is MessageType.error:
            name = str(message.header.fields.get(HeaderFields.error_name, "an error"))
            words = str(message.body[0]) if message.body else name
            raise Refused(
                f"cannot {doing}: systemd says: {words}",
                name,
                hint="only root may ask the system's systemd for it" if name in _DENIED else None,
            )
        return tuple(message.body), str(message.header.fields.get(HeaderFields.sender, ""))

    def _receive(self, doing: str) -> None:
        """Send what is to be sent, and take in what comes next."""
        while True:
            message: Message | None = self._parser.get_next_message()
            if message is not None:
                self._sort(message)
                return
            self._wait(doing)
            try:
                if self._out:
                    del self._out[: self._socket.send(self._out)]
                data = self._socket.recv(65536)
            except BlockingIOError:
                continue
            except OSError as err:
                raise self._gone(doing, err.strerror or str(err)) from err
            if not data:
                raise self._gone(doing, "it closed the connection")
            self._take(data, doing)

    def _take(self, data: bytes, doing: str) -> None:
        """Give what came to the parser; the lines of the authentication come first."""
        while self._lines is not None:
            line, end, rest = (self._lines + data).partition(b"\r\n")
            data = b""
            if not end:
                self._lines = line
                return
            self._lines = rest
            if line.startswith(b"OK "):
                data, self._lines = rest, None
            elif line != b"DATA":
                raise self._gone(doing, f"it refuses us: {line.decode('ascii', 'replace')}")
        self._parser.add_data(data)

    def _wait(self, doing: str) -> None:
        left = self._deadline - time.monotonic()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        if left <= 0 or not poller.poll(min(left, 1e6) * 1000):
            raise OperationTimeout(
                f"cannot {doing}: systemd has not done it in time",
                hint="`systemctl list-jobs` shows what it waits for",
            )

    def _sort(self, message: Message) -> None:
        fields = message.header.fields
        if message.header.message_type is MessageType.signal:
            # Anybody may send a signal: that of whom we have asked counts.
            if fields.get(HeaderFields.member) == "JobRemoved" and len(message.body) == 4:
                _, job, _, result = message.body
                self._results[str(fields.get(HeaderFields.sender, "")), job] = result
            return
        serial = fields.get(HeaderFields.reply_serial)
        if serial is not None:
            self._replies[serial] = message

    def _gone(self, doing: str, why: str) -> LongshoreError:
        return LongshoreError(f"cannot {doing}: D-Bus ({self._bus}): {why}", hint=_HINT)


def _raise(error: LongshoreError | None) -> None:
    """Raise why a unit was not stopped, unless there is none of that name."""
    try:
        if error is not None and getattr(error, "name", "") != NO_SUCH_UNIT:
            raise error
    finally:
        del error  # the frame is in its traceback: a cycle
