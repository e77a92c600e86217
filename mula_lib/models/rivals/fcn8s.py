"""FCN-8s (Long et al. 2015): scores of three depths of a VGG-16, added from coarse to fine."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import block_channels, block_layers, conv_relu


class FCN8s(Network):
    """All five poolings; 1×1 scores of pool 3, pool 4 and conv 7; up 2 and add, twice; the loss enlarges 8 times.

    conv 6 has 7×7 weights, as VGG's first fully connected layer has once it is a convolution, but ``width`` channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels, norm = block_channels(config.width), config.batch_norm
        self.blocks = nn.ModuleList(nn.Sequential(*block_layers(i, channels, batch_norm=norm)) for i in range(5))
        self.head = nn.Sequential(  # conv 6 and conv 7
            *conv_relu(config.width, config.width, batch_norm=norm, size=7),
            *conv_relu(config.width, config.width, batch_norm=norm, size=1),
        )
        self.scores = nn.ModuleList(nn.Conv2d(depth, config.parts, 1) for depth in (*channels[2:4], config.width))
        self.initialise(self.scores)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W), H and W multiples of 32 -> logits (B, parts, H/8, W/8)."""
        x = self.config.image(images)
        pooled = []
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
            pooled.append(x)
        score = self.scores[2](self.head(x))
        for finer, layer in ((pooled[3], self.scores[1]), (pooled[2], self.scores[0])):
            score = layer(finer) + F.interpolate(score, size=finer.shape[-2:], mode="bilinear", align_corners=False)
        return [StageOutput(score, None)]
