"""Cross-stitch networks (Misra et al. 2016): two trunks that mix their channels after every block."""

from __future__ import annotations

from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.interactions import CrossStitch
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import POOLED_BLOCKS, block_channels, block_layers


class CrossStitchNetwork(Network):
    """VGG16-FCN twice, with a cross-stitch unit after each of its five blocks.

    (With the units behind the last block only, it is the joint model with the interaction ``cross_stitch``.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = block_channels(config.width)
        self.parsing, self.pose = (
            nn.ModuleList(_block(i, channels, batch_norm=config.batch_norm) for i in range(5)) for _ in range(2)
        )
        self.stitches = nn.ModuleList(CrossStitch(width, config.adaptation) for width in channels)
        self.parsing_classifier = nn.Conv2d(config.width, config.parts, 1)
        self.pose_classifier = nn.Conv2d(config.width, config.joints, 1)
        self.initialise([self.parsing_classifier, self.pose_classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, parts, H/8, W/8) and (B, joints, H/8, W/8)."""
        parsing = pose = self.config.image(images)
        for parsing_block, pose_block, stitch in zip(self.parsing, self.pose, self.stitches, strict=True):
            parsing, pose = stitch(parsing_block(parsing), pose_block(pose))
        return [StageOutput(self.parsing_classifier(parsing), self.pose_classifier(pose))]


def _block(block: int, channels: tuple[int, ...], *, batch_norm: bool) -> nn.Sequential:
    pooling = [nn.MaxPool2d(2)] if block < POOLED_BLOCKS else []
    return nn.Sequential(*block_layers(block, channels, batch_norm=batch_norm), *pooling)
