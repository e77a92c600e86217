"""JPPNet (Liang et al. 2018): LIP's own joint network; each task's maps are refined by the maps of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mula_lib.models.config import ModelConfig
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import VGG16Encoder, conv_relu

REFINEMENTS = 2


class Refinement(nn.Module):
    """One task: [features; 1×1(part maps); 1×1(joint maps)] -> two 3×3 convolutions -> new features and maps."""

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        super().__init__()
        width, norm = config.width, config.batch_norm
        self.from_parts = nn.Sequential(*conv_relu(config.parts, width // 2, batch_norm=norm, size=1))
        self.from_joints = nn.Sequential(*conv_relu(config.joints, width // 2, batch_norm=norm, size=1))
        self.layers = nn.Sequential(
            *conv_relu(2 * width, width, batch_norm=norm), *conv_relu(width, width, batch_norm=norm)
        )
        self.classifier = nn.Conv2d(width, outputs, 1)

    def forward(self, features: Tensor, parts: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, h, w), (B, parts, h, w), (B, joints, h, w) -> features of the same size, and maps."""
        features = self.layers(torch.cat([features, self.from_parts(parts), self.from_joints(joints)], dim=1))
        return features, self.classifier(features)


class JPPNet(Network):
    """One trunk, a head a task, then two refinements of both tasks side by side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, norm = config.width, config.batch_norm
        self.encoder = VGG16Encoder(width, batch_norm=norm)
        self.parsing, self.pose = (nn.Sequential(*conv_relu(width, width, batch_norm=norm)) for _ in range(2))
        self.parsing_classifier = nn.Conv2d(width, config.parts, 1)
        self.pose_classifier = nn.Conv2d(width, config.joints, 1)
        self.refine_parsing = nn.ModuleList(Refinement(config, config.parts) for _ in range(REFINEMENTS))
        self.refine_pose = nn.ModuleList(Refinement(config, config.joints) for _ in range(REFINEMENTS))
        refined = (each.classifier for each in (*self.refine_parsing, *self.refine_pose))
        self.initialise([self.parsing_classifier, self.pose_classifier, *refined])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> initial maps and two refinements, (B, parts, H/8, W/8) and (B, joints, H/8, W/8)."""
        shared = self.encoder(self.config.image(images))
        for_parsing, for_pose = self.parsing(shared), self.pose(shared)
        outputs = [StageOutput(self.parsing_classifier(for_parsing), self.pose_classifier(for_pose))]
        for refine_parsing, refine_pose in zip(self.refine_parsing, self.refine_pose, strict=True):
            maps = outputs[-1].parsing, outputs[-1].pose
            for_parsing, parts = refine_parsing(for_parsing, *maps)
            for_pose, joints = refine_pose(for_pose, *maps)
            outputs.append(StageOutput(parts, joints))
        return outputs
