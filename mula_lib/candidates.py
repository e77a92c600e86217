"""Joint candidates of several people: the local maxima of averaged confidence maps (Sec. 3.2, "NMS")."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mula_lib.data.targets import PAPER_CROP

SMOOTHING = 3.0  # σ in pixels at a crop of 256
THRESHOLD = 0.1  # of the smoothed map; lower maxima are no candidates
_TINY = 1e-12


@dataclass(frozen=True)
class Candidates:
    """K candidate joints of one image, in pixels of the crop, highest first within each type."""

    joint: np.ndarray  # (K,) int, which joint
    place: np.ndarray  # (K, 2) float, (column, row)
    embedding: np.ndarray  # (K, 2) float: where the candidate believes its person's centroid to be
    score: np.ndarray  # (K,) float, height of the unsmoothed map

    def __len__(self) -> int:
        return len(self.joint)


def find_candidates(maps: np.ndarray, offsets: np.ndarray, *, threshold: float = THRESHOLD) -> Candidates:
    """Local maxima of each map, to a fraction of a pixel.

    Args:
        maps: (N, h, w) float32 confidence on the crop's own pixels.
        offsets: (N, 2, h, w) float32, from each pixel to the person's centroid, x and y in pixels.
        threshold: what a smoothed maximum must exceed.

    A plateau of equal values is one maximum. The fraction is that of the parabola through the logarithms of a maximum
    and its neighbours, in each direction, which is exact for a Gaussian. nan is nowhere a maximum.
    """
    sigma = SMOOTHING * maps.shape[-1] / PAPER_CROP
    found: list[tuple[np.ndarray, ...]] = []
    for index, (raw, offset) in enumerate(zip(maps, offsets, strict=True)):
        raw = np.nan_to_num(raw.astype(np.float32, copy=False))
        smooth = cv2.GaussianBlur(raw, (0, 0), sigma)
        highest = cv2.dilate(smooth, np.ones((3, 3), np.uint8))  # OpenCV's border never wins
        rows, columns = _one_of_each_plateau((smooth >= highest) & (smooth > threshold))
        if not len(rows):
            continue
        order = np.argsort(-smooth[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        place = np.stack([columns + _fraction(smooth, rows, columns, 1), rows + _fraction(smooth, rows, columns, 0)], 1)
        embedding = place + offset[:, rows, columns].T
        found.append((np.full(len(rows), index), place, embedding, raw[rows, columns]))
    if not found:
        return Candidates(np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.float32))
    return Candidates(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _one_of_each_plateau(maxima: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of one pixel, the one nearest to the middle, of each connected region of ``maxima``."""
    rows, columns = np.nonzero(maxima)
    if len(rows) < 2:
        return rows, columns
    count, labels, _, middles = cv2.connectedComponentsWithStats(maxima.astype(np.uint8), connectivity=8)
    if count - 1 == len(rows):
        return rows, columns
    label = labels[rows, columns]
    apart = np.hypot(columns - middles[label, 0], rows - middles[label, 1])
    order = np.lexsort((apart, label))
    first = order[np.append(True, np.diff(label[order]) != 0)]
    return rows[first], columns[first]


def _fraction(smooth: np.ndarray, rows: np.ndarray, columns: np.ndarray, axis: int) -> np.ndarray:
    """How far beside the pixel the true maximum lies along ``axis`` (0: rows), in -0.5..0.5; 0 at the border."""
    place, size = (rows, columns)[axis], smooth.shape[axis]
    inside = (place > 0) & (place < size - 1)
    step = np.where(inside, 1, 0)
    before, after = ((rows - step, rows + step), (columns - step, columns + step))[axis]
    if axis == 0:
        low, high = smooth[before, columns], smooth[after, columns]
    else:
        low, high = smooth[rows, before], smooth[rows, after]
    low, middle, high = (np.log(np.maximum(each, _TINY)) for each in (low, smooth[rows, columns], high))
    bend = low - 2 * middle + high
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(bend < 0, (low - high) / (2 * bend), 0.0)
    return np.clip(fraction, -0.5, 0.5)
