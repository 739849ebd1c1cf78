"""What is freed is used again, without fresh pages from the system."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, threading
from jaxsound import allocator

print(allocator.keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def use():
    block = libc.malloc(100 << 20)
    libc.memset(block, 1, 100 << 20)
    libc.free(block)

def in_a_thread():
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()

in_a_thread()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
in_a_thread()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**settings: str) -> tuple[bool, int]:
    """Whether memory is kept, and page faults of a second use of 100 MiB in a thread."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=bare | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="no glibc here"
)
def test_a_large_block_is_used_again() -> None:
    kept, faults = page_faults()
    assert kept
    assert faults < 1000  # of 25600 pages


def test_what_the_environment_has_settled_stays() -> None:
    kept, _ = page_faults(MALLOC_ARENA_MAX="2")
    assert not kept
