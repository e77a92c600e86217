"""Targets of the pose branch: one Gaussian heatmap a joint (Sec. 4.1)."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mula_lib.anatomy import Anatomy

PAPER_SIGMA = 7.0  # pixels, at the paper's crop
PAPER_CROP = 256
SIGMA_FLOOR = 1.2  # cells
LOG_CUTOFF = -4.6  # values below exp(-4.6), about 0.01, are zero: the Gaussian's disc ends near three sigma


def heatmap_sigma(crop: int, stride: float, floor: float = SIGMA_FLOOR) -> float:
    """Sigma in crop pixels: the paper's 7 at 256, in proportion elsewhere; below 256 never under ``floor`` cells."""
    sigma = PAPER_SIGMA * crop / PAPER_CROP
    return sigma if crop >= PAPER_CROP else max(sigma, floor * stride)


def gaussian_heatmaps(
    joints: torch.Tensor, present: torch.Tensor, *, grid: tuple[int, int], stride: float, sigma: float
) -> torch.Tensor:
    """Draw the target heatmaps (B, N, h, w), float32, on the joints' device.

    ``joints`` (B, N, 2) are (column, row) in crop pixels, ``present`` (B, N) bool, ``grid`` is (h, w), ``stride`` the
    crop pixels per cell and ``sigma`` in crop pixels. Cell g has its centre at (stride - 1) / 2 + stride g, which is
    the middle of the pixels it covers; a joint there has the value 1. Values below exp(-4.6) are zero. A joint that
    is not present, or has a nan coordinate, gives an all-zero map.
    """
    joints = joints.to(torch.float32)
    drawn = present.bool() & joints.isfinite().all(dim=-1)
    joints = torch.where(drawn[..., None], joints, 0.0)  # before the arithmetic: 0 × nan would be nan
    height, width = grid
    # A disc covers few of a map's cells, so only a window around it is computed, and laid into a map of zeros.
    row_cells, column_cells = (
        _window(joints[..., axis], size, stride, sigma) for size, axis in ((height, 1), (width, 0))
    )
    # the exponent of the product is the sum of the two exponents: separable, so no loop over pixels
    rows, columns = (
        -(((stride - 1) / 2 + stride * cells - joints[..., axis, None]) ** 2) / (2 * sigma**2)
        for cells, axis in ((row_cells, 1), (column_cells, 0))
    )
    product = rows.exp()[..., :, None] * columns.exp()[..., None, :]  # (B, N, window, window)
    inside = (rows[..., :, None] + columns[..., None, :] >= LOG_CUTOFF) & drawn[..., None, None]
    cells = row_cells.long()[..., :, None] * width + column_cells.long()[..., None, :]
    maps = torch.zeros((*drawn.shape, height * width), device=joints.device)
    maps.scatter_(-1, cells.flatten(-2), torch.where(inside, product, 0.0).flatten(-2))
    return maps.unflatten(-1, grid)


def _window(centres: torch.Tensor, size: int, stride: float, sigma: float) -> torch.Tensor:
    """(B, N, window) whole numbers: those of ``size`` cells that a disc at ``centres`` (B, N) pixels may touch."""
    reach = sigma * math.sqrt(-2 * LOG_CUTOFF) / stride
    window = min(size, math.ceil(2 * reach) + 3)  # one more than can be touched, against rounding
    first = ((centres - (stride - 1) / 2) / stride - reach).floor().clamp(0, size - window)
    return first[..., None] + torch.arange(window, dtype=torch.float32, device=centres.device)


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
    waits = here.device.type != "cpu" or torch.compiler.is_compiling()  # for a number on the device
    most = None if waits else max(1, int(here.sum(dim=1).max()))
    order = here.int().argsort(dim=1, descending=True, stable=True)[:, :most]
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
