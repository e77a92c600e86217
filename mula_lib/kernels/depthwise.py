"""The paper's ⊗c: each channel of each image convolved with a kernel of its own (Sec. 3.2).

Libraries have depthwise convolutions whose kernels are shared by the batch. Folding the batch into the channels makes
them fit, at the price of one image with thousands of groups. On a CPU, maps are copied into planes padded with zeros,
and each plane is convolved row by row in the first cache; with 7×7 kernels, forward and backward together take no
longer than PyTorch's *static* depthwise convolution (``python -m benchmarks dynamic_convolution``). On a GPU with
Triton the kernels of :mod:`depthwise_triton` run, and the folded convolution everywhere else.
"""

import math
import shutil
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mula_lib.kernels import channels_last, compiled

CHUNK = 1024  # cells of a plane handled at a time: with the rows around them they stay in the first cache
SMALL = 3000  # multiply-adds a plane, below which the grouped convolution is faster on a CPU
TAPS = 4  # weights whose gradients are summed side by side
HAS_TRITON = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))  # and its C compiler
_ZERO = np.float32(0)


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
    small = features[0, 0].numel() * kernels[0, 0].numel() < SMALL
    if floats and (HAS_TRITON if device == "cuda" else not small):
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
    height, width, size = *features.shape[-2:], kernels.shape[-1]
    stride = width + size - 1
    planes, weights = _planes(features, size), kernels.detach().float().reshape(-1, size, size)
    result = torch.empty(len(planes), height * stride)
    _loops(size)[0](planes.numpy(), stride, weights.numpy(), result.numpy())
    return channels_last(result.view(*features.shape[:3], stride)[..., :width]).to(features.dtype)


@torch.library.custom_op("mula::dynamic_depthwise_kernels", mutates_args=(), device_types="cpu")
def _correlate(upstream: Tensor, features: Tensor, size: int) -> Tensor:
    """The gradient to the kernels."""
    result = torch.empty(*features.shape[:2], size, size)
    height, stride = features.shape[-2], features.shape[-1] + size - 1
    planes = _planes(features, size), _planes(upstream, size)
    _loops(size)[1](*(each.numpy() for each in planes), stride, height, result.flatten(0, 1).numpy())
    return result.to(features.dtype)


def _planes(maps: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B · C, cells) flat float32 planes of rows padded with zeros, and a few zeros more."""
    height, width, border = *maps.shape[-2:], size // 2
    cells = (height + 2 * border) * (width + 2 * border)
    planes = torch.zeros(*maps.shape[:2], cells + 2 * border + TAPS)
    rows = planes[..., :cells].unflatten(2, (-1, width + 2 * border))
    rows[..., border : border + height, border : border + width] = maps.detach()
    return planes.flatten(0, 1)


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


@lru_cache
def _loops(size: int):
    """The convolution, and its gradient to the kernels, for kernels of ``size``: a constant, to unroll their rows.

    Planes are flat, and so is the loop over them: what a row's last cells take from the next row falls on the border,
    which is zero where it is read and left out where it is written.
    """
    border = size // 2

    @compiled
    def convolve(planes, stride, kernels, results):
        for n in range(len(planes)):
            padded, kernel, out = planes[n], kernels[n], results[n]
            for start in range(0, len(out), CHUNK):
                here = out[start : start + CHUNK]
                here[:] = _ZERO
                for i in range(size):
                    source = padded[start + i * stride :]
                    for x in range(len(here)):
                        total = here[x]
                        for j in range(size):
                            total += kernel[i, j] * source[x + j]
                        here[x] = total

    @compiled
    def correlate(planes, slopes, stride, height, results):
        sums = np.empty((size, size + TAPS), np.float32)
        cells = height * stride - 2 * border
        for n in range(len(planes)):
            padded, padded_slope = planes[n], slopes[n]
            sums[:] = _ZERO
            for start in range(0, cells, CHUNK):
                slope = padded_slope[border * stride + border + start :]
                for i in range(size):
                    for j in range(0, size, TAPS):
                        source = padded[start + i * stride + j :]
                        total0, total1, total2, total3 = _ZERO, _ZERO, _ZERO, _ZERO
                        for x in range(min(CHUNK, cells - start)):
                            total0 += slope[x] * source[x]
                            total1 += slope[x] * source[x + 1]
                            total2 += slope[x] * source[x + 2]
                            total3 += slope[x] * source[x + 3]
                        sums[i, j] += total0
                        sums[i, j + 1] += total1
                        sums[i, j + 2] += total2
                        sums[i, j + 3] += total3
            results[n] = sums[:, :size]

    return convolve, correlate
