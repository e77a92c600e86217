"""MuLA itself: kernels predicted from one task's features convolve the other's (Sec. 3.2, Eqs. 5-7, Fig. 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.files import ConfigError
from mula_lib.kernels.depthwise import dynamic_depthwise

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
    """The authors' code: Kaiming weights, no base kernel, and ReLU after U, with BN before it in hourglasses."""
    return AdaptationConfig(kernel_size, plain_start=True, unit_kernels=False, norm="relu" if vgg else "bn_relu")


class ParameterAdapter(nn.Module):
    """A of Fig. 3b: the other task's R -> depthwise kernels ψ̃, (B, C, H, W) -> (B, C, h, h).

    Three convolutions and two poolings, no nonlinearity. On the paper's feature maps (64² with h = 7, 32² with
    h = 3) this is exactly the released layer list. On other sizes each pooling halves the map as long as it still
    covers h×h, and the last one pools to h×h.

    The prediction is a *difference* from a learned base kernel. The base starts as the identity (a delta) and the last
    convolution at zero, so that training starts from a plain network and not from a random filter for each image;
    ``plain_start`` keeps Kaiming weights and has no base. ``unit_kernels`` divides each kernel by its L2 norm, so that
    the adapter sets the shape of a filter, and U and V its scale.
    """

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.kernel_size, self.unit_kernels = config.kernel_size, config.unit_kernels
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=2)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.base: nn.Parameter | None = None
        if not config.plain_start:
            size = self.kernel_size
            delta = torch.zeros(channels, size, size)
            delta[:, size // 2, size // 2] = 1
            self.base = nn.Parameter(delta)

    def reset_start(self) -> None:
        """Start the predicted difference at zero; called after the network's general initialization."""
        if self.base is not None:
            nn.init.zeros_(self.conv3.weight)
            nn.init.zeros_(self.conv3.bias)

    def forward(self, guidance: Tensor) -> Tensor:
        """R (B, C, H, W) of one task -> kernels (B, C, h, h) for the other."""
        size = self.kernel_size
        x = self.conv1(guidance)
        if min(x.shape[-2:]) // 2 >= size:
            x = F.max_pool2d(x, 2)
        x = self.conv2(x)
        halves = x.shape[-2] // 2 == x.shape[-1] // 2 == size
        x = F.max_pool2d(x, 2) if halves else F.adaptive_max_pool2d(x, size)
        kernels = self.conv3(x)
        if self.base is not None:
            kernels = kernels + self.base
        if self.unit_kernels:
            kernels = F.normalize(kernels.flatten(2), dim=2).view_as(kernels)
        return kernels


def closing(channels: int, norm: str) -> nn.Sequential:
    """What follows U in R*: nothing, as in Eq. 6; BN; or, as in the released networks, BN and ReLU, or ReLU alone.

    BN alone starts at zero (γ = 0), so that R̄ = R at first and a task admits the other's guidance as it proves useful.
    With a ReLU after it that start would never be left, so there γ starts at one.
    """
    layers = nn.Sequential()
    if norm in ("bn", "bn_relu"):
        layers.append(nn.BatchNorm2d(channels))
    if norm == "bn":
        nn.init.zeros_(layers[0].weight)
    if norm in ("bn_relu", "relu"):
        layers.append(nn.ReLU(inplace=True))
    return layers


class DynamicConv2d(nn.Module):
    """Eq. 6: R* = U ⊗ ψ̃ ⊗c V ⊗ R, with 1×1 convolutions U and V around the dynamic depthwise one."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.V = nn.Conv2d(channels, channels, 1)
        self.U = nn.Conv2d(channels, channels, 1)
        self.close = closing(channels, config.norm)

    def forward(self, features: Tensor, kernels: Tensor) -> Tensor:
        """R (B, C, H, W) and ψ̃ (B, C, h, h) -> R* (B, C, H, W)."""
        return self.close(self.U(dynamic_depthwise(self.V(features), kernels)))


class Adaptation(nn.Module):
    """One direction of MuLA: R̄ = R + R*, with kernels for R* from the other task's R (Eqs. 2, 6 and 7)."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.adapter = ParameterAdapter(channels, config)
        self.dynamic = DynamicConv2d(channels, config)

    def forward(self, features: Tensor, guidance: Tensor) -> Tensor:
        """R of this task and R of the other -> R̄ of this task, all (B, C, H, W)."""
        return features + self.dynamic(features, self.adapter(guidance))


class Interaction(nn.Module):
    """Base class, and ``none``: leaves both representations as they are (independent networks)."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> tuple[Tensor, Tensor]:
        return r_parsing, r_pose


class Exchange(Interaction):
    """One ``direction`` module for each task, guided by the other; with :class:`Adaptation`, this is MuLA.

    ``to_pose`` alone is LA-Pose, ``to_parsing`` alone LA-Parsing; ``detach`` passes no gradient to the other task.
    """

    def __init__(
        self, channels: int, config: AdaptationConfig, direction: Callable[..., nn.Module] = Adaptation, *,
        to_parsing: bool = True, to_pose: bool = True, detach: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(channels, config)
        self.detach = detach
        self.to_parsing = direction(channels, config) if to_parsing else None
        self.to_pose = direction(channels, config) if to_pose else None

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> tuple[Tensor, Tensor]:
        from_parsing, from_pose = (r_parsing.detach(), r_pose.detach()) if self.detach else (r_parsing, r_pose)
        refined_parsing = self.to_parsing(r_parsing, from_pose) if self.to_parsing else r_parsing
        refined_pose = self.to_pose(r_pose, from_parsing) if self.to_pose else r_pose
        return refined_parsing, refined_pose
