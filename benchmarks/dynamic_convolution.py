"""The dynamic depthwise convolution ⊗c, forward and backward, against the ways one could write it in PyTorch.

The yardstick is a *static* depthwise convolution of the same size: the same arithmetic with one kernel per channel, for
which the library has code of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Row, compare
from mula_lib.kernels import channels_last, depthwise, keep_freed_memory

CASES = {  # batch, channels, side, kernel: of the paper's hourglass, and of the demo's networks
    "paper: 2×256×64×64, 7×7": (2, 256, 64, 7),
    "demo: 24×64×24×24, 7×7": (24, 64, 24, 7),
    "demo, VGG: 24×64×16×16, 3×3": (24, 64, 16, 3),
}


def by_sample(features: Tensor, kernels: Tensor) -> Tensor:
    """A loop over the samples, each a depthwise convolution in channels-last."""
    pairs = zip(features, kernels, strict=True)
    return torch.cat([F.conv2d(x[None], k[:, None], padding=k.shape[-1] // 2, groups=len(k)) for x, k in pairs])


def by_shift(features: Tensor, kernels: Tensor) -> Tensor:
    """One multiply-add of the whole tensor for each tap."""
    size = kernels.shape[-1]
    height, width = features.shape[-2:]
    padded = F.pad(features, [size // 2] * 4)
    total = torch.zeros_like(features)
    for i in range(size):
        for j in range(size):
            total = total + padded[:, :, i : i + height, j : j + width] * kernels[:, :, i, j, None, None]
    return total


def ways_of(batch: int, channels: int, side: int, size: int, device: str = "cpu") -> dict:
    """Every way as a function without arguments that does one forward and backward pass."""
    how = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    features = channels_last(torch.randn(batch, channels, side, side, **how)).requires_grad_()
    kernels = torch.randn(batch, channels, size, size, **how).requires_grad_()
    static = torch.randn(channels, 1, size, size, **how).requires_grad_()
    upstream = channels_last(torch.randn(batch, channels, side, side, **how))

    def both(way, weights: Tensor):
        return lambda: torch.autograd.grad(way(features, weights), (features, weights), upstream)

    compiled = {"shift, multiply, add, compiled": both(torch.compile(by_shift), kernels)} if device == "cuda" else {}
    return compiled | {
        "one grouped convolution": both(depthwise.reference, kernels),
        "loop over samples": both(by_sample, kernels),
        "shift, multiply, add": both(by_shift, kernels),
        f"{'Triton' if device == 'cuda' else 'compiled loops'} (mula_lib)": both(depthwise.dynamic_depthwise, kernels),
        "static depthwise": both(lambda x, k: F.conv2d(x, k, padding=size // 2, groups=channels), static),
    }


def run() -> list[Row]:
    """Measure every case."""
    keep_freed_memory()
    cases = (compare("dynamic_convolution", case, ways_of(*sizes), items=sizes[0]) for case, sizes in CASES.items())
    return [row for rows in cases for row in rows]
