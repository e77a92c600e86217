"""The paper's ⊗c on a CPU: each channel of each image convolved with a kernel of its own (Sec. 3.2).

Libraries have depthwise convolutions whose kernels are shared by the batch; folding the batch into the channels makes
theirs fit, at the price of two changes of layout and of a batch of one with thousands of groups. Here eight channels
at a time are lifted out of the channels-last tensor into padded planes that stay in the second cache, and each plane is
convolved there row by row. With 256 channels of 64×64 and 7×7 kernels, forward and backward together take less than
half the time of PyTorch's *static* depthwise convolution (``python -m benchmarks.dynamic_convolution``).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.kernels.depthwise_small import GROUP as SMALL_GROUP
from mula_lib.kernels.depthwise_small import LARGEST as LARGEST_SMALL
from mula_lib.kernels.depthwise_small import small_loops
from mula_lib.kernels.jit import applies, channels_last, compiled, pixels, share

BLOCK = 8  # channels lifted at once: half a cache line, and few enough planes for the second cache
GROUP = 64  # channels of one image that one thread takes at a time
CHUNK = 1024  # cells of a plane handled at a time: with the rows around them they stay in the first cache
TAPS = 4  # weights whose gradients are summed side by side
_ZERO = np.float32(0)


def dynamic_depthwise(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every channel of every sample with a kernel of its own, at the same size, padded with zeros.

    Args:
        features: (B, C, H, W).
        kernels: (B, C, h, h) with h odd.

    Returns:
        (B, C, H, W); channels-last wherever the compiled loops apply: float32 on the CPU and C a multiple of 8.
    """
    if features.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # the loops are of float32, and faster
        with torch.autocast("cpu", enabled=False):
            return dynamic_depthwise(features.float(), kernels.float())
    if applies(features, kernels) and features.shape[1] % BLOCK == 0 and features.numel():
        return _DynamicDepthwise.apply(features, kernels)
    return reference(features, kernels)


def reference(features: Tensor, kernels: Tensor) -> Tensor:
    """The same by one grouped convolution over the batch folded into the channels: exact, and good on a GPU."""
    batch, channels, height, width = features.shape
    size = kernels.shape[-1]
    folded = F.conv2d(
        features.reshape(1, batch * channels, height, width),
        kernels.reshape(batch * channels, 1, size, size),
        padding=size // 2,
        groups=batch * channels,
    )
    return folded.reshape(batch, channels, height, width)


class _DynamicDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, kernels: Tensor) -> Tensor:
        features, kernels = channels_last(features), kernels.contiguous()
        ctx.save_for_backward(features, kernels)
        result = torch.empty_like(features)
        inputs, filters, outputs = pixels(features), kernels.detach().numpy(), pixels(result)
        (forward, _), group = _loops(kernels.shape[-1])
        _share_channels(
            lambda image, start, stop: forward(inputs[image], filters[image], outputs[image], start, stop),
            features,
            group,
        )
        return result

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        features, kernels = ctx.saved_tensors
        to_features, to_kernels = torch.empty_like(features), torch.empty_like(kernels)
        inputs, filters, slopes = pixels(features), kernels.detach().numpy(), pixels(channels_last(upstream))
        input_slopes, filter_slopes = pixels(to_features), to_kernels.numpy()
        (_, backward), group = _loops(kernels.shape[-1])
        _share_channels(
            lambda image, start, stop: backward(
                inputs[image], filters[image], slopes[image], input_slopes[image], filter_slopes[image], start, stop
            ),
            features,
            group,
        )
        return to_features, to_kernels


def _loops(size: int):
    """(forward, backward) for kernels of ``size``, and how many channels of an image they take at a time."""
    return (small_loops(size), SMALL_GROUP) if size <= LARGEST_SMALL else (plane_loops(size), GROUP)


def _share_channels(work, features: Tensor, group: int) -> None:
    """Call ``work(image, first channel, last channel + 1)`` for all images and groups of channels."""
    batch, channels = features.shape[:2]
    groups = -(-channels // group)

    def task(number: int) -> None:
        image, part = divmod(number, groups)
        work(image, part * group, min((part + 1) * group, channels))

    share(task, batch * groups)


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
def plane_loops(size: int):
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
