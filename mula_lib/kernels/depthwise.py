"""The paper's ⊗c: each channel of each image convolved with a kernel of its own (Sec. 3.2).

Libraries have depthwise convolutions whose kernels are shared by the batch. Folding the batch into the channels makes
them fit, at the price of two changes of layout and of one image with thousands of groups. On a CPU, eight channels at a
time are lifted out of the channels-last tensor into padded planes that stay in the second cache, and each plane is
convolved there row by row. With 256 channels of 64×64 and 7×7 kernels, forward and backward together take less than
half the time of PyTorch's *static* depthwise convolution (``python -m benchmarks dynamic_convolution``). On a GPU with
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

from mula_lib.kernels import channels_last, compiled, parallel_map, pixels

BLOCK = 8  # channels lifted at once: half a cache line, and few enough planes for the second cache
GROUP = 64  # channels of one image that one thread takes at a time
CHUNK = 1024  # cells of a plane handled at a time: with the rows around them they stay in the first cache
TAPS = 4  # weights whose gradients are summed side by side
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
    if floats and (has_triton() if device == "cuda" else features.shape[1] % BLOCK == 0):
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


@lru_cache
def has_triton() -> bool:
    """Whether Triton and the C compiler that it needs are installed."""
    return find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


@torch.library.custom_op("mula::dynamic_depthwise", mutates_args=(), device_types="cpu")
def _convolve(features: Tensor, kernels: Tensor) -> Tensor:
    maps, weights = channels_last(features.float()), kernels.float().contiguous()
    result = torch.empty_like(maps)
    inputs, filters, outputs = pixels(maps), weights.detach().numpy(), pixels(result)
    forward, _ = _loops(kernels.shape[-1])
    _for_channels(lambda image, *part: forward(inputs[image], filters[image], outputs[image], *part), maps)
    return result.to(features.dtype)


@torch.library.custom_op("mula::dynamic_depthwise_backward", mutates_args=(), device_types="cpu")
def _gradients(upstream: Tensor, features: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    slope, maps = channels_last(upstream.float()), channels_last(features.float())
    weights = kernels.float().contiguous()
    to_maps, to_weights = torch.empty_like(maps), torch.empty_like(weights)
    arrays = pixels(maps), weights.detach().numpy(), pixels(slope), pixels(to_maps), to_weights.numpy()
    _, backward = _loops(kernels.shape[-1])
    _for_channels(lambda image, *part: backward(*(array[image] for array in arrays), *part), maps)
    return to_maps.to(features.dtype), to_weights.to(kernels.dtype)


@_convolve.register_kernel("cuda")
def _(features: Tensor, kernels: Tensor) -> Tensor:
    from mula_lib.kernels import depthwise_triton

    return depthwise_triton.convolve(channels_last(features), channels_last(kernels))


@_gradients.register_kernel("cuda")
def _(upstream: Tensor, features: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    from mula_lib.kernels import depthwise_triton

    return depthwise_triton.gradients(*map(channels_last, (upstream, features, kernels)))


@_convolve.register_fake
def _(features: Tensor, kernels: Tensor) -> Tensor:
    return torch.empty_like(features, memory_format=torch.channels_last)


@_gradients.register_fake
def _(upstream: Tensor, features: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    to_kernels = torch.empty_like(kernels, memory_format=torch.contiguous_format)
    return torch.empty_like(features, memory_format=torch.channels_last), to_kernels


_convolve.register_autograd(
    lambda ctx, upstream: _gradients(upstream, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@register_flop_formula(torch.ops.mula.dynamic_depthwise)
def _(features: torch.Size, kernels: torch.Size, **_: object) -> int:
    return 2 * math.prod(features) * kernels[-1] ** 2


@register_flop_formula(torch.ops.mula.dynamic_depthwise_backward)
def _(upstream: torch.Size, features: torch.Size, kernels: torch.Size, **_: object) -> int:
    return 4 * math.prod(features) * kernels[-1] ** 2


def _for_channels(work, features: Tensor) -> None:
    """Call ``work(image, first channel, last channel + 1)`` for each image and group of channels."""
    batch, channels = features.shape[:2]
    groups = -(-channels // GROUP)

    def task(number: int) -> None:
        image, part = divmod(number, groups)
        work(image, part * GROUP, min((part + 1) * GROUP, channels))

    parallel_map(task, batch * groups)


@compiled
def _lift(image, first, border, planes):
    """Copy ``BLOCK`` channels of an (H, W, C) image into flat planes of padded rows."""
    height, width, _ = image.shape
    stride = width + 2 * border
    for y in range(height):
        start = (y + border) * stride + border
        for x in range(width):
            pixel = image[y, x]
            for c in range(BLOCK):
                planes[c, start + x] = pixel[first + c]


@compiled
def _lower(planes, first, border, image):
    """Copy flat planes, whose rows end in 2·border cells of no meaning, back to channels of an (H, W, C) image."""
    height, width, _ = image.shape
    stride = width + 2 * border
    for y in range(height):
        start = y * stride
        for x in range(width):
            pixel = image[y, x]
            for c in range(BLOCK):
                pixel[first + c] = planes[c, start + x]


@lru_cache
def _loops(size: int):
    """Forward and backward for kernels of ``size``: a constant, so that the loops over a kernel's row are unrolled.

    Planes are flat, and so is the loop over them: what a row's last cells take from the next row falls on the border,
    which is zero where it is read and never lowered where it is written.
    """
    border = size // 2

    @compiled
    def convolve(padded, stride, kernel, out):
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
    def correlate(padded, stride, padded_slope, cells, out):
        sums = np.zeros((size, size + TAPS), np.float32)
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
        out[:] = sums[:, :size]

    @compiled
    def forward(image, kernels, result, start, stop):
        height, width, _ = image.shape
        stride = width + 2 * border
        padded = np.zeros((BLOCK, (height + 2 * border) * stride + 2 * border + TAPS), np.float32)
        planes = np.empty((BLOCK, height * stride), np.float32)
        for first in range(start, stop, BLOCK):
            _lift(image, first, border, padded)
            for c in range(BLOCK):
                convolve(padded[c], stride, kernels[first + c], planes[c])
            _lower(planes, first, border, result)

    @compiled
    def backward(image, kernels, slopes, image_slopes, kernel_slopes, start, stop):
        height, width, _ = image.shape
        stride = width + 2 * border
        padded = np.zeros((BLOCK, (height + 2 * border) * stride + 2 * border + TAPS), np.float32)
        padded_slopes = np.zeros_like(padded)
        planes = np.empty((BLOCK, height * stride), np.float32)
        turned = np.empty((size, size), np.float32)
        for first in range(start, stop, BLOCK):
            _lift(image, first, border, padded)
            _lift(slopes, first, border, padded_slopes)
            for c in range(BLOCK):
                correlate(padded[c], stride, padded_slopes[c], height * stride - 2 * border, kernel_slopes[first + c])
                for i in range(size):
                    for j in range(size):
                        turned[i, j] = kernels[first + c, size - 1 - i, size - 1 - j]
                convolve(padded_slopes[c], stride, turned, planes[c])
            _lower(planes, first, border, image_slopes)

    return forward, backward
