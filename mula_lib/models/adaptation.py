"""MuLA's heart: kernels predicted from one task's features convolve the other's (Sec. 3.2, Eqs. 5-7, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.files import ConfigError
from mula_lib.kernels.convolution import Conv1x1, Conv3x3
from mula_lib.kernels.depthwise import dynamic_depthwise

Pair = tuple[Tensor, Tensor]


NORMS = ("none", "bn", "bn_relu", "relu")


@dataclass(frozen=True)
class AdaptationConfig:
    """How MuLA's dynamic convolution is built; the defaults are what measured best (``docs/adaptation.md``)."""

    kernel_size: int = 7  # h; odd
    plain_start: bool = False  # Kaiming adapters without a base kernel, as released
    unit_kernels: bool = True  # kernels at unit L2 norm per channel
    norm: str = "bn"  # on R*: "none" as in Eq. 6, "bn"; released: "bn_relu" (hourglass), "relu" (VGG)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ConfigError(f"norm={self.norm!r} of the adapted features; known: {', '.join(NORMS)}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={self.kernel_size}: dynamic kernels need an odd side; try 3, 5 or 7")


def released_adaptation(kernel_size: int, *, vgg: bool) -> AdaptationConfig:
    """The authors' code: Kaiming's weights, no base kernel, and ReLU behind U, in hourglasses with BN before it."""
    return AdaptationConfig(kernel_size, plain_start=True, unit_kernels=False, norm="relu" if vgg else "bn_relu")


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


class Interaction(nn.Module):
    """Base: keeps both representations as they are (``none``: independent networks)."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        return r_parsing, r_pose


class Adaptation(nn.Module):
    """One direction of MuLA: R̄ = R + R*(R; kernels from the other task's R), Eqs. 2, 6 and 7."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.adapter = ParameterAdapter(
            channels, config.kernel_size, plain_start=config.plain_start, unit_kernels=config.unit_kernels
        )
        self.dynamic = DynamicConv2d(channels, norm=config.norm)

    def forward(self, features: Tensor, guidance: Tensor) -> Tensor:
        """R of this task and R of the other -> R̄ of this task, all (B, C, H, W)."""
        return features + self.dynamic(features, self.adapter(guidance))


class Adapt(Interaction):
    """MuLA, and its one-way variants LA-Pose (``to_pose`` only) and LA-Parsing (``to_parsing`` only)."""

    def __init__(
        self, channels: int, config: AdaptationConfig, *, to_parsing: bool = True, to_pose: bool = True,
        detach: bool = False,
    ) -> None:
        super().__init__(channels, config)
        self.detach = detach
        self.to_parsing = Adaptation(channels, config) if to_parsing else None
        self.to_pose = Adaptation(channels, config) if to_pose else None

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        from_parsing, from_pose = (r_parsing.detach(), r_pose.detach()) if self.detach else (r_parsing, r_pose)
        refined_parsing = self.to_parsing(r_parsing, from_pose) if self.to_parsing else r_parsing
        refined_pose = self.to_pose(r_pose, from_parsing) if self.to_pose else r_pose
        return refined_parsing, refined_pose
