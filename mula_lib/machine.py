"""What the machine lends to this process."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

# malloc.h
_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_THRESHOLD = -1, -2, -3


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache
def keep_freed_memory() -> None:
    """Ask the C library to keep freed memory for the next allocation, as long as this process lives.

    A training step frees its hundreds of megabytes and asks for them again. By default glibc gives them back to the
    kernel in between, which then fills every page with zeros anew: a seventh of a step.
    Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    mallopt(_MALLOC_TRIM_THRESHOLD, -1)
    mallopt(_MALLOC_MMAP_THRESHOLD, 2**30)
    mallopt(_MALLOC_TOP_PAD, 2**26)
