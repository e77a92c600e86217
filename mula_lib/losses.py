"""The training loss of Eq. 4: at every stage, cross entropy for parts plus β times squared error for joints."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE
from mula_lib.compiled.cross_entropy import upsampled_cross_entropy
from mula_lib.models.joint import StageOutput


def joint_loss(
    outputs: list[StageOutput],
    mask: Tensor,
    heatmaps: Tensor,
    pose_weight: float,
    parsing_weight: float | Tensor = 1.0,
) -> Tensor:
    """L = Σ_t (CE(S(t), Ŝ) + β · MSE(J(t), Ĵ)), a scalar.

    Args:
        outputs: T stages of logits (B, P, h, w) and maps (B, N, h, w).
        mask: (B, H, W) uint8 part ids, 255 ignored; the cross entropy is of the logits upsampled to its size.
        heatmaps: (B, N, h, w) targets at the maps' size.
        pose_weight: the paper's β.
        parsing_weight: of the cross entropy, where the batch is a part of a larger one.
    """
    total = heatmaps.new_zeros(())
    for stage in outputs:
        total = total + parsing_weight * upsampled_cross_entropy(stage.parsing, mask, IGNORE)
        total = total + pose_weight * F.mse_loss(stage.pose.float(), heatmaps)
    return total
