"""Compiled seccomp filters, kept for the next container with the same profile.

crun compiles a profile with libseccomp at each create, which takes 25–30 ms of CPU for the default
one (crun 1.8.1, measured by leaving it out). It leaves the finished program in its state directory
as ``seccomp.bpf``, and takes a finished program from the annotation ``run.oci.seccomp_bpf_data``
(crun(1), since 0.19). So what crun made of a profile is given back to it the next time: the same
bytes, to the same binary, on the same kernel. A runtime that leaves no such file is given none.
"""

from __future__ import annotations

import binascii
import json
import os

from longshore.linux.files import make_directory, read_file, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.oci.schema import Spec

_ANNOTATION = "run.oci.seccomp_bpf_data"
# All that a finished program stands for: one with flags or a listener is left to the runtime.
_PLAIN = frozenset({"defaultAction", "defaultErrnoRet", "architectures", "syscalls"})


class FilterCache:
    """The filters that one runtime binary has made, in a directory of our own."""

    __slots__ = ("_directory", "_maker")

    def __init__(self, directory: str, binary: str) -> None:
        self._directory = directory
        self._maker = binary

    def give(self, spec: Spec) -> str | None:
        """Put the finished filter into a spec; where there is none, return what to `keep` it as."""
        profile: Any = spec["linux"].get("seccomp")
        if not profile or not _PLAIN.issuperset(profile):
            return None
        # A caller's annotation can make the runtime install something else than the profile, and
        # that must never be kept as the profile's.
        if any(name.startswith("run.oci.") for name in spec.get("annotations", {})):
            return None
        key = self._key(profile)
        if key is None:
            return None
        kept = read_file(self._path(key))
        if kept is not None:
            made_of, _, program = kept.partition(b"\0")
            # Compared whole: another profile with the same checksum must not get this filter.
            if made_of == key.encode():
                spec.setdefault("annotations", {})[_ANNOTATION] = program.decode()
                return None
        return key

    def keep(self, key: str, state_dir: str) -> None:
        """Keep what the runtime has just made, if it is a runtime that shows it."""
        program = read_file(f"{state_dir}/seccomp.bpf")
        if not program or len(program) % 8:  # struct sock_filter has 8 bytes
            return
        text = binascii.b2a_base64(program, newline=False)
        try:
            make_directory(self._directory)
            write_atomic(self._path(key), key.encode() + b"\0" + text)
        except OSError:
            return  # a cache that cannot be written costs time and nothing else

    def _key(self, profile: Any) -> str | None:
        try:
            info = os.stat(self._maker)
        except OSError:
            return None
        maker = [self._maker, info.st_ino, info.st_size, info.st_mtime_ns, os.uname().release]
        return json.dumps([maker, profile])

    def _path(self, key: str) -> str:
        return f"{self._directory}/{binascii.crc32(key.encode()):08x}"
