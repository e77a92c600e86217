"""Targets of the pose branch: one Gaussian heatmap a joint (Sec. 4.1)."""

from __future__ import annotations

import math

import torch

PAPER_SIGMA = 7.0  # pixels, at the paper's crop
PAPER_CROP = 256
THINNEST = 1.2  # cells; with thinner Gaussians the pose branch did not train
LOG_CUTOFF = -4.6  # values below exp(-4.6), about 0.01, are zero: the Gaussian's disc ends near three sigma


def heatmap_sigma(crop: int, stride: float) -> float:
    """Sigma in crop pixels: the paper's 7 at 256 whatever the stride, in proportion at other crops.

    At crops below the paper's it is never under 1.2 heatmap cells.
    """
    sigma = PAPER_SIGMA * crop / PAPER_CROP
    return sigma if crop >= PAPER_CROP else max(sigma, THINNEST * stride)


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
