"""The training loss of Eq. 4: at every stage, cross entropy for parts plus β times squared error for joints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE
from mula_lib.compiled.cross_entropy import upsampled_cross_entropy
from mula_lib.data.crowd_targets import CrowdTargets
from mula_lib.models.joint import StageOutput


def joint_loss(
    outputs: list[StageOutput],
    mask: Tensor,
    targets: Tensor | CrowdTargets,
    pose_weight: float,
    parsing_weight: float | Tensor = 1.0,
) -> Tensor:
    """L = Σ_t (CE(S(t), Ŝ) + β · MSE(J(t), Ĵ)), a scalar.

    For several people β weighs MSE(J(t), Ĵ) + SmoothL1(O(t), Ô), the second where offsets are defined. Both are sums
    over the maps divided by the number of values of one kind of map, so that neither outweighs the other by its size.

    Args:
        outputs: T stages of logits (B, P, h, w), maps (B, N, h, w) and, of several people, offsets (B, 2N, h, w).
        mask: (B, H, W) uint8 part ids, 255 ignored; the cross entropy is of the logits upsampled to its size.
        targets: (B, N, h, w) heatmaps at the maps' size, or the targets of several people.
        pose_weight: the paper's β.
        parsing_weight: of the cross entropy, where the batch is a part of a larger one.
    """
    crowds = isinstance(targets, CrowdTargets)
    heatmaps = targets.heatmaps if crowds else targets
    total = heatmaps.new_zeros(())
    for stage in outputs:
        total = total + parsing_weight * upsampled_cross_entropy(stage.parsing, mask, IGNORE)
        total = total + pose_weight * F.mse_loss(stage.pose.float(), heatmaps)
        if crowds:
            total = total + pose_weight * _offset_loss(stage.offsets.float(), targets)
    return total


def _offset_loss(offsets: Tensor, targets: CrowdTargets) -> Tensor:
    discs = targets.discs.repeat(1, 2, 1, 1)
    lost = F.smooth_l1_loss(torch.where(discs, offsets, 0.0), targets.offsets, reduction="sum")
    return lost / targets.heatmaps.numel()
