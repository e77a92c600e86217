"""The stacked hourglass trunk of Table 2 (Sec. 3.2), in the structure of the authors' released network."""

import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = 4  # halvings inside one hourglass
STRIDE = 4  # of the stem
PAPER_WIDTH = 256


class Residual(nn.Module):
    """body(x) + shortcut(x), then ``close`` if given: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, close: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut, self.close = body, shortcut or nn.Identity(), close or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.close(self.body(x).add_(self.shortcut(x)))


def pre_activation(in_channels: int, out_channels: int) -> Residual:
    """BN-ReLU-conv bottleneck (1×1, 3×3, 1×1) with a projected shortcut where the channels change."""
    inner = out_channels // 2
    body = nn.Sequential(
        *_norm_relu(in_channels), nn.Conv2d(in_channels, inner, 1, bias=False),
        *_norm_relu(inner), nn.Conv2d(inner, inner, 3, padding=1, bias=False),
        *_norm_relu(inner), nn.Conv2d(inner, out_channels, 1, bias=False),
    )  # fmt: skip
    if in_channels == out_channels:
        return Residual(body)
    return Residual(body, nn.Sequential(*_norm_relu(in_channels), nn.Conv2d(in_channels, out_channels, 1, bias=False)))


def bottleneck(in_channels: int, out_channels: int, *, finished: bool) -> Residual:
    """Conv-BN-ReLU bottleneck of the stem, with its shortcut.

    ``finished`` adds the closing BN and ReLU and a projected shortcut; without it the sum stays as it is, for the
    pre-activation residual that follows.
    """
    inner = out_channels // 2
    body = nn.Sequential(
        nn.Conv2d(in_channels, inner, 1, bias=False), *_norm_relu(inner),
        nn.Conv2d(inner, inner, 3, padding=1, bias=False), *_norm_relu(inner),
        nn.Conv2d(inner, out_channels, 1, bias=False),
    )  # fmt: skip
    if not finished:
        return Residual(body)
    projection = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    norms = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
    return Residual(body.append(norms[0]), nn.Sequential(projection, norms[1]), nn.ReLU(inplace=True))


class Stem(nn.Sequential):
    """Image -> F(1): 7×7/2, residual, pool, residuals; (B, 3, H, W) -> (B, width, H/4, W/4)."""

    def __init__(self, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        quarter, half = width // 4, width // 2
        self.layers = nn.Sequential(
            nn.Conv2d(3, quarter, 7, stride=2, padding=3), *_norm_relu(quarter),
            bottleneck(quarter, half, finished=True),
            nn.MaxPool2d(2),
            bottleneck(half, half, finished=False),
            pre_activation(half, width),
        )  # fmt: skip


class Hourglass(nn.Module):
    """One hourglass: nine groups of ``units`` residuals, four down, one at the bottom, four up; same size out.

    Maps of any size work: pooling rounds an odd side up, and upsampling goes to the size of the skip connection, which
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


class HourglassEncoder(nn.Sequential):
    """E of one stage: hourglass, then 1×1-BN-ReLU; F(t) -> R(t), both (B, width, h, w)."""

    def __init__(self, width: int = PAPER_WIDTH, units: int = 1, *, align_corners: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Hourglass(width, units, align_corners=align_corners), nn.Conv2d(width, width, 1), *_norm_relu(width)
        )


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def _residual_group(width: int, units: int) -> nn.Sequential:
    return nn.Sequential(*(pre_activation(width, width) for _ in range(units)))
