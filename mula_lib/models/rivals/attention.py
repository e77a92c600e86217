"""Attention to scale (Chen et al. 2016): one network reads an image at three sizes and weighs, cell by cell, which to
believe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import VGG16Encoder

SCALES = (1.0, 0.75, 0.5)
DROPOUT = 0.5


class ScaleWeights(nn.Module):
    """a = softmax over scales of conv 1×1 (dropout (ReLU (conv 3×3 [f₁; f.₇₅; f.₅]))): (B, 3, h, w), sums to one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(len(SCALES) * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels, len(SCALES), 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Three maps (B, C, h, w) of one size -> their weights."""
        return self.layers(torch.cat(features, dim=1)).softmax(dim=1)


class MultiScale(Network):
    """A shared VGG-16 at three scales, and the weights of the three."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = VGG16Encoder(config.width, batch_norm=config.batch_norm)
        self.weights = ScaleWeights(config.width)
        self.classifier = nn.Conv2d(config.width, config.parts, 1)
        self.initialise([self.classifier])

    def features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Features of each scale at its own size, the same at the first one's size, and the weights a."""
        image = self.config.image(images)
        own = [self.encoder(self._resized(image, scale)) for scale in SCALES]
        alike = [own[0], *(_enlarged(each, own[0]) for each in own[1:])]
        return own, alike, self.weights(alike)

    @staticmethod
    def _resized(image: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return image
        return F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False, antialias=True)


class AttentionToScale(MultiScale):
    """Scores g = Σ_s a_s · g_s; the loss is CE(g) + Σ_s CE(g_s), so four outputs are supervised."""

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits of each scale, then (B, parts, H/8, W/8) of all."""
        own, _, weights = self.features(images)
        scores = [self.classifier(each) for each in own]
        alike = [scores[0], *(_enlarged(each, scores[0]) for each in scores[1:])]
        fused = sum(weights[:, s, None] * score for s, score in enumerate(alike))
        return [StageOutput(score, None) for score in (*scores, fused)]


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
