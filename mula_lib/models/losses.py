"""The training loss of Eq. 4: at every stage, cross entropy for parts plus β times squared error for joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE
from mula_lib.data.targets import SIGMA_FLOOR, CrowdTargets, crowd_targets, gaussian_heatmaps, heatmap_sigma

if TYPE_CHECKING:
    from mula_lib.models.network import StageOutput


class Targets:
    """The ground truth of a batch of training samples, for a loss to compare with.

    Args:
        batch: the samples of :class:`~mula_lib.data.samples.TrainingSamples`, collated.
        pose_weight: the paper's β.
        parsing_weight: weight of the mean over the pixels, where the batch is part of a larger one.
        sigma_floor: cells; see :func:`~mula_lib.data.targets.heatmap_sigma`.
    """

    def __init__(
        self, batch: Mapping[str, Tensor], pose_weight: float, parsing_weight: float | Tensor = 1.0,
        sigma_floor: float = SIGMA_FLOOR,
    ) -> None:  # fmt: skip
        self.images = batch["image"]  # (B, 3, crop, crop) uint8 RGB
        self.mask = batch["mask"]  # (B, crop, crop) uint8 part ids, 255 ignored
        self.pose_weight, self.parsing_weight, self.sigma_floor = pose_weight, parsing_weight, sigma_floor
        self._batch = batch
        self._heatmaps: dict[tuple[int, int], Tensor | CrowdTargets] = {}

    def pose_targets(self, maps: Tensor) -> Tensor | CrowdTargets:
        """Targets for joint ``maps`` (B, N, h, w), at their size, of one person or several.

        A map beyond the N joints is the background's: 1 - the highest of the others.
        """
        grid, crop = (maps.shape[-2], maps.shape[-1]), self.images.shape[-1]
        if grid not in self._heatmaps:
            joints, present, stride = self._batch["joints"], self._batch["present"], crop / grid[1]
            where = {"grid": grid, "stride": stride, "sigma": heatmap_sigma(crop, stride, self.sigma_floor)}
            if "centres" in self._batch:
                self._heatmaps[grid] = crowd_targets(joints, present, self._batch["centres"], **where, crop=crop)
            else:
                heatmaps = gaussian_heatmaps(joints, present, **where)
                if maps.shape[1] > heatmaps.shape[1]:
                    heatmaps = torch.cat([heatmaps, 1 - heatmaps.amax(dim=1, keepdim=True)], dim=1)
                self._heatmaps[grid] = heatmaps
        return self._heatmaps[grid]


def supervise(outputs: Sequence[StageOutput], targets: Targets, *, align_corners: bool = False) -> Tensor:
    """Eq. 4 of any network: the sum over stages, each compared at its own size and in the tasks that it has.

    ``align_corners`` is how logits are upsampled to the mask's size: PyTorch 0.2 aligned the corners.
    """
    # The mean over no annotated pixel would be nan, and so would all weights after it: such a batch is compared with
    # background and weighs nothing. All of it on the device, which the host does not wait for.
    annotated = (targets.mask != IGNORE).any()
    mask, parsing_weight = torch.where(annotated, targets.mask, 0), targets.parsing_weight * annotated
    total = targets.images.new_zeros((), dtype=torch.float32)
    for stage in outputs:
        if stage.parsing is not None:
            total = total + parsing_weight * parsing_loss(stage.parsing, mask, align_corners=align_corners)
        if stage.pose is not None:
            total = total + targets.pose_weight * pose_loss(stage, targets.pose_targets(stage.pose))
    return total


def parsing_loss(logits: Tensor, mask: Tensor, *, align_corners: bool = False) -> Tensor:
    """L^S of one stage: mean cross entropy of ``logits`` (B, P, h, w), upsampled to ``mask`` (B, H, W) uint8.

    Pixels of 255 are ignored; if there are no others the loss is nan.
    """
    upsampled = upsample(logits, mask.shape[-2:], align_corners=align_corners)
    return F.cross_entropy(upsampled, mask.long(), ignore_index=IGNORE)


def upsample(maps: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """``maps`` (B, C, h, w), interpolated bilinearly to ``size`` (H, W), as float32.

    PyTorch's ``interpolate`` as two matrix products: on a CPU, the loss and its gradient take half the time.
    ``align_corners`` means the same.
    """

    def weights(cells: int, side: int) -> Tensor:  # (cells, side): each cell's share of each pixel
        each_cell = torch.eye(cells, device=maps.device)[None]
        return F.interpolate(each_cell, side, mode="linear", align_corners=align_corners)[0]

    rows, columns = map(weights, maps.shape[-2:], size)
    return rows.T @ (maps.float().contiguous() @ columns)


def pose_loss(stage: StageOutput, targets: Tensor | CrowdTargets) -> Tensor:
    """MSE(J(t), Ĵ) of one stage; for several people, plus SmoothL1(O(t), Ô) where offsets are defined.

    Both are sums over the maps divided by the number of values of one kind of map, so that neither outweighs the other
    by its size.
    """
    if not isinstance(targets, CrowdTargets):
        return F.mse_loss(stage.pose.float(), targets)
    discs = targets.discs.repeat(1, 2, 1, 1)
    offsets = torch.where(discs, stage.offsets.float(), 0.0)
    offset_loss = F.smooth_l1_loss(offsets, targets.offsets, reduction="sum") / targets.heatmaps.numel()
    return F.mse_loss(stage.pose.float(), targets.heatmaps) + offset_loss
