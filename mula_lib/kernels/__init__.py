"""The two operations that PyTorch lacks, as operators ``torch.ops.mula``: ⊗c and the upsampled cross entropy.

Each has loops for the CPU, compiled by numba when they are first called; an implementation in PyTorch's operations for
everything else; and shapes, gradients and FLOP counts, so that ``torch.compile`` and PyTorch's counters understand it.
Beside each stands a plain reference, to which tests hold it with a relative error of 1e-5, gradients included. What
each one gains is in ``docs/performance.md``. This file compiles the loops and runs them on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

# Sums may be reordered and multiply-adds fused, but nan and infinity keep their meaning: a diverged run must show.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable) -> Callable:
    """``function`` as machine code that releases the interpreter's lock, cached on disk between processes."""
    options = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's cache folder is writable
        return numba.njit(function, **options)


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor itself if its channels are innermost in memory, else a copy in that layout."""
    return tensor.contiguous(memory_format=torch.channels_last)


def pixels(tensor: Tensor) -> np.ndarray:
    """(B, C, H, W) channels-last -> its (B, H, W, C) numpy view, C-contiguous, sharing memory."""
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def parallel_map(task: Callable[[int], object], count: int) -> list:
    """``[task(0), ..., task(count - 1)]``, on as many threads as PyTorch uses for its arithmetic.

    How the tasks are cut must not depend on the number of threads: then neither does the result.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return [task(number) for number in range(count)]
    return list(_pool(threads).map(task, range(count)))


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mula")
