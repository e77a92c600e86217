"""PAD-Net (Xu et al. 2018): first predictions of both tasks, then messages between their features, gated locally."""

from __future__ import annotations

from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.interactions import build_interaction
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import VGG16Encoder


class PADNet(Network):
    """VGG16-FCN twice; initial heads read R, final ones R̄ of the configured interaction; both are supervised.

    The interaction is ``distill``, or ``none`` for the control that has the initial supervision alone.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, norm = config.width, config.batch_norm
        self.parsing, self.pose = (VGG16Encoder(width, batch_norm=norm) for _ in range(2))
        self.interaction = build_interaction(config.interactions[0], width, config.adaptation)
        heads = [(nn.Conv2d(width, config.parts, 1), nn.Conv2d(width, config.joints, 1)) for _ in range(2)]
        self.initial, self.final = (nn.ModuleList(pair) for pair in heads)
        self.initialise([*self.initial, *self.final])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> initial and final maps, (B, parts, H/8, W/8) and (B, joints, H/8, W/8)."""
        image = self.config.image(images)
        representations = self.parsing(image), self.pose(image)
        refined = self.interaction(*representations)
        return [
            StageOutput(*(head(features) for head, features in zip(heads, read, strict=True)))
            for heads, read in ((self.initial, representations), (self.final, refined))
        ]
