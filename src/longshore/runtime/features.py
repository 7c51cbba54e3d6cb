"""What a runtime binary can do, learned by asking it, once for each binary."""

from __future__ import annotations

import binascii
import json
import os
import re

from longshore.errors import LongshoreError
from longshore.linux.files import make_directory, read_file, write_atomic
from longshore.linux.procs import run

_TIMEOUT = 10.0  # seconds
_known: dict[str, bool] = {}  # of this process; what other processes learned is in the cache


def takes_flag(binary: str, verb: str, flag: str, *, cache_dir: str) -> bool:
    """Whether a runtime's verb has a flag, by its own ``--help``; "" are flags before any verb.

    The answer is kept for this binary (path, inode, size, time) in ``cache_dir``; a cache that
    cannot be written costs time and nothing else.
    """
    try:
        info = os.stat(binary)
    except OSError:
        return False  # running it says why
    identity = [binary, info.st_ino, info.st_size, info.st_mtime_ns, verb, flag]
    key = json.dumps(identity)
    known = _known.get(key)
    if known is not None:
        return known
    path = f"{cache_dir}/flag-{binascii.crc32(key.encode()):08x}"
    kept, _, answer = (read_file(path) or b"").partition(b"\0")
    if kept == key.encode():  # another binary's checksum can be the same
        found = answer == b"1"
    else:
        found = _ask(binary, verb, flag)
        try:
            make_directory(cache_dir)
            write_atomic(path, key.encode() + b"\0" + (b"1" if found else b"0"))
        except OSError:
            pass
    _known[key] = found
    return found


def _ask(binary: str, verb: str, flag: str) -> bool:
    done = run([binary, *([verb] if verb else []), "--help"], timeout=_TIMEOUT)
    words = done.stdout + done.stderr
    if not verb and b' flags" for a list' in words:  # runsc: 'Use "runsc flags" for a list of …'
        done = run([binary, "flags"], timeout=_TIMEOUT)
        words = done.stdout + done.stderr
    # Go's own package for flags shows them with one dash, and takes two
    name = re.escape(flag.removeprefix("--").encode())
    return bool(re.search(rb"(?<![\w-])--?" + name + rb"(?![\w-])", words))


def reads_maps(binary: str) -> bool:
    """Whether a runtime reads the ids of a user namespace that is joined, and refuses to be told.

    That is runc since 1.2 (libcontainer's validator), which is also the first to name
    ``mountExtensions`` among its features (runtime-spec, features.md); runc 1.1 wants to be told.
    """
    try:
        features = json.loads(run([binary, "features"], timeout=_TIMEOUT).stdout)
        return "mountExtensions" in features["linux"] and "runc.version" in str(
            features.get("annotations", "")
        )
    except (OSError, LongshoreError, ValueError, KeyError, TypeError):
        return False
