"""PSN-style: a top-down pyramid of joint maps, built from the one sentence that the paper has about it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.hourglass import PreActivationResidual, Stem
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput

LEVELS = 4  # strides 4, 8, 16 and 32


class PyramidStream(Network):
    """C_l bottom-up; P_l = 1×1(C_l) + up2(P_{l+1}); H_l = 3×3[P_l; up2(H_{l+1})] + up2(H_{l+1}); MSE at every level.

    "A top-down pathway and lateral connections to combine features of different levels for recurrently refining joint
    confidence maps" is all that is known of the Pyramid Stream Network. Every level is compared at the finest one's
    size: a Gaussian fills a map of 3×3 cells, whose error would drown that of the finer levels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, joints = config.width, config.joints
        self.stem = Stem(width)
        self.up = nn.ModuleList(  # two residuals a level, one before and one after what an hourglass would add up
            nn.Sequential(PreActivationResidual(width, width), PreActivationResidual(width, width))
            for _ in range(LEVELS)
        )
        self.lateral = nn.ModuleList(  # residuals end in a bare sum
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1))
            for _ in range(LEVELS)
        )
        self.classifier = nn.ModuleList(
            nn.Conv2d(width + (joints if level + 1 < LEVELS else 0), joints, 3, padding=1) for level in range(LEVELS)
        )
        self.initialise(self.classifier)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, joints, H/4, W/4) of four levels, the coarsest first, enlarged to the finest."""
        x = self.stem(self.config.image(images))
        levels = []
        for level, block in enumerate(self.up):
            x = block(F.max_pool2d(x, 2) if level else x)
            levels.append(x)
        outputs: list[StageOutput] = []
        pyramid = maps = None
        for level in reversed(range(LEVELS)):
            lateral = self.lateral[level](levels[level])
            if maps is None:
                pyramid = lateral
                maps = self.classifier[level](pyramid)
            else:
                pyramid = lateral + _doubled(pyramid)
                coarser = _doubled(maps)
                maps = self.classifier[level](torch.cat([pyramid, coarser], dim=1)) + coarser
            enlarged = F.interpolate(maps, size=levels[0].shape[-2:], mode="bilinear", align_corners=False)
            outputs.append(StageOutput(None, enlarged))
        return outputs


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
