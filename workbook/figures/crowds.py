"""Several people: what the offset branch is trained towards, and candidates in the centroid embedding space."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mula_lib.grouping import Candidates
from workbook.figures.people import PEOPLE, bare
from workbook.figures.style import in_house_style

LEFT_OVER = "#BBBBBB"
OUTLINE = [withStroke(linewidth=2.2, foreground="black")]


@in_house_style
def offset_targets(
    image: np.ndarray, heatmap: np.ndarray, offsets: np.ndarray, discs: np.ndarray, centres: np.ndarray, title: str
) -> Figure:
    """One joint's targets over an image: left the heatmap of all people, right the offsets as arrows to centroids.

    Args:
        image: (crop, crop, 3) uint8 RGB.
        heatmap: (h, w) target of the joint.
        offsets: (2, h, w) its offsets, x and y, in pixels of the crop.
        discs: (h, w) bool, where they are defined.
        centres: (M, 2) centroids in pixels of the crop, drawn as crosses.
        title: the joint's name.
    """
    crop, cells = image.shape[0], heatmap.shape[0]
    stride = crop / cells
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.9), layout="constrained")
    for axes in (left, right):
        axes.imshow(image.mean(axis=2), cmap="gray", vmin=-80, vmax=335, interpolation="nearest")
        bare(axes)
    extent = (-0.5, crop - 0.5, crop - 0.5, -0.5)
    visible = np.ma.masked_where(heatmap == 0, heatmap)
    left.imshow(visible, extent=extent, cmap="viridis", vmin=0, vmax=1, alpha=0.85, interpolation="nearest")
    left.set_title(f"heatmap of {title}: everybody's, added up")
    rows, columns = np.nonzero(discs)
    x, y = ((stride - 1) / 2 + stride * each for each in (columns, rows))
    right.quiver(
        x, y, *offsets[:, rows, columns], angles="xy", scale_units="xy", scale=1, width=0.004, color=PEOPLE[0],
        edgecolor="black", linewidth=0.3,
    )  # fmt: skip
    known = centres[np.isfinite(centres).all(axis=1)]
    right.plot(*known.T, "x", color="white", markersize=11, markeredgewidth=2.5, path_effects=OUTLINE)
    right.set(title="offsets, to the centroid of the nearest", xlim=(-0.5, crop - 0.5), ylim=(crop - 0.5, -0.5))
    return figure


@in_house_style
def embeddings(
    images: Sequence[np.ndarray],
    found: Sequence[Candidates],
    members: Sequence[Sequence[Sequence[int]]],
    *,
    titles: Sequence[str] = (),
) -> Figure:
    """Candidates (dots) and where their offsets take them (crosses), a colour a person, grey what was left over.

    Args:
        images: crops (crop, crop, 3) uint8 RGB, one a panel.
        found: the candidates of each, in crop pixels.
        members: of each image, the indices of every person's candidates.
        titles: of the panels.
    """
    figure, grid = plt.subplots(1, len(images), figsize=(3.4 * len(images), 3.7), squeeze=False, layout="constrained")
    for number, (axes, image, candidates, people) in enumerate(zip(grid[0], images, found, members, strict=True)):
        axes.imshow(image.mean(axis=2), cmap="gray", vmin=-80, vmax=335, interpolation="nearest")
        colours = np.full(len(candidates), LEFT_OVER, dtype=object)
        for person, indices in enumerate(people):
            colours[list(indices)] = PEOPLE[person % len(PEOPLE)]
        for colour, place, embedding in zip(colours, candidates.place, candidates.embedding, strict=True):
            axes.plot(*np.stack([place, embedding]).T, color=colour, linewidth=0.9, alpha=0.9)
            axes.plot(*place, "o", color=colour, markeredgecolor="black", markersize=5)
            axes.plot(*embedding, "x", color=colour, markersize=7, markeredgewidth=1.8, path_effects=OUTLINE)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        bare(axes)
        if titles:
            axes.set_title(titles[number])
    return figure
