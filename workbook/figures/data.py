"""What a data set holds: how often parts and joints occur, and how targets look."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mula_lib.anatomy import Anatomy
from workbook.figures.people import bare
from workbook.figures.style import BLUE, ORANGE, in_house_style


@in_house_style
def part_frequencies(in_images: np.ndarray, of_pixels: np.ndarray, anatomy: Anatomy) -> Figure:
    """Two bars a part.

    Args:
        in_images: (P,) percent of the images that show the part.
        of_pixels: (P,) percent of all annotated pixels; drawn on a logarithmic axis.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), sharey=True, layout="constrained")
    rows = np.arange(len(anatomy.parts))
    colours = np.array(anatomy.palette) / 255
    left.barh(rows, in_images, color=colours, edgecolor="#333333", linewidth=0.6)
    left.set(xlabel="images that show it, %", xlim=(0, 100), yticks=rows)
    left.set_yticklabels([part.replace("_", " ") for part in anatomy.parts])
    left.invert_yaxis()
    right.barh(rows, of_pixels, color=colours, edgecolor="#333333", linewidth=0.6)
    right.set(xlabel="pixels, % (logarithmic)", xscale="log")
    for axes in (left, right):
        axes.grid(axis="x")
    return figure


@in_house_style
def joint_states(visible: np.ndarray, occluded: np.ndarray, missing: np.ndarray, anatomy: Anatomy) -> Figure:
    """One stacked bar a joint; each argument is (N,) percent of the people, and the three add up to 100."""
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    rows = np.arange(len(anatomy.joints))
    edge = {"edgecolor": "#333333", "linewidth": 0.6}
    axes.barh(rows, visible, color=BLUE, label="visible (v = 0)", **edge)
    axes.barh(rows, occluded, left=visible, color=ORANGE, hatch="////", label="occluded (v = 1)", **edge)
    axes.barh(rows, missing, left=visible + occluded, color="white", hatch="..", label="missing (nan)", **edge)
    axes.set(xlabel="people, %", xlim=(0, 100), yticks=rows)
    axes.set_yticklabels([joint.replace("_", " ") for joint in anatomy.joints])
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


@in_house_style
def map_grid(
    maps: Sequence[Sequence[np.ndarray]],
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    backdrop: np.ndarray | None = None,
    panel: float = 2.1,
) -> Figure:
    """Confidence maps (h, w) with values from 0 to 1, in rows and columns.

    ``backdrop`` is an (H, W, 3) image drawn grey below every map, stretched to the same extent.
    """
    rows, columns = len(maps), max(len(row) for row in maps)
    figure, grid = plt.subplots(
        rows, columns, figsize=(panel * columns + 0.9, (panel + 0.3) * rows), squeeze=False, layout="constrained"
    )
    for row, (line, values) in enumerate(zip(grid, maps, strict=True)):
        for axes in line:
            bare(axes)
        for axes, each in zip(line, values, strict=False):
            extent = (0, 1, 1, 0)
            if backdrop is not None:
                axes.imshow(backdrop.mean(axis=2), cmap="gray", extent=extent)
            shown = axes.imshow(
                each, cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest",
                alpha=None if backdrop is None else 0.35 + 0.5 * np.clip(each, 0, 1),
            )  # fmt: skip
        if row_titles:
            line[0].set_ylabel(row_titles[row])
    for axes, title in zip(grid[0], column_titles, strict=False):
        axes.set_title(title, fontsize=10)
    bar = figure.colorbar(plt.cm.ScalarMappable(norm=shown.norm, cmap="viridis"), ax=grid, shrink=0.8, aspect=25)
    bar.set_label("confidence")
    return figure


@in_house_style
def heatmap_profiles(row: np.ndarray, column: np.ndarray, heatmap: np.ndarray) -> Figure:
    """A target map (h, w) with the two Gaussians whose outer product it is: ``column`` (h,) and ``row`` (w,)."""
    figure, grid = plt.subplots(
        2, 2, figsize=(5, 5), width_ratios=(3, 1), height_ratios=(1, 3), sharex="col", sharey="row",
        layout="constrained",
    )  # fmt: skip
    top, corner, centre, side = grid.ravel()
    corner.axis("off")
    top.plot(row, marker="o", markersize=3, color=BLUE)
    top.set(ylabel="$g_x$", ylim=(0, 1.05))
    side.plot(column, np.arange(len(column)), marker="s", markersize=3, color=ORANGE)
    side.set(xlabel="$g_y$", xlim=(0, 1.05))
    centre.imshow(heatmap, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    centre.set(xlabel="cell column", ylabel="cell row")
    centre.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
