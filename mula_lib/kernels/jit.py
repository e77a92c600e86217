"""How loops are compiled, when they apply, and how they are shared out among threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

# Sums may be reordered and multiply-adds fused, but nan and infinity keep their meaning: a diverging run must show.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}

_plain = False


def compiled(function: Callable) -> Callable:
    """``function`` as machine code that releases the interpreter's lock, kept on disk between processes."""
    options = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(function, **options)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within it every operation takes its PyTorch reference; for benchmarks and tests, not for threads side by side."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def applies(*tensors: Tensor) -> bool:
    """Whether the compiled loops can take these tensors: float32 on the CPU, outside autocast and :func:`plain`."""
    return (
        not _plain
        and all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def pixels(tensor: Tensor) -> np.ndarray:
    """(B, C, H, W) channels-last -> its (B, H, W, C) numpy view, C-contiguous, sharing memory."""
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor itself if its channels lie innermost, else a copy laid out so."""
    return tensor.contiguous(memory_format=torch.channels_last)


def share(task: Callable[[int], object], count: int) -> list:
    """``[task(0), ..., task(count - 1)]``, by as many threads as PyTorch has for its arithmetic.

    The result must not depend on who does what, and so does not depend on the number of threads.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return [task(number) for number in range(count)]
    return list(_pool(threads).map(task, range(count)))


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mula")
