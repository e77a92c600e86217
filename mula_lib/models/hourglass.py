"""The stacked hourglass trunk of Table 2 (Sec. 3.2), in the structure of the authors' released network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = 4  # halvings inside one hourglass
STRIDE = 4  # of the stem
PAPER_WIDTH = 256


class PreActivationResidual(nn.Module):
    """BN-ReLU-conv bottleneck (1×1, 3×3, 1×1) with a projected shortcut where the channels change.

    (B, in_channels, H, W) -> (B, out_channels, H, W)
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = out_channels // 2
        self.body = nn.Sequential(
            *_norm_relu(in_channels), nn.Conv2d(in_channels, inner, 1, bias=False),
            *_norm_relu(inner), nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            *_norm_relu(inner), nn.Conv2d(inner, out_channels, 1, bias=False),
        )  # fmt: skip
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(*_norm_relu(in_channels), nn.Conv2d(in_channels, out_channels, 1, bias=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(self.shortcut(x))


class Bottleneck(nn.Module):
    """Conv-BN-ReLU bottleneck of the stem, with its shortcut: (B, in_channels, H, W) -> (B, out_channels, H, W).

    ``finished`` adds the closing BN and ReLU and a projected shortcut; without it the sum stays as it is, for the
    pre-activation residual that follows.
    """

    def __init__(self, in_channels: int, out_channels: int, *, finished: bool) -> None:
        super().__init__()
        inner = out_channels // 2
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, inner, 1, bias=False), *_norm_relu(inner),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False), *_norm_relu(inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        self.close: nn.Module = nn.Identity()
        if finished:
            self.body.append(nn.BatchNorm2d(out_channels))
            projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
            self.close = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.close(self.body(x).add_(self.shortcut(x)))


class Stem(nn.Module):
    """Image -> F(1): 7×7/2, residual, pool, residuals; (B, 3, H, W) -> (B, width, H/4, W/4)."""

    stride = STRIDE

    def __init__(self, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        quarter, half = width // 4, width // 2
        self.layers = nn.Sequential(
            nn.Conv2d(3, quarter, 7, stride=2, padding=3), *_norm_relu(quarter),
            Bottleneck(quarter, half, finished=True),
            nn.MaxPool2d(2),
            Bottleneck(half, half, finished=False),
            PreActivationResidual(half, width),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> F(1), (B, width, H/4, W/4)."""
        return self.layers(image)


class Hourglass(nn.Module):
    """One hourglass: nine groups of ``units`` residuals, four down, one at the bottom, four up; same size out.

    Maps of any size pass: pooling rounds an odd side up, and upsampling goes to the size of the skip connection, which
    at the paper's 64² is exactly a doubling.
    """

    def __init__(self, width: int = PAPER_WIDTH, units: int = 1, *, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.down = nn.ModuleList(_residual_group(width, units) for _ in range(DEPTH))
        self.bottom = _residual_group(width, units)
        self.up = nn.ModuleList(_residual_group(width, units) for _ in range(DEPTH))
        self.close = nn.Sequential(*_norm_relu(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, width, h, w)."""
        skips = []
        for group in self.down:
            x = group(x)
            skips.append(x)
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = self.bottom(x)
        for group, skip in zip(self.up, reversed(skips), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=self.align_corners)
            x = group(x.add_(skip))
        return self.close(x)


class HourglassEncoder(nn.Module):
    """E of one stage: hourglass, then 1×1-BN-ReLU; F(t) -> R(t), both (B, width, h, w)."""

    def __init__(self, width: int = PAPER_WIDTH, units: int = 1, *, align_corners: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Hourglass(width, units, align_corners=align_corners), nn.Conv2d(width, width, 1), *_norm_relu(width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """F(t) -> R(t)."""
        return self.layers(features)


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def _residual_group(width: int, units: int) -> nn.Sequential:
    return nn.Sequential(*(PreActivationResidual(width, width) for _ in range(units)))
