"""Several people: what the offset branch is trained towards, and candidates in the centroid embedding space."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mula_lib.grouping import Candidates
from workbook.figures.people import PEOPLE
from workbook.figures.style import bare, in_house_style

LEFT_OVER = "#BBBBBB"
OUTLINE = [withStroke(linewidth=2.2, foreground="black")]


def _grey(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=-80, vmax=335, interpolation="nearest")
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    bare(axes)


@in_house_style
def offset_targets(
    image: np.ndarray, heatmap: np.ndarray, offsets: np.ndarray, discs: np.ndarray, centers: np.ndarray, joint: str
) -> Figure:
    """One joint's targets over a square image: the heatmap of all people, and the offsets as arrows to centroids.

    ``heatmap`` is (h, w), ``offsets`` (2, h, w) x and y in pixels of the image, ``discs`` (h, w) bool where they are
    defined, and ``centers`` (M, 2) the centroids, drawn as crosses.
    """
    crop, stride = image.shape[0], image.shape[0] / heatmap.shape[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.9), layout="constrained")
    _grey(left, image)
    left.imshow(
        np.ma.masked_where(heatmap == 0, heatmap), extent=(-0.5, crop - 0.5, crop - 0.5, -0.5), cmap="viridis", vmin=0,
        vmax=1, alpha=0.85, interpolation="nearest",
    )  # fmt: skip
    left.set_title(f"heatmap of the {joint}, all people added up")
    _grey(right, image)
    rows, columns = np.nonzero(discs)
    x, y = ((stride - 1) / 2 + stride * each for each in (columns, rows))
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.004, "color": PEOPLE[0]}
    right.quiver(x, y, *offsets[:, rows, columns], **arrows, edgecolor="black", linewidth=0.3)
    right.plot(*centers.T, "x", color="white", markersize=11, markeredgewidth=2.5, path_effects=OUTLINE)
    right.set_title("offsets to the centroid of the nearest person")
    return figure


@in_house_style
def embeddings(
    images: Sequence[np.ndarray], found: Sequence[Candidates], people: Sequence[Sequence[Sequence[int]]],
    *, titles: Sequence[str] = (),
) -> Figure:  # fmt: skip
    """Candidates (dots) and where their offsets take them (crosses), a color a person, grey what was left over.

    ``found`` has the candidates of each image, ``people`` for each image the indices of every person's candidates.
    """
    figure, grid = plt.subplots(1, len(images), figsize=(3.4 * len(images), 3.7), squeeze=False, layout="constrained")
    for axes, image, candidates, groups in zip(grid[0], images, found, people, strict=True):
        _grey(axes, image)
        color_of = {index: PEOPLE[n % len(PEOPLE)] for n, indices in enumerate(groups) for index in indices}
        for index, ends in enumerate(np.stack([candidates.place, candidates.embedding], axis=1)):
            color = color_of.get(index, LEFT_OVER)
            axes.plot(*ends.T, color=color, linewidth=0.9, alpha=0.9)
            axes.plot(*ends[0], "o", color=color, markeredgecolor="black", markersize=5)
            axes.plot(*ends[1], "x", color=color, markersize=7, markeredgewidth=1.8, path_effects=OUTLINE)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title)
    return figure
