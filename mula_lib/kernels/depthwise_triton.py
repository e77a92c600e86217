"""⊗c and its gradients on a GPU, channels-last, in float32 or bf16 with float32 sums.

Each program convolves a block of cells × channels of one image; the taps of a row are unrolled, and neighbors read
mostly the same cells, from the L1 cache. Written for Triton's interpreter and compiler alike
(``TRITON_INTERPRET=1`` runs it on a CPU, as the tests do).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def convolve(features: Tensor, kernels: Tensor) -> Tensor:
    """(B, C, H, W) and (B, C, h, h), both channels-last -> (B, C, H, W)."""
    batch, channels, height, width = features.shape
    result = torch.empty_like(features, memory_format=torch.channels_last)
    grid = (triton.cdiv(height * width, 32), triton.cdiv(channels, 32), batch)
    _convolve[grid](features, kernels, result, height, width, channels, kernels.shape[-1], 32, 32)
    return result


def correlate(upstream: Tensor, features: Tensor, size: int) -> Tensor:
    """The gradient with respect to the kernels, (B, C, h, h) contiguous; the arguments are channels-last."""
    batch, channels, height, width = features.shape
    result = features.new_empty(batch, channels, size, size)
    grid = (size, triton.cdiv(channels, 32), batch)
    taps = triton.next_power_of_2(size)
    _correlate[grid](upstream, features, result, height, width, channels, size, taps, 16, 32)
    return result


@triton.jit
def _convolve(
    features, kernels, result, height, width, channels,
    size: tl.constexpr, CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    image = tl.program_id(2).to(tl.int64)
    features += image * height * width * channels
    result += image * height * width * channels
    kernels += image * size * size * channels
    total = tl.zeros((CELLS, LANES), tl.float32)
    for i in range(size):
        for j in tl.static_range(size):
            row, column = cell // width + i - size // 2, cell % width + j - size // 2
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at = (row * width + column)[:, None] * channels + lane[None, :]
            value = tl.load(features + at, inside[:, None] & (lane < channels)[None, :], 0.0)
            weight = tl.load(kernels + (i * size + j) * channels + lane, lane < channels, 0.0)
            total += value.to(tl.float32) * weight.to(tl.float32)[None, :]
    at = cell[:, None] * channels + lane[None, :]
    tl.store(result + at, total, (cell < height * width)[:, None] & (lane < channels)[None, :])


@triton.jit
def _correlate(
    upstream, features, to_kernels, height, width, channels,
    size: tl.constexpr, TAPS: tl.constexpr, CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of one row of a kernel's taps, ``TAPS`` ≥ h of them side by side, over all cells."""
    i, tap = tl.program_id(0), tl.arange(0, TAPS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    image = tl.program_id(2).to(tl.int64)
    features += image * height * width * channels
    upstream += image * height * width * channels
    total = tl.zeros((TAPS, CELLS, LANES), tl.float32)
    for start in range(0, height * width, CELLS):
        cell = start + tl.arange(0, CELLS)
        there = (cell < height * width)[:, None] & (lane < channels)[None, :]
        slope = tl.load(upstream + cell[:, None] * channels + lane[None, :], there, 0.0)
        row, column = cell // width + i - size // 2, (cell % width)[None, :] + tap[:, None] - size // 2
        inside = ((row >= 0) & (row < height))[None, :] & (column >= 0) & (column < width) & (tap < size)[:, None]
        at = (row[None, :] * width + column)[:, :, None] * channels + lane[None, None, :]
        value = tl.load(features + at, inside[:, :, None] & there[None, :, :], 0.0)
        total += value.to(tl.float32) * slope.to(tl.float32)[None, :, :]
    at = ((image * channels + lane)[None, :] * size + i) * size + tap[:, None]
    tl.store(to_kernels + at, tl.sum(total, axis=1), (tap < size)[:, None] & (lane < channels)[None, :])
