"""The dynamic depthwise convolution ⊗c, forward and backward, against the ways one could write it in PyTorch.

    python -m benchmarks.dynamic_convolution [--threads N]

The yardstick beside them is a *static* depthwise convolution of the same size: the same arithmetic with one kernel a
channel, for which the library has code of its own.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import compare, publish
from mula_lib.files import keep_freed_memory
from mula_lib.kernels import depthwise

PLAIN = "one grouped convolution"
CASES = {  # batch, channels, side, kernel: the paper's, and both trunks of the demo profile
    "paper: 8×256×64×64, 7×7": (8, 256, 64, 7),
    "demo HG: 12×32×24×24, 3×3": (12, 32, 24, 3),
    "demo VGG: 12×64×12×12, 3×3": (12, 64, 12, 3),
    "wide kernel: 24×32×24×24, 7×7": (24, 32, 24, 7),
}


def by_sample(features: Tensor, kernels: Tensor) -> Tensor:
    """A loop over the samples, each a depthwise convolution in channels-last."""
    size = kernels.shape[-1]
    return torch.cat(
        [
            F.conv2d(sample[None], kernel[:, None], padding=size // 2, groups=len(kernel))
            for sample, kernel in zip(features, kernels, strict=True)
        ]
    )


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


def by_unfolding(features: Tensor, kernels: Tensor) -> Tensor:
    """All windows side by side, then one product of each with its kernel."""
    batch, channels, height, width = features.shape
    size = kernels.shape[-1]
    windows = F.unfold(features, size, padding=size // 2).view(batch, channels, size * size, height * width)
    return torch.einsum("bckn,bck->bcn", windows, kernels.flatten(2)).view(batch, channels, height, width)


def ways_of(batch: int, channels: int, side: int, size: int) -> dict:
    """Every way as a function without arguments that does one forward and backward pass."""
    generator = torch.Generator().manual_seed(0)
    apart = torch.randn(batch, channels, side, side, generator=generator).requires_grad_()
    last = apart.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    kernels = torch.randn(batch, channels, size, size, generator=generator).requires_grad_()
    static = torch.randn(channels, 1, size, size, generator=generator).requires_grad_()
    upstream = torch.randn(batch, channels, side, side, generator=generator)

    def run(way, features: Tensor, weights: Tensor):
        slope = upstream.contiguous(
            memory_format=torch.channels_last if features is last else torch.contiguous_format
        )  # fmt: skip
        return lambda: torch.autograd.grad(way(features, weights), (features, weights), slope)

    def static_depthwise(features: Tensor, weights: Tensor) -> Tensor:
        return F.conv2d(features, weights, padding=size // 2, groups=channels)

    return {
        PLAIN: run(depthwise.reference, last, kernels),
        "the same, contiguous": run(depthwise.reference, apart, kernels),
        "loop over samples, channels-last": run(by_sample, last, kernels),
        "shift, multiply, add": run(by_shift, last, kernels),
        "unfold and einsum": run(by_unfolding, apart, kernels),
        "compiled loops (mula_lib)": run(depthwise.dynamic_depthwise, last, kernels),
        "static depthwise, channels-last": run(static_depthwise, last, static),
        "static depthwise, contiguous": run(static_depthwise, apart, static),
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
