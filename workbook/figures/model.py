"""Inside the network: predicted kernels, and what each stage says."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mula_lib.anatomy import Anatomy
from workbook.figures.people import Picture, bare, draw_picture, part_legend
from workbook.figures.style import in_house_style


@in_house_style
def kernel_grid(images: Sequence[np.ndarray], kernels: Sequence[np.ndarray], channels: Sequence[int]) -> Figure:
    """The kernels that two images receive, and their difference.

    Args:
        images: two (H, W, 3) uint8 images.
        kernels: two (C, h, h) arrays, predicted for them.
        channels: which of the C kernels to draw.
    """
    first, second = kernels
    rows = [first, second, first - second]
    columns = len(channels)
    size = (1.05 * columns + 2.6, 3.9)
    figure, grid = plt.subplots(3, columns + 1, figsize=size, squeeze=False, layout="constrained")
    for number, (line, values) in enumerate(zip(grid, rows, strict=True)):
        bare(line[0])
        if number < 2:
            line[0].imshow(images[number])
            line[0].set_ylabel(f"image {'AB'[number]}")
        else:
            line[0].text(0.5, 0.5, "A − B", ha="center", va="center", transform=line[0].transAxes)
        # the difference may be far smaller than the kernels, so it has a colour scale of its own
        compared = rows[:2] if number < 2 else rows[2:]
        reach = max(float(np.abs(each[list(channels)]).max()) for each in compared) or 1.0
        for axes, channel in zip(line[1:], channels, strict=True):
            shown = axes.imshow(values[channel], cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
            bare(axes)
            if number == 0:
                axes.set_title(f"channel {channel}", fontsize=9)
        if number > 0:
            ax = grid[:2, 1:] if number == 1 else grid[2, 1:]
            figure.colorbar(shown, ax=ax, aspect=18 if number == 1 else 9)
    return figure


@in_house_style
def kernels_by_pose(
    pictures: Sequence[Picture], kernels: np.ndarray, mean: np.ndarray, channels: Sequence[int], anatomy: Anatomy
) -> Figure:
    """The mean kernels of a data set, and below, a row a person, in what each one's differ from them.

    Args:
        pictures: K crops with joints.
        kernels: (K, C, h, h), predicted for them.
        mean: (C, h, h).
        channels: which of the C kernels to draw.
    """
    rows = [mean, *(each - mean for each in kernels)]
    size = (1.05 * len(channels) + 2.2, 1.12 * len(rows) + 0.3)
    figure, grid = plt.subplots(len(rows), len(channels) + 1, figsize=size, squeeze=False, layout="constrained")
    bare(grid[0, 0])
    grid[0, 0].text(0.5, 0.5, "mean", ha="center", va="center", transform=grid[0, 0].transAxes)
    for line, picture in zip(grid[1:], pictures, strict=True):
        draw_picture(line[0], picture, anatomy)
    scales = {0: grid[0, 1:], 1: grid[1:, 1:]}  # differences are smaller than kernels: a scale of their own
    for block, panels in scales.items():
        values = np.stack([each[list(channels)] for each in (rows[:1] if block == 0 else rows[1:])])
        reach = float(np.abs(values).max()) or 1.0
        for axes, kernel in zip(np.atleast_2d(panels).ravel(), values.reshape(-1, *mean.shape[1:]), strict=True):
            shown = axes.imshow(kernel, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
            bare(axes)
        figure.colorbar(shown, ax=panels, aspect=5 if block == 0 else 25)
    for axes, channel in zip(grid[0, 1:], channels, strict=True):
        axes.set_title(f"channel {channel}", fontsize=9)
    return figure


@in_house_style
def stage_outputs(
    truth: Picture,
    part_maps: Sequence[np.ndarray],
    joint_maps: Sequence[np.ndarray],
    target: np.ndarray,
    joint: str,
    anatomy: Anatomy,
    *,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Part map (upper row) and the map of one joint (lower row) after each stage, beside the truth.

    Args:
        truth: crop with its true mask.
        part_maps: a (crop, crop) map of part ids per stage.
        joint_maps: an (h, w) confidence map of ``joint`` per stage.
        target: the (h, w) target map of that joint.
        numbers: the stages' numbers, 1 to T by default.
    """
    numbers = range(1, len(part_maps) + 1) if numbers is None else numbers
    masks = [truth.mask, *part_maps]
    maps = [target, *joint_maps]
    titles = ["truth", *(f"stage {number}" for number in numbers)]
    size = (2.1 * len(masks) + 0.9, 5.2)
    figure, grid = plt.subplots(2, len(masks), figsize=size, squeeze=False, layout="constrained")
    grey = truth.image.mean(axis=2)
    for above, below, mask, values, title in zip(*grid, masks, maps, titles, strict=True):
        draw_picture(above, Picture(truth.image, mask, title=title), anatomy)
        inside = np.clip(np.nan_to_num(values), 0, 1)  # a network that diverged says anything
        below.imshow(grey, cmap="gray", extent=(0, 1, 1, 0))
        shown = below.imshow(
            inside, cmap="viridis", vmin=0, vmax=1, extent=(0, 1, 1, 0), interpolation="nearest",
            alpha=0.35 + 0.5 * inside,
        )  # fmt: skip
        below.set_title(f"peak {values.max():.2g}", fontsize=9)
        bare(below)
    grid[0, 0].set_ylabel("parts")
    grid[1, 0].set_ylabel(joint.replace("_", " "))
    bar = figure.colorbar(plt.cm.ScalarMappable(norm=shown.norm, cmap="viridis"), ax=grid[1], aspect=12)
    bar.set_label("confidence")
    part_legend(figure, masks, anatomy, columns=2 + 2 * len(masks))
    return figure
