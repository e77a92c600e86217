"""Inside the network: predicted kernels, and what each stage says."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mula_lib.anatomy import Anatomy
from workbook.figures.data import confidence_bar, draw_map
from workbook.figures.people import Picture, draw_picture, part_legend
from workbook.figures.style import bare, in_house_style


@in_house_style
def kernel_rows(
    rows: Sequence[tuple[Picture | str, np.ndarray]], channels: Sequence[int], anatomy: Anatomy, *, split: int
) -> Figure:
    """Kernels (C, h, h), a row each beside a picture or a name; of the C only ``channels`` are drawn.

    Rows from ``split`` on, which are differences and so far smaller, have a color scale of their own.
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
    for axes, channel in zip(grid[0, 1:], channels, strict=True):
        axes.set_title(f"channel {channel}", fontsize=9)
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
    columns += [(f"stage {number}", *stage) for number, stage in enumerate(stages, start=first)]
    size = (2.1 * len(columns) + 0.9, 5.2)
    figure, grid = plt.subplots(2, len(columns), figsize=size, squeeze=False, layout="constrained")
    for above, below, (title, mask, values) in zip(*grid, columns, strict=True):
        draw_picture(above, Picture(truth.image, mask, title=title), anatomy)
        drawn = draw_map(below, values, truth.image)
        below.set_title(f"peak {values.max():.2g}", fontsize=9)
    grid[0, 0].set_ylabel("parts")
    grid[1, 0].set_ylabel(joint.replace("_", " "))
    confidence_bar(figure, drawn, grid[1], aspect=12)
    part_legend(figure, [mask for _, mask, _ in columns], anatomy, columns=2 + 2 * len(columns))
    return figure
