"""Hourglass + convolutional pose machine: our construction for two challenge entries of which no more is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.hourglass import HourglassEncoder, Stem
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import conv_relu

STAGES = 3
KERNEL = 7


class PoseMachine(nn.Module):
    """Convolutional pose machine (Wei et al. 2016): three stages of 7×7 convolutions on [features; previous maps]."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *conv_relu(width + (joints if stage else 0), width, batch_norm=True, size=KERNEL),
                *conv_relu(width, width, batch_norm=True, size=KERNEL),
                *conv_relu(width, width, batch_norm=True, size=1),
                nn.Conv2d(width, joints, 1),
            )
            for stage in range(STAGES)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, width, h, w) -> three times (B, joints, h, w)."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(torch.cat([features, maps[-1]], dim=1) if maps else features))
        return maps


class HybridPoseMachine(Network):
    """An hourglass and a pose machine on one stem; the prediction is the mean of what both say at the end."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stem = Stem(config.width)
        self.encoder = HourglassEncoder(config.width, config.units)
        self.classifier = nn.Conv2d(config.width, config.joints, 1)
        self.machine = PoseMachine(config.width, config.joints)
        self.initialise([self.classifier, *(stage[-1] for stage in self.machine.stages)])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps of the machine's stages, of the hourglass, and their mean (B, joints, H/4, W/4)."""
        features = self.stem(self.config.image(images))
        by_hourglass = self.classifier(self.encoder(features))
        by_machine = self.machine(features)
        mean = (by_hourglass + by_machine[-1]) / 2
        return [StageOutput(None, maps) for maps in (*by_machine, by_hourglass, mean)]
