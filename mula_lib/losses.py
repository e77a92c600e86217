"""The training loss of Eq. 4: at every stage, cross entropy for parts plus β times squared error for joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE
from mula_lib.data.targets import CrowdTargets, crowd_targets, gaussian_heatmaps, heatmap_sigma
from mula_lib.kernels.cross_entropy import upsampled_cross_entropy

if TYPE_CHECKING:
    from mula_lib.models.network import StageOutput


class Truth:
    """What a batch of training samples says, for a loss to compare with.

    Args:
        batch: the samples of :class:`~mula_lib.data.samples.TrainingSamples`, put together.
        pose_weight: the paper's β.
        parsing_weight: of the cross entropy, where the batch is a part of a larger one.
    """

    def __init__(self, batch: Mapping[str, Tensor], pose_weight: float, parsing_weight: float | Tensor = 1.0) -> None:
        self.images = batch["image"]  # (B, 3, crop, crop) uint8 RGB
        self.mask = batch["mask"]  # (B, crop, crop) uint8 part ids, 255 ignored
        self.pose_weight = pose_weight
        self.parsing_weight = parsing_weight
        self._batch = batch
        self._targets: dict[tuple[int, int], Tensor | CrowdTargets] = {}

    @cached_property
    def labelled(self) -> bool:
        """Whether any pixel of the batch counts: a mean over none would be nan, and so would all weights after it."""
        return bool((self.mask != IGNORE).any())

    def pose_targets(self, maps: Tensor) -> Tensor | CrowdTargets:
        """What joint ``maps`` (B, N, h, w) are trained towards, at their size: of one person, or of several.

        A map beyond the N joints is of the background: 1 - the highest of the others.
        """
        grid, crop = (maps.shape[-2], maps.shape[-1]), self.images.shape[-1]
        if grid not in self._targets:
            joints, present, stride = self._batch["joints"], self._batch["present"], crop / grid[1]
            where = {"grid": grid, "stride": stride, "sigma": heatmap_sigma(crop, stride)}
            if "centres" in self._batch:
                self._targets[grid] = crowd_targets(joints, present, self._batch["centres"], **where, crop=crop)
            else:
                heatmaps = gaussian_heatmaps(joints, present, **where)
                if maps.shape[1] > heatmaps.shape[1]:
                    heatmaps = torch.cat([heatmaps, 1 - heatmaps.amax(dim=1, keepdim=True)], dim=1)
                self._targets[grid] = heatmaps
        return self._targets[grid]


def supervise(outputs: Sequence[StageOutput], truth: Truth, *, align_corners: bool = False) -> Tensor:
    """Eq. 4 of any network: the sum over stages, each compared at its own size and in the tasks that it has.

    ``align_corners`` is how logits are enlarged to the mask's size: PyTorch 0.2 aligned the corners.
    """
    total = truth.images.new_zeros((), dtype=torch.float32)
    for stage in outputs:
        if stage.parsing is not None and truth.labelled:
            enlarged = upsampled_cross_entropy(stage.parsing, truth.mask, IGNORE, align_corners=align_corners)
            total = total + truth.parsing_weight * enlarged
        elif stage.parsing is not None:
            total = total + 0.0 * stage.parsing.sum()  # so that every parameter has its gradient, of zero
        if stage.pose is not None:
            total = total + truth.pose_weight * pose_loss(stage, truth.pose_targets(stage.pose))
    return total


def pose_loss(stage: StageOutput, targets: Tensor | CrowdTargets) -> Tensor:
    """MSE(J(t), Ĵ) of one stage; for several people, plus SmoothL1(O(t), Ô) where offsets are defined.

    Both are sums over the maps divided by the number of values of one kind of map, so that neither outweighs the other
    by its size.
    """
    if not isinstance(targets, CrowdTargets):
        return F.mse_loss(stage.pose.float(), targets)
    return F.mse_loss(stage.pose.float(), targets.heatmaps) + _offset_loss(stage.offsets.float(), targets)


def _offset_loss(offsets: Tensor, targets: CrowdTargets) -> Tensor:
    discs = targets.discs.repeat(1, 2, 1, 1)
    lost = F.smooth_l1_loss(torch.where(discs, offsets, 0.0), targets.offsets, reduction="sum")
    return lost / targets.heatmaps.numel()
