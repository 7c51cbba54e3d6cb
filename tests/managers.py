"""A service manager for tests: it hears what sd_notify(3) says, and answers barriers."""

from __future__ import annotations

import os
import queue
import socket
import threading
from pathlib import Path
from typing import Self


class Manager:
    """A notify socket; a context manager. What it hears are lists of lines, in order."""

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)
        self._heard: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
            if not data:
                return
            for _, _, rights in ancillary:
                os.close(int.from_bytes(rights[:4], "little"))
            if data != b"BARRIER=1":
                self._heard.put(data.decode().splitlines())

    def next(self, patience: float = 30.0) -> list[str]:
        """Return what comes next."""
        return self._heard.get(timeout=patience)

    @property
    def silent(self) -> bool:
        """Whether all that came has been taken."""
        return self._heard.empty()
