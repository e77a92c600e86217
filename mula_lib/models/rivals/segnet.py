"""SegNet (Badrinarayanan et al. 2017): a VGG-16 and its mirror image, which puts values back where they were pooled."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import CONVS_PER_BLOCK, block_channels, block_layers, conv_relu


class SegNet(Network):
    """Encoder with batch normalisation that keeps where each maximum came from; decoder that unpools to there.

    The decoder has the encoder's convolutions in reverse, and its logits are of the image's own size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = block_channels(config.width)
        self.encoder = nn.ModuleList(nn.Sequential(*block_layers(i, channels, batch_norm=True)) for i in range(5))
        self.decoder = nn.ModuleList(_mirrored(i, channels) for i in reversed(range(5)))
        self.classifier = nn.Conv2d(channels[0], config.parts, 1)
        self.initialise([self.classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H, W)."""
        x = self.config.image(images)
        places = []
        for block in self.encoder:
            x = block(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            places.append((indices, size))
        for block, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return [StageOutput(self.classifier(x), None)]


def _mirrored(block: int, channels: tuple[int, ...]) -> nn.Sequential:
    """The convolutions of one encoder block in reverse: the last one goes to the channels of the block before it."""
    out = [channels[block]] * (CONVS_PER_BLOCK[block] - 1) + [channels[max(block - 1, 0)]]
    layers: list[nn.Module] = []
    previous = channels[block]
    for each in out:
        layers += conv_relu(previous, each, batch_norm=True)
        previous = each
    return nn.Sequential(*layers)
