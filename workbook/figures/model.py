"""Inside the network: confidence maps, predicted kernels, each stage's output, offsets and candidates of people."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mula_lib.anatomy import Anatomy
from mula_lib.grouping import Candidates
from workbook.figures.people import PEOPLE, Picture, draw_picture, part_legend
from workbook.figures.style import bare, in_house_style, label_grid

LEFT_OVER = "#BBBBBB"
OUTLINE = [withStroke(linewidth=2.2, foreground="black")]


def draw_map(axes: Axes, values: np.ndarray, backdrop: np.ndarray | None = None) -> None:
    """A confidence map (h, w) from 0 to 1, over a grey (H, W, 3) image of the same extent if there is one."""
    inside, extent = np.clip(np.nan_to_num(values), 0, 1), (0, 1, 1, 0)  # a diverged network may predict anything
    if backdrop is not None:
        axes.imshow(backdrop.mean(axis=2), cmap="gray", extent=extent)
    bare(axes)
    axes.imshow(
        inside, cmap="viridis", vmin=0, vmax=1, extent=extent, interpolation="nearest",
        alpha=None if backdrop is None else 0.35 + 0.5 * inside,
    )  # fmt: skip


def confidence_bar(figure: Figure, grid: np.ndarray, aspect: int) -> None:
    """The color bar of :func:`draw_map`, beside ``grid``."""
    mappable = plt.cm.ScalarMappable(plt.Normalize(0, 1), "viridis")  # without the map's transparency
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
        draw_map(axes, values, backdrop)
    label_grid(grid, row_titles, column_titles)
    confidence_bar(figure, grid, aspect=25)
    return figure


@in_house_style
def kernel_rows(
    rows: Sequence[tuple[Picture | str, np.ndarray]], channels: Sequence[int], anatomy: Anatomy, *, split: int
) -> Figure:
    """Kernels (C, h, h), one row each beside a picture or a name; only ``channels`` of the C are drawn.

    Rows from ``split`` on are differences, and have a color scale of their own.
    """
    values = np.stack([kernels[list(channels)] for _, kernels in rows])  # (rows, channels, h, h)
    size = (1.05 * len(channels) + 2.4, 1.12 * len(rows) + 0.35)
    figure, grid = plt.subplots(len(rows), len(channels) + 1, figsize=size, squeeze=False, layout="constrained")
    for axes, (beside, _) in zip(grid[:, 0], rows, strict=True):
        bare(axes)
        if isinstance(beside, str):
            axes.text(0.5, 0.5, beside, ha="center", va="center", transform=axes.transAxes)
        else:
            draw_picture(axes, beside, anatomy)
    for block in (slice(None, split), slice(split, None)):
        reach = float(np.abs(values[block]).max()) or 1.0
        for line, kernels in zip(grid[block, 1:], values[block], strict=True):
            for axes, kernel in zip(line, kernels, strict=True):
                drawn = axes.imshow(kernel, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
                bare(axes)
        figure.colorbar(drawn, ax=grid[block, 1:], aspect=6 * len(values[block]))
    label_grid(grid[:, 1:], (), [f"channel {channel}" for channel in channels])
    return figure


@in_house_style
def stage_outputs(
    truth: Picture, stages: Sequence[tuple[np.ndarray, np.ndarray]], target: np.ndarray, joint: str, anatomy: Anatomy,
    *, first: int = 1,
) -> Figure:  # fmt: skip
    """Part map (upper row) and the map of one joint (lower row) after each stage, beside the truth.

    Each of ``stages``, numbered from ``first``, has a map of part ids (crop, crop) and a confidence map (h, w) of
    ``joint``, whose ``target`` is (h, w), too.
    """
    columns = [("truth", truth.mask, target)]
    columns += [(f"stage {number}", *maps) for number, maps in enumerate(stages, start=first)]
    size = (2.1 * len(columns) + 0.9, 5.2)
    figure, grid = plt.subplots(2, len(columns), figsize=size, squeeze=False, layout="constrained")
    for above, below, (title, mask, values) in zip(*grid, columns, strict=True):
        draw_picture(above, Picture(truth.image, mask, title=title), anatomy)
        draw_map(below, values, truth.image)
        below.set_title(f"peak {values.max():.2g}", fontsize=9)
    label_grid(grid, ["parts", joint.replace("_", " ")])
    confidence_bar(figure, grid[1], aspect=12)
    part_legend(figure, [mask for _, mask, _ in columns], anatomy, columns=2 + 2 * len(columns))
    return figure


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
    look = {"cmap": "viridis", "vmin": 0, "vmax": 1, "alpha": 0.85 * (heatmap > 0), "interpolation": "nearest"}
    left.imshow(heatmap, extent=(-0.5, crop - 0.5, crop - 0.5, -0.5), **look)
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
    """Candidates (dots) and where their offsets take them (crosses), one color per person, leftovers in grey.

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
    label_grid(grid, (), titles)
    return figure
