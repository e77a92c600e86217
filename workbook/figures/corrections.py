"""Fig. 1: what changes from one network to another, marked on the images: what is corrected, and what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from mula_lib.anatomy import IGNORE, Anatomy
from workbook.figures.people import Picture, picture_grid
from workbook.figures.style import YELLOW, in_house_style

SMALLEST = 0.002  # share of the image's pixels below which a region is not outlined
# Solid and white against dashed and yellow: the line tells them apart, not the color alone.
OUTLINE = {"linewidth": 1.8, "path_effects": [withStroke(linewidth=3.6, foreground="black")]}
CORRECTED = {"color": "white", "linestyle": "-", **OUTLINE}
LOST = {"color": YELLOW, "linestyle": (0, (2, 1.4)), **OUTLINE}


class Change(NamedTuple):
    """One image: the truth, two predictions, and which joints only one of the two hits."""

    truth: Picture
    before: Picture
    after: Picture
    corrected: np.ndarray  # (N,) bool: only ``after`` hits
    lost: np.ndarray  # (N,) bool: only ``before`` hits


@in_house_style
def corrections(
    changes: Sequence[Change], anatomy: Anatomy, *, column_titles: Sequence[str], row_titles: Sequence[str]
) -> Figure:
    """A row an image: photo, truth, before, after; what the second network changed is outlined in its picture."""
    rows = [[Picture(each.truth.image), each.truth, each.before, each.after] for each in changes]
    figure = picture_grid(rows, anatomy, row_titles=row_titles, column_titles=column_titles, panel=2.0, legend=False)
    for axes, change in zip(figure.axes[3::4], changes, strict=True):
        regions = changed_regions(change.truth.mask, change.before.mask, change.after.mask)
        reach = 0.045 * max(change.truth.image.shape[:2])
        for region, joints, style in zip(regions, (change.corrected, change.lost), (CORRECTED, LOST), strict=True):
            for outline in _outlines(region):
                axes.plot(*np.vstack([outline, outline[:1]]).T, **style, zorder=5)
            for place in change.after.joints[joints]:
                axes.add_patch(plt.Circle(place, reach, fill=False, **style, zorder=6))
    looks = {"corrected": CORRECTED, "lost": LOST}
    handles = [Line2D([], [], **look, label=f"{name} region or joint") for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def changed_regions(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where only ``after`` is right, and where only ``before`` was: two (H, W) bool, of (H, W) part ids each.

    Pixels whose truth is 255 are in neither.
    """
    right_before, right_after = ((mask == truth) & (truth != IGNORE) for mask in (before, after))
    return right_after & ~right_before, right_before & ~right_after


def _outlines(region: np.ndarray) -> list[np.ndarray]:
    """Outlines (K, 2) of the larger connected regions, specks and bridges of a pixel removed."""
    opened = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [each[:, 0] for each in found if cv2.contourArea(each) >= SMALLEST * region.size]
