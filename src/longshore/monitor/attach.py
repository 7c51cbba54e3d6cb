"""conmon's attach socket and winsz fifo: a program's input and output, and its terminal's size.

Facts, measured on conmon 2.1.6 with crun 1.8.1 and runc 1.1.5:

- The socket is SOCK_SEQPACKET. What is sent is input. What comes is a byte that says of which
  stream (2 stdout, 3 stderr; a terminal has only 2) and up to 8 KiB of it.
- conmon writes to its clients with blocking calls: one that does not read stops the output of the
  program after some 90 KB, and keeps conmon from noticing its end. Where a socket filter takes
  nothing, the kernel throws packets away and tells conmon that they were sent; so a client that
  only writes input need not read, and can be slow, stopped or hang without any harm.
- With -i a packet of no bytes is the end of input, for all clients; so is that a client leaves,
  even one that has never sent anything. With --leave-stdin-open neither is, nor is anything else.
  A terminal (-t) has no end of input: an empty packet and a client's leaving are nothing to it,
  and any number of clients come and go. What several clients send is mixed packet by packet.
- Once conmon could not write to a client (it has left with output unread, or has shut down
  receiving), that client's end of input may be lost, and the program waits for ever: conmon frees
  what it knows of the client before it looks at it for the last time (conn_sock.c, 2.1.6 to 2.2).
- The program reads late: conmon takes about 100 KB, then sending blocks, and output goes on
  meanwhile. The program has closed its input: conmon cannot say so; sending blocks until the
  program's end, and conmon spins until then (2.1.6, half a CPU).
- The socket is there when the runtime has created the container: who connects before its start
  misses nothing. It closes when conmon ends, which is after its exit command.
- When the program ends with input unread, recv fails once with ECONNRESET before what was still to
  be read.
- The winsz fifo takes ``ROWS COLUMNS\\n``, up to 1000 each, at any time from the creation on, also
  before the start; nobody reads it (ENXIO) once conmon is gone. Of two messages that are read at
  once, 2.1.6 does the first twice; so what was written must have been read before there is more.
  The ctl fifo (``1 ROWS COLUMNS\\n``) leads there, too, where two messages can meet all the same.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
import termios
import time
from array import array

from longshore.errors import MonitorGone
from longshore.linux.inotify import IN_ACCESS, IN_CLOSE_WRITE, Watch, poll
from longshore.linux.steps import Sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Self

_PACKET = 8192  # no conmon reads less at once; it would cut off what is beyond
_LARGEST = 1 << 16
_AT_ONCE = 32  # packets: what is read is handed on before there is more than 256 KiB of it
_STREAMS = {2: "stdout", 3: "stderr"}
_LARGEST_SIDE = 1000  # of a terminal: conmon refuses more
_PATIENCE = 1.0  # seconds that a busy conmon has to read a size
_SO_ATTACH_FILTER = 26  # socket(7)
# One instruction of classic BPF, "return 0": no byte of any packet is taken.
_TAKE_NOTHING = array("B", struct.pack("=HBBI", 6, 0, 0, 0))
END_OF_INPUT = b"\x04"  # what a terminal takes for it (termios(3), VEOF)


def _connect(path: str, *, deaf: bool = False) -> socket.socket:
    """Connect; a ``deaf`` connection only writes, and what is sent to it is gone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        if deaf:
            # struct sock_fprog: how many instructions, and where they are
            program = struct.pack("HP", 1, _TAKE_NOTHING.buffer_info()[0])
            connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        # Socket paths end at 107 bytes (unix(7)); a directory's descriptor makes any path short.
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    return connection


def _on_its_way(connection: socket.socket) -> int:
    """Return how much memory holds what was sent and not taken yet, an empty packet too."""
    answer: bytes = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))  # unix(7), SIOCOUTQ
    return int.from_bytes(answer, sys.byteorder)


class StdinSocket:
    """A connection that writes a program's standard input; a context manager.

    It never has to be read, and never hears of output.
    """

    __slots__ = ("_socket",)

    def __init__(self, path: str) -> None:
        """Connect; FileNotFoundError or ConnectionRefusedError when conmon is not there."""
        self._socket = _connect(path, deaf=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, which is writable when conmon takes more."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave. Without a terminal that ends the program's input."""
        self._socket.close()

    def send(
        self, data: bytes, *, until: Sequence[int] = (), deadline: float | None = None
    ) -> bool:
        """Write bytes, at the pace at which the program reads them; none at all do nothing.

        False when they did not all arrive, because conmon is gone, one of ``until`` became readable
        (a pidfd of the program, say), or ``deadline`` (`time.monotonic`) came.
        """
        view = memoryview(data)
        while view:
            if not self._writable(until, deadline):
                return False
            try:
                view = view[self._socket.send(view[:_PACKET]) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def end(self, *, until: Sequence[int] = (), deadline: float | None = None) -> bool:
        """Say that no more input will come; False as for `send`. Nothing to a terminal."""
        while self._writable(until, deadline):
            try:
                self._socket.send(b"")
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
            return True
        return False

    def taken(self, *, until: Sequence[int] = (), deadline: float | None = None) -> bool:
        """Wait until conmon has taken all that was sent: then leaving loses nothing of it.

        False as for `send`. conmon takes a packet when the program has read what was before it.
        """
        with select.epoll() as poller:
            # The kernel wakes who watches for edges with each packet that is taken.
            poller.register(self._socket, select.EPOLLOUT | select.EPOLLET)
            for fd in until:
                poller.register(fd, select.EPOLLIN)
            while _on_its_way(self._socket):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = dict(poller.poll(left))
                if not ready or ready.keys() & {*until}:
                    return False
        return True

    def _writable(self, until: Sequence[int], deadline: float | None) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        for fd in until:
            poller.register(fd, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        # whole milliseconds, rounded up; poll(2) takes no more than an int of them
        ready = dict(poller.poll(None if left is None else min(int(left * 1000) + 1, 1 << 30)))
        # POLLHUP says that conmon is gone
        return ready == {self._socket.fileno(): select.POLLOUT}


class OutputSocket:
    """A connection that reads what a program writes; a context manager.

    Whoever has one must read it until its end: see the top of this module. It sends nothing, but
    leaving ends the input of a program that has one and no terminal.
    """

    __slots__ = ("_socket", "over")

    def __init__(self, path: str) -> None:
        """Connect; FileNotFoundError or ConnectionRefusedError when conmon is not there."""
        self._socket = _connect(path)
        self.over = False  # conmon has hung up, and all was read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there is output."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def read(self) -> list[tuple[str, bytes]]:
        """Return what is there as (stream, data), but no more than 256 KiB; it never waits."""
        found: list[tuple[str, bytes]] = []
        while len(found) < _AT_ONCE:
            try:
                packet = self._socket.recv(_LARGEST)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # and what was sent before that follows
            if not packet:
                self.over = True
                break
            stream = _STREAMS.get(packet[0])
            if stream is not None:
                found.append((stream, packet[1:]))
        return found


def output_steps(
    connection: OutputSocket, *, ended: Callable[[], bool], wake_fds: Sequence[int] = ()
) -> Generator[Sleep | list[tuple[str, bytes]]]:
    """Yield what comes as (stream, data) until no more will, in steps (`linux.steps`).

    ``ended`` says whether the program has written all it will, and is asked each time that
    something happened: conmon hangs up only when its exit command has ended.
    """
    while True:
        complete = ended()  # asked first, so that "yes" means that this reading sees the end
        while found := connection.read():
            yield found
        if complete or connection.over:
            return
        yield Sleep(fds=(connection.fileno(), *wake_fds))


def resize(path: str, rows: int, columns: int) -> None:
    """Set the size of a terminal through conmon's winsz fifo; the last one wins, from any process.

    MonitorGone when nobody reads it, or not within a second.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not _has_turn(fd, time.monotonic() + _PATIENCE):
                raise MonitorGone("cannot set the size of a terminal: conmon hangs")
            os.write(fd, b"%d %d\n" % (min(rows, _LARGEST_SIDE), min(columns, _LARGEST_SIDE)))
        finally:
            os.close(fd)
    except OSError as err:  # ENXIO, ENOENT; EPIPE when it has just gone
        raise MonitorGone(
            f"cannot set the size of a terminal: conmon does not listen ({err.strerror})"
        ) from err


def _has_turn(fifo: int, deadline: float) -> bool:
    """Wait until nobody else writes to a fifo, and all was read; whether it was, by the deadline.

    Others are kept away until the descriptor is closed.
    """
    if _is_free(fifo):
        return True
    with Watch() as watch:
        watch.add(fifo, IN_ACCESS | IN_CLOSE_WRITE)
        while not _is_free(fifo):
            if not poll([watch.fileno()], deadline):
                return False
            watch.take()
    return True


def _is_free(fifo: int) -> bool:
    try:
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return not int.from_bytes(fcntl.ioctl(fifo, termios.FIONREAD, bytes(4)), sys.byteorder)
