"""Keeps memory that XLA gives back between two steps, instead of asking the system for it again."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Sets glibc's `malloc` to keep what is freed; call it before any thread is started.

    XLA's CPU backend allocates one block for all that a program needs meanwhile, and frees it at
    the program's end. Blocks over 32 MiB come from the system every time, as fresh pages that it
    has to clear: a quarter of a step's time. Kept blocks are used again, and the process holds
    the most that it ever needed.

    Returns:
      Whether it did: not where $MALLOC_... or $GLIBC_TUNABLES have settled it, nor without glibc.
    """
    if sys.platform != "linux":
        return False
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
    return all([mallopt(option, value) == 1 for option, value in settings.items()])
