"""Cross-stitch networks (Misra et al. 2016): two trunks that mix their channels after every block."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mula_lib.anatomy import Anatomy, find_anatomy
from mula_lib.grouping import find_candidates, partition
from mula_lib.models.interactions import CrossStitch, build_interaction
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets, supervise
from mula_lib.models.network import ModelConfig, Network, StageOutput
from mula_lib.models.vgg import POOLED_BLOCKS, VGG16Encoder, block_channels, block_layers, conv_relu


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


CONVOLUTIONS = 5
THICKNESS = 1.2  # σ of a drawn joint or limb, in cells: that of the thinnest target


class PoseGuidedRefinement(JointModel):
    """The baseline's two networks; part logits, drawn joints and drawn limbs go through five convolutions.

    Both part predictions are supervised. The drawing is not differentiated.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.anatomy = find_anatomy(config.anatomy)
        width, drawn = config.width, config.joints + len(self.anatomy.limbs)
        layers: list[nn.Module] = []
        for number in range(CONVOLUTIONS - 1):
            layers += conv_relu(width if number else config.parts + drawn, width, batch_norm=True)
        self.refine = nn.Sequential(*layers, nn.Conv2d(width, config.parts, 3, padding=1))
        self.initialise((*self.parsing.classifier, *self.pose.classifier, *self.regressor, self.refine[-1]))

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> the baseline's output, and the same with refined part logits."""
        (*before, first) = super().forward(images)
        skeletons = drawn_skeletons(first, self.anatomy)
        refined = self.refine(torch.cat([first.parsing, skeletons], dim=1))
        return [*before, first, first._replace(parsing=refined)]

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Eq. 4, in which the joints, which are predicted once, count once."""
        return supervise([*outputs[:-1], StageOutput(outputs[-1].parsing, None)], truth)


@torch.no_grad()
def drawn_skeletons(output: StageOutput, anatomy: Anatomy) -> Tensor:
    """The people in an output's maps as drawings, (B, N + limbs, h, w) in 0..1, the highest of all people."""
    maps = output.pose.float().cpu().numpy()
    offsets = None if output.offsets is None else output.offsets.float().cpu().numpy()
    drawings = [
        _draw(_people(joints, None if offsets is None else offsets[index], anatomy), joints.shape[1:], anatomy)
        for index, joints in enumerate(maps)
    ]
    return torch.from_numpy(np.stack(drawings)).to(output.pose)


def _people(maps: np.ndarray, offsets: np.ndarray | None, anatomy: Anatomy) -> np.ndarray:
    """(Q, N, 2) places in cells, nan where a person lacks a joint: one person by arg max, or several by partition."""
    if offsets is None:
        rows, columns = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:])
        return np.stack([columns, rows], axis=1)[None].astype(np.float32)
    in_cells = offsets.reshape(2, *maps.shape).swapaxes(0, 1) * (maps.shape[-1] / 2)
    return partition(find_candidates(maps, in_cells), anatomy).joints


def _draw(people: np.ndarray, grid: tuple[int, int], anatomy: Anatomy) -> np.ndarray:
    """(N + limbs, h, w) float32: Gaussians around joints, and around the lines of limbs whose ends are both there."""
    first, second = (list(ends) for ends in zip(*anatomy.limb_indices, strict=True))
    starts = np.concatenate([people, people[:, first]], axis=1)  # a joint is a line from itself to itself
    along = np.concatenate([people, people[:, second]], axis=1) - starts
    cells = np.stack(np.meshgrid(np.arange(grid[1]), np.arange(grid[0])), axis=-1)  # (h, w, 2)
    away = cells - starts[:, :, None, None]  # (Q, lines, h, w, 2)
    length = np.maximum((along**2).sum(axis=-1), 1e-6)[..., None, None]
    share = np.clip((away * along[:, :, None, None]).sum(axis=-1) / length, 0, 1)
    apart = ((away - share[..., None] * along[:, :, None, None]) ** 2).sum(axis=-1)
    drawn = np.nan_to_num(np.exp(-apart / (2 * THICKNESS**2)))
    return drawn.max(axis=0, initial=0.0).astype(np.float32)
