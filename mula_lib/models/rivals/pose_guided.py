"""Pose-guided refinement (Xia et al. 2017): the predicted skeletons are drawn, and a second network sees the drawing.

Their joints and parts are assembled by a fully connected random field, which is not reproduced; here people are found
as everywhere in this workbook, and the poses stay as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mula_lib.anatomy import Anatomy, find_anatomy
from mula_lib.candidates import find_candidates
from mula_lib.losses import Truth, supervise
from mula_lib.models.config import ModelConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.outputs import StageOutput
from mula_lib.models.vgg import conv_relu
from mula_lib.partition import partition

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

    def loss(self, outputs: list[StageOutput], truth: Truth) -> Tensor:
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
