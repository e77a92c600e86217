"""Fig. 1: what changes from one network to another, marked on the images: what is corrected, and what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from mula_lib.anatomy import IGNORE, Anatomy
from workbook.figures.people import Picture, draw_picture
from workbook.figures.style import in_house_style

SMALLEST = 0.002  # share of the image's pixels below which a region is not outlined
# Solid and white against dashed and yellow: the line tells them apart, not the colour alone.
CORRECTED = {"color": "white", "linestyle": "-", "linewidth": 1.8}
LOST = {"color": "#F0E442", "linestyle": (0, (2, 1.4)), "linewidth": 1.8}
OUTLINE = [withStroke(linewidth=3.6, foreground="black")]


class Change(NamedTuple):
    """One image: the truth, two predictions, and which joints the second one hits that the first one misses, or the
    reverse."""

    truth: Picture
    before: Picture
    after: Picture
    corrected: np.ndarray  # (N,) bool
    lost: np.ndarray  # (N,) bool


@in_house_style
def corrections(
    changes: Sequence[Change], anatomy: Anatomy, *, column_titles: Sequence[str], row_titles: Sequence[str]
) -> Figure:
    """A row an image: photo, truth, before, after; what the second network changed is outlined in its picture."""
    heights = [change.truth.image.shape[0] / max(change.truth.image.shape[:2]) for change in changes]
    figure, grid = plt.subplots(
        len(changes), 4, figsize=(7.8, 2.45 * sum(heights) + 0.9), squeeze=False, layout="constrained",
        height_ratios=heights,
    )  # fmt: skip
    for line, change, title in zip(grid, changes, row_titles, strict=True):
        pictures = (Picture(change.truth.image), change.truth, change.before, change.after)
        for axes, picture in zip(line, pictures, strict=True):
            draw_picture(axes, picture, anatomy)
        _mark(line[3], change)
        line[0].set_ylabel(title, fontsize=10)
    for axes, title in zip(grid[0], column_titles, strict=True):
        above = axes.get_title()
        axes.set_title(f"{title}\n{above}" if above else title, fontsize=10)
    figure.legend(
        handles=[
            Line2D([], [], **CORRECTED, path_effects=OUTLINE, label="corrected region or joint"),
            Line2D([], [], **LOST, path_effects=OUTLINE, label="lost region or joint"),
        ],
        loc="outside lower center", ncols=2, frameon=False,
    )  # fmt: skip
    return figure


def changed_regions(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where only ``after`` is right, and where only ``before`` was: two (H, W) bool, of (H, W) part ids each.

    Pixels whose truth is 255 are in neither.
    """
    counted = truth != IGNORE
    right_before, right_after = (before == truth) & counted, (after == truth) & counted
    return right_after & ~right_before, right_before & ~right_after


def _mark(axes: Axes, change: Change) -> None:
    if change.truth.mask is not None and change.after.mask is not None:
        regions = changed_regions(change.truth.mask, change.before.mask, change.after.mask)
        for region, style in zip(regions, (CORRECTED, LOST), strict=True):
            for outline in _outlines(region):
                axes.plot(*np.vstack([outline, outline[:1]]).T, **style, path_effects=OUTLINE, zorder=5)
    reach = 0.045 * max(change.truth.image.shape[:2])
    for joints, style in ((change.corrected, CORRECTED), (change.lost, LOST)):
        for x, y in change.after.joints[joints]:
            axes.add_patch(
                plt.Circle((x, y), reach, fill=False, edgecolor=style["color"], linestyle=style["linestyle"],
                           linewidth=style["linewidth"], path_effects=OUTLINE, zorder=6)
            )  # fmt: skip


def _outlines(region: np.ndarray) -> list[np.ndarray]:
    """Outlines (K, 2) of the larger connected regions, specks and bridges of a pixel removed."""
    opened = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [each[:, 0] for each in found if cv2.contourArea(each) >= SMALLEST * region.size]
