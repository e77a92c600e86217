"""Targets of the pose branch where an image shows several people: heatmaps of all of them, and centroid offsets.

The offsets are the dense regression of Sec. 4.1 ("transforming joint candidates into the centroid embedding space"):
near a joint they point from the pixel to the centroid of the person whose joint it is, so that at testing all joints
of one person, moved by their offsets, meet in one point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mula_lib.anatomy import Anatomy
from mula_lib.data.targets import LOG_CUTOFF, gaussian_heatmaps


class CrowdTargets(NamedTuple):
    """What the pose branch is trained towards, at its stride."""

    heatmaps: Tensor  # (B, N, h, w)
    offsets: Tensor  # (B, 2N, h, w): N maps of x, then N of y, in units of half a crop; zero outside of discs
    discs: Tensor  # (B, N, h, w) bool: where an offset is defined


def centroids(joints: np.ndarray, boxes: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """(M, 2) centroid of each person, float32, in the pixels of ``joints`` (M, N, 2) and ``boxes`` (M, 4).

    The pelvis where the data set has one and it is annotated, else the mean of the person's annotated joints, else the
    middle of the box; nan where nothing is known.
    """
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(joints).any(axis=2)
        total = np.where(known[..., None], joints, 0.0).sum(axis=1)
        mean = total / known.sum(axis=1)[:, None]
    boxes = np.asarray(boxes, np.float64)
    centres = np.where(np.isnan(mean), (boxes[:, :2] + boxes[:, 2:]) / 2, mean)
    if "pelvis" in anatomy.joints:
        pelvis = joints[:, anatomy.joint("pelvis")]
        centres = np.where(np.isnan(pelvis), centres, pelvis)
    return centres.astype(np.float32)


def crowd_targets(
    joints: Tensor, present: Tensor, centres: Tensor, *, grid: tuple[int, int], stride: float, sigma: float, crop: int
) -> CrowdTargets:
    """Draw the targets of a batch, float32, on the joints' device.

    ``joints`` (B, P, N, 2) of up to P people an image, P at least 1, (column, row) in crop pixels; ``present``
    (B, P, N) bool; ``centres`` (B, P, 2) in the same pixels, inside the crop or not. ``grid`` is (h, w), ``stride`` the
    crop pixels per cell, ``sigma`` and ``crop`` in pixels. People's heatmaps are added up and cut off at 1. An offset
    is (centroid - cell's centre) / (crop / 2), defined where a heatmap is not zero; where discs overlap, the nearest
    joint's person wins.
    """
    here = present.any(dim=2)
    order = here.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(here.sum(dim=1).max()))]
    joints, present, centres = (  # without rows that no image of the batch needs
        torch.take_along_dim(each, order.reshape(*order.shape, *(1,) * (each.ndim - 2)), dim=1)
        for each in (joints.to(torch.float32), present.bool(), centres.to(torch.float32))
    )
    batch, people, number, _ = joints.shape
    alone = gaussian_heatmaps(joints.flatten(0, 1), present.flatten(0, 1), grid=grid, stride=stride, sigma=sigma)
    heatmaps = alone.unflatten(0, (batch, people)).sum(dim=1).clamp_(max=1.0)

    row_cells, column_cells = (
        (stride - 1) / 2 + stride * torch.arange(size, dtype=torch.float32, device=joints.device) for size in grid
    )
    drawn = present & joints.isfinite().all(dim=-1) & centres.isfinite().all(dim=-1)[..., None]
    place = torch.where(drawn[..., None], joints, torch.inf)
    rows, columns = (row_cells - place[..., 1, None]) ** 2, (column_cells - place[..., 0, None]) ** 2
    nearest = (rows[..., :, None] + columns[..., None, :]).min(dim=1)  # squared distance, (B, N, h, w)
    discs = nearest.values <= -2 * sigma**2 * LOG_CUTOFF
    owner = nearest.indices.flatten(1)  # (B, N · h · w)
    towards = torch.take_along_dim(torch.nan_to_num(centres), owner[..., None], dim=1).unflatten(1, (number, *grid))
    offsets = torch.stack([towards[..., 0] - column_cells, towards[..., 1] - row_cells[:, None]], dim=1)
    offsets = torch.where(discs[:, None], offsets / (crop / 2), 0.0)
    return CrowdTargets(heatmaps, offsets.flatten(1, 2), discs)
