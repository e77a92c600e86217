"""MuLA's heart: kernels predicted from one task's features convolve the other's (Sec. 3.2, Eqs. 5-7, Fig. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.kernels.convolution import Conv1x1, Conv3x3
from mula_lib.kernels.depthwise import dynamic_depthwise


class ParameterAdapter(nn.Module):
    """A of Fig. 3b: the other task's R -> depthwise kernels ψ̃, (B, C, H, W) -> (B, C, h, h).

    Three convolutions and two poolings, no nonlinearity. On the paper's feature maps (64² with h = 7, 32² with
    h = 3) this is exactly the released layer list; on other sizes each pooling halves while the map still covers
    h×h, and the last one settles on h×h.

    The predicted tensor is a *difference* from a learned base kernel. The base starts as the identity (a delta)
    and the last convolution at zero, so that training starts from a plain network and not from one random filter
    a sample; ``plain_start`` keeps Kaiming weights and no base instead. ``unit_kernels`` divides each kernel by
    its L2 norm, so that the adapter sets a filter's shape and U, V its scale.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, plain_start: bool = False, unit_kernels: bool = False
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.unit_kernels = unit_kernels
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=2)
        self.conv2 = Conv3x3(channels, channels)
        self.conv3 = Conv3x3(channels, channels)
        self.base: nn.Parameter | None = None
        if not plain_start:
            delta = torch.zeros(channels, kernel_size, kernel_size)
            delta[:, kernel_size // 2, kernel_size // 2] = 1
            self.base = nn.Parameter(delta)

    def reset_start(self) -> None:
        """Put the predicted difference at zero; called after the network's general initialisation."""
        if self.base is not None:
            nn.init.zeros_(self.conv3.weight)
            nn.init.zeros_(self.conv3.bias)

    def forward(self, guidance: Tensor) -> Tensor:
        """(B, C, H, W) of one task -> (B, C, h, h) kernels for the other."""
        x = self.conv1(guidance)
        if min(x.shape[-2:]) // 2 >= self.kernel_size:
            x = F.max_pool2d(x, 2)
        x = self.conv2(x)
        if x.shape[-2] // 2 == x.shape[-1] // 2 == self.kernel_size:
            x = F.max_pool2d(x, 2)
        else:
            x = F.adaptive_max_pool2d(x, self.kernel_size)
        kernels = self.conv3(x)
        if self.base is not None:
            kernels = kernels + self.base
        if self.unit_kernels:
            kernels = F.normalize(kernels.flatten(2), dim=2).view_as(kernels)
        return kernels


NORMS = ("none", "bn", "bn_relu", "relu")


class Closing(nn.Sequential):
    """What follows U in R*: nothing, as Eq. 6 is written; BN; BN and ReLU, or ReLU alone: the released networks.

    BN alone begins at zero (γ = 0), so that R̄ = R at first and a task admits the other's guidance as it proves useful.
    With a ReLU behind it that start would never be left, so there γ begins at one.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        if norm in ("bn", "bn_relu"):
            self.append(nn.BatchNorm2d(channels))
        if norm == "bn":
            nn.init.zeros_(self[0].weight)
        if norm in ("bn_relu", "relu"):
            self.append(nn.ReLU(inplace=True))


class DynamicConv2d(nn.Module):
    """Eq. 6: R* = U ⊗ ψ̃ ⊗c V ⊗ R, with 1×1 convolutions U and V around the dynamic depthwise one."""

    def __init__(self, channels: int, *, norm: str = "none") -> None:
        super().__init__()
        self.V = Conv1x1(channels, channels)
        self.U = Conv1x1(channels, channels)
        self.close = Closing(channels, norm)

    def forward(self, features: Tensor, kernels: Tensor) -> Tensor:
        """R (B, C, H, W) and ψ̃ (B, C, h, h) -> R*, (B, C, H, W)."""
        return self.close(self.U(dynamic_depthwise(self.V(features), kernels)))
