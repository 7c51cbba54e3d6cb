"""conmon's attach socket: what is sent to it becomes the container's standard input.

The socket is SOCK_SEQPACKET; a zero-length packet means end of input (conmon 2.1.6, measured). What
conmon sends back must be read all the time, or the container freezes; this client throws it away,
because the log has it too.
"""

from __future__ import annotations

import os
import select
import socket
import time

from longshore.linux.procs import poll_until

_PACKET = 8192  # one packet never exceeds what any conmon reads at once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class StdinSocket:
    """A connection that writes a container's standard input; a context manager."""

    __slots__ = ("_socket",)

    def __init__(self, path: str) -> None:
        """Connect; FileNotFoundError or ConnectionRefusedError when conmon is not there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        # Socket paths end at 107 bytes (unix(7)); a directory's descriptor makes any path short.
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, which is readable when conmon has sent something."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave. conmon then closes the container's standard input."""
        self._socket.close()

    def send(self, data: bytes, *, until: int | None = None, deadline: float | None = None) -> bool:
        """Write bytes, at the pace at which the container reads them.

        ``until`` is a descriptor that becomes readable when nobody will read any more (a pidfd of
        init). False means that the bytes did not all arrive, because the container has ended or
        has closed its input, or because ``deadline`` (`time.monotonic`) came. No bytes at all do
        nothing: an empty packet would be end of input.
        """
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | select.POLLOUT)
        if until is not None:
            poller.register(until, select.POLLIN)
        view = memoryview(data)
        while view:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # whole milliseconds, rounded up; poll(2) takes no more than an int of them
            ready = poller.poll(None if left is None else min(int(left * 1000) + 1, 1 << 30))
            if not ready:
                return False
            for fd, events in ready:
                if fd == until:
                    return False
                if events & select.POLLIN and not self.discard():
                    return False
                if events & select.POLLOUT:
                    try:
                        view = view[self._socket.send(view[:_PACKET]) :]
                    except BlockingIOError:
                        continue
                    except (BrokenPipeError, ConnectionResetError):
                        return False
                elif events & (select.POLLHUP | select.POLLERR):
                    return False
        return True

    def end(self) -> None:
        """Say that no more input will come.

        The connection must stay open, and be drained, until the container has ended: conmon 2.1.6
        loses the end of input, about once in twenty times under load, when its client has closed
        the socket with output unread (measured; the container then waits for ever).
        """
        self._socket.setblocking(True)
        try:
            self._socket.send(b"")
        except (BrokenPipeError, ConnectionResetError):  # it has ended
            return
        finally:
            self._socket.setblocking(False)

    def drain(self, *, until: int, deadline: float | None = None) -> None:
        """Throw away what conmon sends, until it hangs up or ``until`` is readable."""
        while ready := poll_until([self._socket.fileno(), until], deadline):
            if until in ready or not self.discard():
                return

    def discard(self) -> bool:
        """Read and throw away what is there; False when conmon has hung up."""
        try:
            while self._socket.recv(65536):
                pass
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        return False
