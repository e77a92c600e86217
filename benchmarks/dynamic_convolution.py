"""The dynamic depthwise convolution ⊗c, forward and backward, against the ways one could write it in PyTorch.

    python -m benchmarks.dynamic_convolution [--threads N]

The yardstick is a *static* depthwise convolution of the same size: the same arithmetic with one kernel per channel, for
which the library has code of its own.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import compare, publish
from mula_lib.kernels import channels_last, depthwise, keep_freed_memory

PLAIN = "one grouped convolution"
CASES = {  # batch, channels, side, kernel: the paper's, and both trunks of the demo profile
    "paper: 8×256×64×64, 7×7": (8, 256, 64, 7),
    "demo HG: 24×64×24×24, 7×7": (24, 64, 24, 7),
    "demo VGG: 24×64×12×12, 3×3": (24, 64, 12, 3),
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


def ways_of(batch: int, channels: int, side: int, size: int) -> dict:
    """Every way as a function without arguments that does one forward and backward pass."""
    generator = torch.Generator().manual_seed(0)
    features = channels_last(torch.randn(batch, channels, side, side, generator=generator)).requires_grad_()
    kernels = torch.randn(batch, channels, size, size, generator=generator).requires_grad_()
    static = torch.randn(channels, 1, size, size, generator=generator).requires_grad_()
    upstream = channels_last(torch.randn(batch, channels, side, side, generator=generator))

    def run(way, weights: Tensor):
        return lambda: torch.autograd.grad(way(features, weights), (features, weights), upstream)

    return {
        PLAIN: run(depthwise.reference, kernels),
        "loop over samples": run(by_sample, kernels),
        "shift, multiply, add": run(by_shift, kernels),
        "compiled loops (mula_lib)": run(depthwise.dynamic_depthwise, kernels),
        "static depthwise": run(lambda x, k: F.conv2d(x, k, padding=size // 2, groups=channels), static),
    }


def main() -> None:
    """Measure every case and publish it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    keep_freed_memory()
    for case, sizes in CASES.items():
        label = case if threads == 1 else f"{case}, {threads} threads"
        publish(compare("dynamic convolution", label, ways_of(*sizes), plain=PLAIN, items=sizes[0], threads=threads))


if __name__ == "__main__":
    main()
