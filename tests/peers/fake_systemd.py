"""A bus with a systemd behind it, as far as `longshore.cgroup.bus` talks to one; a thread.

It speaks the wire protocol through jeepney. ``script`` says what becomes of a unit's next job:

    done, failed, timeout …    the job ends with this result (done, where nothing is said)
    early                      it is done, and that is told before the call is answered
    forged                     somebody else says that it is done; systemd says that it failed
    never                      the job does not end
    exists, denied             the call is refused
    silent                     nothing is answered at all
    gone                       the bus closes the connection
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Self

from jeepney.low_level import HeaderFields, Message, Parser
from jeepney.wrappers import DBusAddress, new_error, new_method_return, new_signal

SYSTEMD, LIAR = ":1.1", ":1.66"
NAME = "org.freedesktop.systemd1"
MANAGER = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")


class FakeSystemd:
    """One bus at a socket; a context manager. ``units`` are those that run, ``calls`` what came."""

    def __init__(self, directory: Path, *, root: str = "", auth: bytes = b"OK 1234") -> None:
        self.path = directory / "bus"
        self.address = f"unix:path={self.path}"
        self.root = root
        self.auth = auth
        self.script: dict[str, list[str]] = {}
        self.units: dict[str, dict[str, Any]] = {}
        self.ended: set[int] = set()  # pids
        self.calls: list[tuple[Any, ...]] = []
        self.connections = 0
        self.writes = 0  # how often something came: one more than the round trips
        self._jobs = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(ConnectionError, EOFError):
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        received = b""
        while b"BEGIN\r\n" not in received:
            received += self._read(connection)
        greeting, _, rest = received.partition(b"BEGIN\r\n")
        assert greeting == b"\0AUTH EXTERNAL\r\nDATA\r\n"
        # In two pieces, of which one is no whole line.
        connection.sendall(b"DATA\r\n" + self.auth[:2])
        connection.sendall(self.auth[2:] + b"\r\n")
        if not self.auth.startswith(b"OK"):
            return
        parser = Parser()
        parser.add_data(rest)
        serial = 0
        while True:
            while (message := parser.get_next_message()) is None:
                parser.add_data(self._read(connection))
            for answer, sender in self._answers(message):
                serial += 1
                answer.header.fields[HeaderFields.sender] = sender
                connection.sendall(answer.serialise(serial=serial))

    def _read(self, connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise EOFError
        self.writes += 1
        return data

    def _answers(self, message: Message) -> list[tuple[Message, str]]:
        fields = message.header.fields
        member, body = fields[HeaderFields.member], message.body
        self.calls.append((member, *body))
        if fields[HeaderFields.destination] == "org.freedesktop.DBus":
            reply = (":1.9",) if member == "Hello" else ()
            return [(new_method_return(message, "s" if reply else None, reply), SYSTEMD)]
        if member == "Get":
            return [(new_method_return(message, "v", (("s", self.root),)), SYSTEMD)]
        if member == "ListUnitsByPatterns":
            (pattern,) = body[1]
            found = [
                (name, unit["Description"], "loaded", "active", "active", "", "/u", 0, "", "/")
                for name, unit in self.units.items()
                if fnmatch(name, pattern)
            ]
            return [(new_method_return(message, "a(ssssssouso)", (found,)), SYSTEMD)]
        if member == "GetUnitProcesses":
            if body[0] not in self.units:
                words = f"Unit {body[0]} not loaded."
                return self._refuse(message, f"{NAME}.NoSuchUnit", words)
            pids = [pid for pid in self.units[body[0]].get("PIDs", []) if pid not in self.ended]
            processes = [("/x", pid, "conmon") for pid in pids]
            return [(new_method_return(message, "a(sus)", (processes,)), SYSTEMD)]
        does: Callable[[Message], list[tuple[Message, str]]] = getattr(self, f"_{member}")
        return does(message)

    def _StartTransientUnit(self, message: Message) -> list[tuple[Message, str]]:  # noqa: N802
        name, _, properties, _ = message.body
        outcome = self._next(name)
        if outcome == "exists" or (outcome == "done" and name in self.units):
            return self._refuse(message, f"{NAME}.UnitExists", f"Unit {name} already exists.")
        if outcome == "done":
            self.units[name] = {key: value for key, (_, value) in properties}
        return self._job(message, name, outcome)

    def _StopUnit(self, message: Message) -> list[tuple[Message, str]]:  # noqa: N802
        name = message.body[0]
        outcome = self._next(name)
        if outcome == "done" and self.units.pop(name, None) is None:
            return self._refuse(message, f"{NAME}.NoSuchUnit", f"Unit {name} not loaded.")
        return self._job(message, name, outcome)

    def _ResetFailedUnit(self, message: Message) -> list[tuple[Message, str]]:  # noqa: N802
        name = message.body[0]
        return self._refuse(message, f"{NAME}.NoSuchUnit", f"Unit {name} not loaded.")

    def _next(self, name: str) -> str:
        outcomes = self.script.get(name, [])
        return outcomes.pop(0) if outcomes else "done"

    def _refuse(self, message: Message, name: str, words: str) -> list[tuple[Message, str]]:
        return [(new_error(message, name, "s", (words,)), SYSTEMD)]

    def _job(self, message: Message, unit: str, outcome: str) -> list[tuple[Message, str]]:
        if outcome == "silent":
            return []
        if outcome == "gone":
            raise EOFError
        if outcome == "denied":
            denied = "org.freedesktop.DBus.Error.AccessDenied"
            return self._refuse(message, denied, "Access denied")
        self._jobs += 1
        job = f"/org/freedesktop/systemd1/job/{self._jobs}"
        reply = (new_method_return(message, "o", (job,)), SYSTEMD)

        def removed(result: str, sender: str = SYSTEMD) -> tuple[Message, str]:
            body = (self._jobs, job, unit, result)
            return new_signal(MANAGER, "JobRemoved", "uoss", body), sender

        if outcome == "never":
            return [reply]
        if outcome == "early":
            return [removed("done"), reply]
        if outcome == "forged":
            return [reply, removed("done", LIAR), removed("failed")]
        return [reply, removed(outcome)]
