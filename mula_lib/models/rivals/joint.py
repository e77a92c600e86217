"""Systems that predict both tasks: cross-stitch networks, PAD-Net, JPPNet, and pose-guided refinement of the parts."""

import numpy as np
import torch
from torch import Tensor, nn

from mula_lib.anatomy import ANATOMIES, Anatomy
from mula_lib.grouping import find_candidates, partition
from mula_lib.models.interactions import CrossStitch, build_interaction
from mula_lib.models.joint import JointModel
from mula_lib.models.losses import Targets, supervise
from mula_lib.models.network import ModelConfig, Network, StageOutput
from mula_lib.models.vgg import VGG16Encoder, block_channels, conv_relu, encoder_blocks


class CrossStitchNetwork(Network):
    """Cross-stitch networks (Misra et al. 2016): VGG16-FCN twice, with a unit after each of its five blocks.

    (With a unit after the last block only, it is the joint model with the interaction ``cross_stitch``.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        shape = {"batch_norm": config.batch_norm, "context": config.context}
        self.parsing, self.pose = (
            nn.ModuleList(nn.Sequential(*layers) for layers in encoder_blocks(config.width, **shape)) for _ in range(2)
        )
        self.stitches = nn.ModuleList(CrossStitch(width, config.adaptation) for width in block_channels(config.width))
        self.parsing_classifier = nn.Conv2d(config.width, config.parts, 1)
        self.pose_classifier = nn.Conv2d(config.width, config.joints, 1)
        self.initialize([self.parsing_classifier, self.pose_classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, parts, H/8, W/8) and (B, joints, H/8, W/8)."""
        parsing = pose = self.config.image(images)
        for parsing_block, pose_block, stitch in zip(self.parsing, self.pose, self.stitches, strict=True):
            parsing, pose = stitch(parsing_block(parsing), pose_block(pose))
        return [StageOutput(self.parsing_classifier(parsing), self.pose_classifier(pose))]


class PADNet(Network):
    """PAD-Net (Xu et al. 2018): VGG16-FCN twice; initial heads read R, final ones R̄; both are supervised.

    The interaction is ``distill``, or ``none`` for the control that has the initial supervision alone.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, norm = config.width, config.batch_norm
        self.parsing, self.pose = (VGG16Encoder(width, batch_norm=norm, context=config.context) for _ in range(2))
        self.interaction = build_interaction(config.interactions[0], width, config.adaptation)
        heads = [(nn.Conv2d(width, config.parts, 1), nn.Conv2d(width, config.joints, 1)) for _ in range(2)]
        self.initial, self.final = (nn.ModuleList(pair) for pair in heads)
        self.initialize([*self.initial, *self.final])

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
    """JPPNet (Liang et al. 2018): one trunk, a head for each task, then two refinements of both tasks in parallel."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, norm = config.width, config.batch_norm
        self.encoder = VGG16Encoder(width, batch_norm=norm, context=config.context)
        self.parsing, self.pose = (nn.Sequential(*conv_relu(width, width, batch_norm=norm)) for _ in range(2))
        self.parsing_classifier = nn.Conv2d(width, config.parts, 1)
        self.pose_classifier = nn.Conv2d(width, config.joints, 1)
        self.refine_parsing = nn.ModuleList(Refinement(config, config.parts) for _ in range(REFINEMENTS))
        self.refine_pose = nn.ModuleList(Refinement(config, config.joints) for _ in range(REFINEMENTS))
        refined = (each.classifier for each in (*self.refine_parsing, *self.refine_pose))
        self.initialize([self.parsing_classifier, self.pose_classifier, *refined])

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
THICKNESS = 1.2  # σ of a drawn joint or limb, in cells: the usual floor of targets


class PoseGuidedRefinement(JointModel):
    """Xia et al. 2017: on the baseline, part logits, drawn joints and drawn limbs go through five convolutions.

    Both part predictions are supervised. The drawing is not differentiated.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.anatomy = ANATOMIES[config.anatomy]
        width, drawn = config.width, config.joints + len(self.anatomy.limbs)
        layers: list[nn.Module] = []
        for number in range(CONVOLUTIONS - 1):
            layers += conv_relu(width if number else config.parts + drawn, width, batch_norm=True)
        self.refine = nn.Sequential(*layers, nn.Conv2d(width, config.parts, 3, padding=1))
        self.initialize((*self.parsing.classifier, *self.pose.classifier, *self.regressor, self.refine[-1]))

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> the baseline's output, and the same with refined part logits."""
        (*before, first) = super().forward(images)
        skeletons = draw_skeletons(first, self.anatomy)
        refined = self.refine(torch.cat([first.parsing, skeletons], dim=1))
        return [*before, first, first._replace(parsing=refined)]

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Eq. 4, with the joints counted once, because they are predicted once."""
        return supervise([*outputs[:-1], StageOutput(outputs[-1].parsing, None)], truth)


@torch.no_grad()
def draw_skeletons(output: StageOutput, anatomy: Anatomy) -> Tensor:
    """The people in an output's maps as drawings, (B, N + limbs, h, w) in 0..1, on the maps' device.

    Gaussians around joints and around the limbs whose two ends were found; where people overlap, the highest value.
    """
    people = _one_person(output.pose.float()) if output.offsets is None else _several_people(output, anatomy)
    first, second = (list(ends) for ends in zip(*anatomy.limb_indices, strict=True))
    start = torch.cat([people, people[:, :, first]], dim=2)  # (B, Q, N + limbs, 2); a joint is a line to itself
    along = torch.cat([people, people[:, :, second]], dim=2) - start
    length = along.square().sum(dim=-1).clamp(min=1e-6)[..., None, None]
    rows, columns = (torch.arange(side, dtype=torch.float64, device=people.device) for side in output.pose.shape[-2:])
    away_x, away_y = columns - start[..., 0, None, None], rows[:, None] - start[..., 1, None, None]
    along_x, along_y = (along[..., axis, None, None] for axis in (0, 1))
    share = ((away_x * along_x + away_y * along_y) / length).clamp(0, 1)  # of the way from start to end
    apart = (away_x - share * along_x).square() + (away_y - share * along_y).square()
    drawn = torch.exp(-apart / (2 * THICKNESS**2)).nan_to_num()
    return drawn.amax(dim=1).float().to(output.pose.dtype)


def _one_person(maps: Tensor) -> Tensor:
    """(B, N, h, w) -> (B, 1, N, 2) places of the maxima in cells, (column, row)."""
    best = maps.flatten(2).argmax(dim=2)
    return torch.stack([best % maps.shape[-1], best // maps.shape[-1]], dim=-1)[:, None].float()


def _several_people(output: StageOutput, anatomy: Anatomy) -> Tensor:
    """(B, Q, N, 2) places in cells by partition, Q ≥ 1; nan where a person lacks a joint, or an image a person."""
    maps, offsets = (each.float().cpu().numpy() for each in (output.pose, output.offsets))
    in_cells = offsets.reshape(len(maps), 2, *maps.shape[1:]).swapaxes(1, 2) * (maps.shape[-1] / 2)
    found = [partition(find_candidates(*each), anatomy).joints for each in zip(maps, in_cells, strict=True)]
    people = np.full((len(maps), max(1, *map(len, found)), maps.shape[1], 2), np.nan, np.float32)
    for image, joints in zip(people, found, strict=True):
        image[: len(joints)] = joints
    return torch.from_numpy(people).to(output.pose.device)
