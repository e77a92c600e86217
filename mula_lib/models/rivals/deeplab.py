"""DeepLabV2 (Chen et al. 2017): convolutions with holes see four sizes of context at once. Without its CRF."""

from __future__ import annotations

from torch import Tensor, nn

from mula_lib.data.targets import PAPER_CROP
from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import POOLED_BLOCKS, block_channels, block_layers, conv_relu

RATES = (6, 12, 18, 24)  # cells at a stride of 8, at the paper's crop of 256
CONV5_DILATION = 2


class DeepLabV2(Network):
    """VGG-16 at stride 8 with a dilated fifth block, and four branches: 3×3 at a rate, 1×1, 1×1 scores; summed.

    At crops of other sizes the rates are in proportion: beyond the map's edge a rate sees padding only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels, norm, width = block_channels(config.width), config.batch_norm, config.width
        layers: list[nn.Module] = []
        for block in range(5):
            layers += block_layers(block, channels, batch_norm=norm, dilation=CONV5_DILATION if block == 4 else 1)
            if block < POOLED_BLOCKS:
                layers.append(nn.MaxPool2d(2))
        self.trunk = nn.Sequential(*layers)
        self.branches = nn.ModuleList(
            nn.Sequential(
                *conv_relu(width, width, batch_norm=norm, dilation=rate),
                *conv_relu(width, width, batch_norm=norm, size=1),
                nn.Conv2d(width, config.parts, 1),
            )
            for rate in scaled_rates(config.crop)
        )
        self.initialise(branch[-1] for branch in self.branches)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H/8, W/8)."""
        features = self.trunk(self.config.image(images))
        return [StageOutput(sum(branch(features) for branch in self.branches), None)]


def scaled_rates(crop: int) -> tuple[int, ...]:
    """The four rates for crops of another size than the paper's."""
    return tuple(max(1, round(rate * crop / PAPER_CROP)) for rate in RATES)
