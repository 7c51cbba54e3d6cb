"""Call the few functions of the C library that Python does not offer.

``ctypes`` costs 5 ms to import and to load the library, which a command pays at each start. The C
module below it costs 1.3 ms and can call a function that takes ints, bytes and None and returns an
int; what it cannot do is tell errno. So a call that failed is made once more through ctypes, only
to learn why: every function called here fails the same way twice, or does its work the second time.
"""

from __future__ import annotations

import functools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def _fast(name: str) -> Callable[[tuple[int | bytes | None, ...]], int] | None:
    try:
        from _ctypes import call_function, dlopen, dlsym
    except ImportError:  # another Python than CPython
        return None
    # NULL is the process itself, which has the C library loaded (the stubs only know file names)
    this_process = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]
    return functools.partial(call_function, dlsym(this_process, name))


def call(name: str, *arguments: int | bytes | None) -> int:
    """Call a C function and return its int; OSError with its errno when that is −1.

    Arguments are ints (as C int), bytes (as a pointer to them, with a NUL behind) and None (NULL).
    """
    fast = _fast(name)
    if fast is not None:
        result = fast(arguments)
        if result != -1:
            return result
    return _slow(name, arguments)


def _slow(name: str, arguments: tuple[int | bytes | None, ...]) -> int:
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    result: int = function(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
