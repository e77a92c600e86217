"""The training loss of Eq. 4: at every stage, cross entropy for parts plus β times squared error for joints."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE
from mula_lib.models.joint import StageOutput


def joint_loss(outputs: list[StageOutput], mask: Tensor, heatmaps: Tensor, pose_weight: float) -> Tensor:
    """L = Σ_t (CE(S(t), Ŝ) + β · MSE(J(t), Ĵ)), a scalar.

    Args:
        outputs: T stages of logits (B, P, h, w) and maps (B, N, h, w).
        mask: (B, H, W) part ids, 255 ignored; logits are upsampled to its size before the cross entropy.
        heatmaps: (B, N, h, w) targets at the maps' size.
        pose_weight: the paper's β.
    """
    target = mask.long()
    total = heatmaps.new_zeros(())
    for stage in outputs:
        logits = F.interpolate(stage.parsing.float(), size=mask.shape[-2:], mode="bilinear", align_corners=False)
        total = total + F.cross_entropy(logits, target, ignore_index=IGNORE)
        total = total + pose_weight * F.mse_loss(stage.pose.float(), heatmaps)
    return total
