"""Tell a service manager something: the datagrams of sd_notify(3).

A manager finds out by a datagram's sender which service it is about, and that may fail once the
sender has ended. `tell` therefore waits, for a moment, until it has been read
(sd_notify_barrier(3)); a manager that does not know of barriers closes the descriptor unread, which
says the same.
"""

from __future__ import annotations

import array
import os
import socket
import time

from longshore.linux.procs import poll_until

_PATIENCE = 5.0  # seconds that a busy manager has; what was told stays told


def tell(address: str, *assignments: str) -> None:
    """Send ``NAME=VALUE`` lines to the socket of $NOTIFY_SOCKET, and wait until they are read.

    ``address`` is a path, or begins with ``@`` for an abstract one. OSError when nobody listens.
    """
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_PATIENCE)  # of a queue that is full
        sender.connect(target)
        sender.send("\n".join(assignments).encode())
        reader, writer = os.pipe()
        try:
            try:
                rights = array.array("i", [writer])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                sender.sendmsg([b"BARRIER=1"], ancillary)
            finally:
                os.close(writer)
            poll_until([reader], time.monotonic() + _PATIENCE)
        finally:
            os.close(reader)
