"""Ordinary convolutions, by whichever of PyTorch's ways is fastest for their size on a CPU.

Channels-last is right for nearly everything here, but oneDNN sums a 3×3 convolution's weight gradient over a large map
two to four times faster when the channels are apart, which is more than the two changes of layout cost. And with one
thread and few images PyTorch does not give 1×1 convolutions to oneDNN, which on large maps is up to 2.4 times as fast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.kernels.jit import applies

# With fewer channels (8 to 32 were measured) or on smaller maps the gradient is as fast in channels-last.
FEWEST_CHANNELS = 64
SMALLEST_MAP = 16 * 16
SMALLEST_MAP_1X1 = 20 * 20  # cells from which oneDNN is the faster one
_GEOMETRY = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, not transposed, no groups


class Conv3x3(nn.Conv2d):
    """``nn.Conv2d`` of 3×3 weights, stride 1 and padding 1: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        channels, cells = min(self.in_channels, self.out_channels), x.shape[-2] * x.shape[-1]
        large = channels >= FEWEST_CHANNELS and cells >= SMALLEST_MAP
        if large and applies(x, self.weight) and torch.is_grad_enabled() and self.weight.requires_grad:
            return _Conv3x3.apply(x, self.weight, self.bias)
        return super().forward(x)


class Conv1x1(nn.Conv2d):
    """``nn.Conv2d`` of 1×1 weights: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if applies(x) and x.shape[-2] * x.shape[-1] >= SMALLEST_MAP_1X1:
            # There is nothing to dilate in one cell; but dilated convolutions always go to oneDNN.
            return F.conv2d(x, self.weight, self.bias, dilation=2)
        return super().forward(x)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x, _, to_bias = torch.ops.aten.convolution_backward(
            slope, x, weight, [len(weight)], *_GEOMETRY, [ctx.needs_input_grad[0], False, ctx.needs_input_grad[2]]
        )
        apart = (tensor.contiguous() for tensor in (slope, x, weight))
        _, to_weight, _ = torch.ops.aten.convolution_backward(*apart, None, *_GEOMETRY, [False, True, False])
        return to_x, to_weight, to_bias
