"""Photos of people with part masks and joints drawn over them, and Fig. 1: what changes between two networks."""

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from mula_lib.anatomy import IGNORE, Anatomy
from workbook.figures.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, YELLOW, bare, in_house_style, label_grid

MASK_STRENGTH = 0.7  # share of the part's color in the blend
IGNORED_GREY = 90  # of mask pixels that losses and metrics ignore
PEOPLE = (ORANGE, SKY, YELLOW, GREEN, PURPLE, RED, BLUE)  # in turn
SIDES = {"left": (ORANGE, "o"), "right": (SKY, "s")}  # color and marker
MIDDLE = ("white", "D")
SMALLEST = 0.002  # share of the image's pixels below which a region is not outlined
# Solid and white against dashed and yellow: the line tells them apart, not the color alone.
OUTLINE = {"linewidth": 1.8, "path_effects": [withStroke(linewidth=3.6, foreground="black")]}
CORRECTED = {"color": "white", "linestyle": "-", **OUTLINE}
LOST = {"color": YELLOW, "linestyle": (0, (2, 1.4)), **OUTLINE}


class Picture(NamedTuple):
    """One panel: a photo, and whatever is to be drawn over it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray | None = None  # (H, W) part ids
    # (N, 2) float, (column, row) in the image's pixels, or (M, N, 2) of several people; nan is not drawn
    joints: np.ndarray | None = None
    occluded: np.ndarray | None = None  # (N,) or (M, N) bool: drawn hollow
    title: str = ""
    unsure: np.ndarray | None = None  # (N,) or (M, N) bool: drawn hollow and without limbs


def part_colors(anatomy: Anatomy) -> np.ndarray:
    """(256, 3) RGB of 0..255 by part id."""
    colors = np.zeros((256, 3))
    colors[: len(anatomy.palette)] = anatomy.palette
    colors[IGNORE] = IGNORED_GREY
    return colors


def blend(image: np.ndarray, mask: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """(H, W, 3) uint8: the photo, with every part but the background tinted over a grey version of it."""
    grey = image.mean(axis=2, keepdims=True)  # under colors of its own a part would not look like its legend
    tinted = (1 - MASK_STRENGTH) * grey + MASK_STRENGTH * part_colors(anatomy)[mask]
    return np.where((mask > 0)[..., None], tinted, image).astype(np.uint8)


def draw_picture(axes: Axes, picture: Picture, anatomy: Anatomy) -> None:
    """Draw one panel without ticks; what lies outside the photo is cut off.

    Joints are left orange circles, right blue squares and middle white diamonds, or of several people circles in a
    color each; occluded ones are hollow. Those that a network is unsure of are hollow, too, and have no limbs.
    """
    height, width = picture.image.shape[:2]
    photo = picture.image if picture.mask is None else blend(picture.image, picture.mask, anatomy)
    axes.imshow(photo, interpolation="nearest")
    if picture.joints is not None:
        people = picture.joints.reshape(-1, len(anatomy.joints), 2)
        occluded, unsure = (np.broadcast_to(False if each is None else each, people.shape[:2])
                            for each in (picture.occluded, picture.unsure))  # fmt: skip
        colors = cycle(PEOPLE) if picture.joints.ndim == 3 else [None]
        outline = [withStroke(linewidth=3.0, foreground="black")]
        for joints, hidden, doubted, person in zip(people, occluded, unsure, colors, strict=False):
            limbs = np.where(doubted[:, None], np.nan, joints)
            for a, b in anatomy.limb_indices:
                axes.plot(*limbs[[a, b]].T, color=person or "white", linewidth=1.5, path_effects=outline, zorder=3)
            for name, point, hollow in zip(anatomy.joints, joints, hidden | doubted, strict=True):
                color, marker = (person, "o") if person else SIDES.get(name.split("_")[0], MIDDLE)
                axes.plot(
                    *point, marker=marker, markersize=5, linestyle="none", zorder=4,
                    markerfacecolor="none" if hollow else color, markeredgecolor=color if hollow else "black",
                    markeredgewidth=1.3 if hollow else 0.7, path_effects=outline if hollow else None,
                )  # fmt: skip
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    bare(axes)
    if picture.title:
        axes.set_title(picture.title, fontsize=10)


def part_legend(figure: Figure, masks: Sequence[np.ndarray], anatomy: Anatomy, *, columns: int = 7) -> int:
    """Below the figure: the colors of the parts that occur in ``masks``; returns how many there are."""
    present = sorted({int(part) for mask in masks for part in np.unique(mask)} - {0})
    names = {part: name.replace("_", " ") for part, name in enumerate(anatomy.parts)} | {IGNORE: "ignored"}
    colors = part_colors(anatomy) / 255
    patches = [Patch(facecolor=colors[part], edgecolor="#333333", lw=0.5, label=names[part]) for part in present]
    if patches:
        look = {"frameon": False, "handlelength": 1.2, "columnspacing": 1.0, "fontsize": 9}
        figure.legend(handles=patches, loc="outside lower center", ncols=min(columns, len(patches)), **look)
    return len(patches)


@in_house_style
def picture_grid(
    rows: Sequence[Sequence[Picture]], anatomy: Anatomy, *, row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (), panel: float = 2.4, legend: bool = True,
) -> Figure:  # fmt: skip
    """Pictures in rows and columns of panels ``panel`` inches wide, and below them the colors of the parts."""
    # a panel is as tall as the tallest picture of its row needs
    heights = [max(p.image.shape[0] / max(p.image.shape[:2]) for p in row) for row in rows]
    columns = max(len(row) for row in rows)
    figure, grid = plt.subplots(len(rows), columns, squeeze=False, layout="constrained", height_ratios=heights)
    for pictures, line in zip(rows, grid, strict=True):
        for axes in line:
            bare(axes)
        for axes, picture in zip(line, pictures, strict=False):
            draw_picture(axes, picture, anatomy)
    label_grid(grid, row_titles, column_titles)
    masks = [p.mask for row in rows for p in row if p.mask is not None] if legend else []
    lines = sum(any(p.title for p in row) for row in rows) + bool(column_titles)
    lines += -(-part_legend(figure, masks, anatomy) // 7)
    figure.set_size_inches(panel * columns, panel * sum(heights) + 0.26 * lines)
    return figure


@in_house_style
def corrections(
    rows: Sequence[Sequence[Picture]], joints: Sequence[tuple[np.ndarray, np.ndarray]], anatomy: Anatomy,
    *, column_titles: Sequence[str], row_titles: Sequence[str],
) -> Figure:  # fmt: skip
    """One row per image: photo, truth, before, after; the second network's changes are outlined in its picture.

    ``joints`` says of each row which joints only the second network hits, and which only the first: (N,) bool both.
    """
    figure = picture_grid(rows, anatomy, row_titles=row_titles, column_titles=column_titles, panel=2.0, legend=False)
    for axes, (_, truth, before, after), changed in zip(figure.axes[3::4], rows, joints, strict=True):
        regions = changed_regions(truth.mask, before.mask, after.mask)
        reach = 0.045 * max(truth.image.shape[:2])
        for region, mine, style in zip(regions, changed, (CORRECTED, LOST), strict=True):
            for outline in _outlines(region):
                axes.plot(*np.vstack([outline, outline[:1]]).T, **style, zorder=5)
            for place in after.joints[mine]:
                axes.add_patch(plt.Circle(place, reach, fill=False, **style, zorder=6))
    looks = {"corrected": CORRECTED, "lost": LOST}
    handles = [Line2D([], [], **look, label=f"{name} region or joint") for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def changed_regions(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where only ``after`` is right, and where only ``before`` was: two (H, W) bool; neither where the truth is 255."""
    right_before, right_after = ((mask == truth) & (truth != IGNORE) for mask in (before, after))
    return right_after & ~right_before, right_before & ~right_after


def _outlines(region: np.ndarray) -> list[np.ndarray]:
    """Outlines (K, 2) of the larger connected regions, specks and bridges of a pixel removed."""
    opened = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [each[:, 0] for each in found if cv2.contourArea(each) >= SMALLEST * region.size]
