"""The devices that networks run on, and the operation that PyTorch lacks: ⊗c.

It is an operator, ``torch.ops.mula``, with loops for the CPU, compiled by numba when they are first called; Triton
kernels for a GPU; PyTorch's operations for everything else; and shapes, gradients and FLOP counts, so that
``torch.compile`` and PyTorch's counters understand it. Tests require it to agree with a plain reference to a relative
error of 1e-5, gradients included. ``docs/performance.md`` has the speedups.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor itself if its channels are innermost in memory, else a copy in that layout."""
    return tensor.contiguous(memory_format=torch.channels_last)


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 arithmetic; where it is emulated, autocast is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")  # avx512_bf16, amx_bf16, on ARM bf16
    return flags.exists() and "bf16" in flags.read_text(encoding="utf-8")


@contextlib.contextmanager
def training_on(device: torch.device) -> Iterator[None]:
    """Within this context the device is set up for training.

    On a GPU, TF32 is allowed and cuDNN searches for the fastest algorithms; testing uses PyTorch's defaults. On a CPU,
    one thread is used, because sums in another order would give other weights, and glibc keeps freed memory: a step
    frees hundreds of megabytes and requests them again, and it would cost a seventh of a step if the kernel filled them
    with zeros each time.
    """
    threads, products, gpu = torch.get_num_threads(), torch.backends.cuda.matmul, device.type == "cuda"
    tf32 = products.allow_tf32
    if not gpu:
        torch.set_num_threads(1)
        keep_freed_memory()
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=gpu, allow_tf32=True):
            products.allow_tf32 = gpu or tf32
            yield
    finally:
        torch.set_num_threads(threads)
        products.allow_tf32 = tf32


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next allocation, as long as this process lives."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl and macOS have none
        for option, value in ((-1, -1), (-3, 2**30), (-2, 2**26)):  # malloc.h: trim and mmap thresholds, top pad
            libc.mallopt(option, value)
