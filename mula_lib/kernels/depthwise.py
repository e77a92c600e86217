"""The paper's ⊗c: each channel of each image convolved with a kernel of its own (Sec. 3.2).

In libraries, depthwise convolutions share their kernels across the batch. Folding the batch into the channels makes
them fit, at the price of one image with thousands of groups. In channels-last memory the arithmetic works on vectors,
one number per channel, without rearranging. The loops here do this on a CPU, in less time than PyTorch's *static*
depthwise convolution (``python -m benchmarks dynamic_convolution``); the kernels of :mod:`depthwise_triton` do it on a
GPU with Triton. Everywhere else the folded convolution is used.
"""

import math
import shutil
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mula_lib.kernels import channels_last

HAS_TRITON = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))  # and its C compiler
_ZERO = np.float32(0)
# Sums may be reordered and multiply-adds fused, but nan and infinity keep their meaning: a diverged run must show.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}


def dynamic_depthwise(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every channel of every image with a kernel of its own, at the same size, zero-padded.

    Args:
        features: (B, C, H, W).
        kernels: (B, C, h, h) with h odd.

    Returns:
        (B, C, H, W). Under autocast it is float32 on a CPU, as its loops are, and autocast's type on a GPU.
    """
    device = features.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        dtype = torch.float32 if device == "cpu" else torch.get_autocast_dtype(device)
        features, kernels = features.to(dtype), kernels.to(dtype)
    floats = features.dtype in (torch.float32, torch.bfloat16)
    if floats and (device == "cpu" or (HAS_TRITON and device == "cuda")):
        return _convolve(features, kernels)
    with torch.autocast("cpu", enabled=False):
        return reference(features, kernels)


def reference(features: Tensor, kernels: Tensor) -> Tensor:
    """The same by one grouped convolution over the batch folded into the channels."""
    batch, channels, height, width = features.shape
    size = kernels.shape[-1]
    folded = F.conv2d(
        features.reshape(1, batch * channels, height, width),
        kernels.reshape(batch * channels, 1, size, size),
        padding=size // 2,
        groups=batch * channels,
    )
    return folded.reshape(batch, channels, height, width)


@torch.library.custom_op("mula::dynamic_depthwise", mutates_args=(), device_types="cpu")
def _convolve(features: Tensor, kernels: Tensor) -> Tensor:
    result = torch.empty_like(features, dtype=torch.float32, memory_format=torch.channels_last)
    _loops(kernels.shape[-1])[0](_floats(features), _floats(kernels), pixels(result))
    return result.to(features.dtype)


@torch.library.custom_op("mula::dynamic_depthwise_kernels", mutates_args=(), device_types="cpu")
def _correlate(upstream: Tensor, features: Tensor, size: int) -> Tensor:
    """The gradient with respect to the kernels."""
    batch, channels = features.shape[:2]
    result = np.empty((batch, size, size, channels), np.float32)
    _loops(size)[1](_floats(features), _floats(upstream), result)
    return torch.from_numpy(result.transpose(0, 3, 1, 2).copy()).to(features.dtype)


def pixels(tensor: Tensor) -> np.ndarray:
    """(B, C, H, W) channels-last -> its (B, H, W, C) numpy view, C-contiguous, sharing memory."""
    return tensor.detach().permute(0, 2, 3, 1).numpy()


def _floats(maps: Tensor) -> np.ndarray:
    """(B, C, H, W) -> (B, H, W, C) float32."""
    return pixels(channels_last(maps.float()))


@_convolve.register_kernel("cuda")
def _(features: Tensor, kernels: Tensor) -> Tensor:
    from mula_lib.kernels import depthwise_triton

    return depthwise_triton.convolve(channels_last(features), channels_last(kernels))


@_correlate.register_kernel("cuda")
def _(upstream: Tensor, features: Tensor, size: int) -> Tensor:
    from mula_lib.kernels import depthwise_triton

    return depthwise_triton.correlate(channels_last(upstream), channels_last(features), size)


@_convolve.register_fake
def _(features: Tensor, kernels: Tensor) -> Tensor:
    return torch.empty_like(features, memory_format=torch.channels_last)


@_correlate.register_fake
def _(upstream: Tensor, features: Tensor, size: int) -> Tensor:
    return features.new_empty(*features.shape[:2], size, size)


def _backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
    features, kernels = ctx.saved_tensors
    return _convolve(upstream, kernels.flip(2, 3)), _correlate(upstream, features, kernels.shape[-1])


_convolve.register_autograd(_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


@register_flop_formula([torch.ops.mula.dynamic_depthwise, torch.ops.mula.dynamic_depthwise_kernels])
def _(first: torch.Size, second: torch.Size, *size: int, out_shape: torch.Size, **_: object) -> int:
    return 2 * math.prod(first) * (size or second)[-1] ** 2


def compiled(function: Callable) -> Callable:
    """``function`` as machine code, cached on disk between processes."""
    options = {"fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # neither the package's folder nor the user's cache folder is writable
        return numba.njit(function, **options)


@lru_cache
def _loops(size: int):
    """The convolution, and its gradient to the kernels, for a constant ``size`` of kernels, to unroll their rows.

    A row of cells is padded with zeros in the L1 cache and contributes to every row of the result that it reaches.
    """
    border = size // 2

    def on_every_row(to_kernels: bool) -> Callable:
        @compiled
        def loop(features, others, results):
            count, height, width, channels = features.shape
            row = np.zeros((width + 2 * border, channels), np.float32)
            for n in range(count):
                results[n] = _ZERO
                for y in range(height):
                    row[border : border + width] = features[n, y]
                    for i in range(max(y + border + 1 - height, 0), min(y + border + 1, size)):
                        reached = y + border - i
                        if to_kernels:
                            slope, result = others[n, reached], results[n, i]
                            for x in range(width):
                                for c in range(channels):
                                    for j in range(size):
                                        result[j, c] += slope[x, c] * row[x + j, c]
                        else:
                            kernel, result = others[n, i], results[n, reached]
                            for x in range(width):
                                for c in range(channels):
                                    total = result[x, c]
                                    for j in range(size):
                                        total += kernel[j, c] * row[x + j, c]
                                    result[x, c] = total

        return loop

    return on_every_row(False), on_every_row(True)
