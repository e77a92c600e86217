"""The device that networks compute on: what it offers, and how it is made fast."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 arithmetic; where it is emulated, autocast is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")  # avx512_bf16, amx_bf16, on ARM bf16
    return flags.exists() and "bf16" in flags.read_text(encoding="utf-8")


def arithmetic() -> dict[str, object]:
    """What this machine trains and tests with, for a result's provenance."""
    if not torch.cuda.is_available():
        return {"device": "cpu", "tf32": False, "bf16": has_bf16(torch.device("cpu"))}
    tf32 = torch.cuda.get_device_capability()[0] >= 8
    return {"device": torch.cuda.get_device_name(), "tf32": tf32, "bf16": has_bf16(torch.device("cuda"))}


@contextlib.contextmanager
def training_on(device: torch.device) -> Iterator[None]:
    """Within this context the device is set up for training.

    A GPU is allowed TF32, and cuDNN to search for the fastest algorithms. A CPU uses one thread, because sums in
    another order would end in other weights, and glibc keeps freed memory: a step frees hundreds of megabytes and asks
    for them again, and the kernel would fill them with zeros each time, a seventh of a step.
    """
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    else:
        torch.set_num_threads(1)
        keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next allocation, as long as this process lives."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl and macOS have none
        for option, value in ((-1, -1), (-3, 2**30), (-2, 2**26)):  # malloc.h: trim and mmap thresholds, top pad
            libc.mallopt(option, value)
