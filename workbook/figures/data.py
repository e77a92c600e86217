"""What a data set holds: how often parts and joints occur, and what the targets look like."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mula_lib.anatomy import Anatomy
from workbook.figures.style import BLUE, ORANGE, bare, in_house_style

EDGE = {"edgecolor": "#333333", "linewidth": 0.6}


@in_house_style
def part_frequencies(in_images: np.ndarray, of_pixels: np.ndarray, anatomy: Anatomy) -> Figure:
    """Two bars a part: (P,) percent of the images that show it, and of all annotated pixels (logarithmic)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), sharey=True, layout="constrained")
    names = [part.replace("_", " ") for part in anatomy.parts]
    palette = [tuple(color) for color in np.array(anatomy.palette) / 255]
    for axes, values in ((left, in_images), (right, of_pixels)):
        sns.barplot(x=values, y=names, hue=names, palette=palette, saturation=1, legend=False, ax=axes, **EDGE)
        axes.grid(axis="x")
    left.set(xlabel="images that show it, %", xlim=(0, 100))
    right.set(xlabel="pixels, % (logarithmic)", xscale="log")
    return figure


@in_house_style
def joint_states(visible: np.ndarray, occluded: np.ndarray, missing: np.ndarray, anatomy: Anatomy) -> Figure:
    """One stacked bar a joint; each argument is (N,) percent of the people, and the three add up to 100."""
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    names = [joint.replace("_", " ") for joint in anatomy.joints]
    axes.barh(names, visible, color=BLUE, label="visible (v = 0)", **EDGE)
    axes.barh(names, occluded, left=visible, color=ORANGE, hatch="////", label="occluded (v = 1)", **EDGE)
    axes.barh(names, missing, left=visible + occluded, color="white", hatch="..", label="missing (nan)", **EDGE)
    axes.set(xlabel="people, %", xlim=(0, 100))
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def draw_map(axes: Axes, values: np.ndarray, backdrop: np.ndarray | None = None) -> AxesImage:
    """A confidence map (h, w) from 0 to 1, over a grey (H, W, 3) image of the same extent if there is one."""
    inside, extent = np.clip(np.nan_to_num(values), 0, 1), (0, 1, 1, 0)  # a network that diverged may say anything
    if backdrop is not None:
        axes.imshow(backdrop.mean(axis=2), cmap="gray", extent=extent)
    bare(axes)
    return axes.imshow(
        inside, cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest",
        alpha=None if backdrop is None else 0.35 + 0.5 * inside,
    )  # fmt: skip


def confidence_bar(figure: Figure, drawn: AxesImage, grid: np.ndarray, aspect: int) -> None:
    """The color bar of :func:`draw_map`, beside ``grid``."""
    mappable = plt.cm.ScalarMappable(norm=drawn.norm, cmap="viridis")  # without the map's transparency
    figure.colorbar(mappable, ax=grid, shrink=0.8, aspect=aspect).set_label("confidence")


@in_house_style
def map_grid(
    maps: Sequence[Sequence[np.ndarray]], *, row_titles: Sequence[str] = (), column_titles: Sequence[str] = (),
    backdrop: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """Rows of equally many confidence maps (h, w), all over the same ``backdrop``."""
    size = (2.1 * len(maps[0]) + 0.9, 2.4 * len(maps))
    figure, grid = plt.subplots(len(maps), len(maps[0]), figsize=size, squeeze=False, layout="constrained")
    for axes, values in zip(grid.flat, (each for row in maps for each in row), strict=True):
        drawn = draw_map(axes, values, backdrop)
    for axes, title in zip(grid[:, 0], row_titles, strict=False):
        axes.set_ylabel(title)
    for axes, title in zip(grid[0], column_titles, strict=False):
        axes.set_title(title, fontsize=10)
    confidence_bar(figure, drawn, grid, aspect=25)
    return figure
