"""Photos of people with part masks and joints drawn over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from mula_lib.anatomy import IGNORE, Anatomy
from workbook.figures.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, YELLOW, in_house_style

MASK_STRENGTH = 0.7  # share of the part's colour in the blend
IGNORED_GREY = 90  # of mask pixels that no loss or metric looks at
PEOPLE = (ORANGE, SKY, YELLOW, GREEN, PURPLE, RED, BLUE)  # one after the other
SIDE_COLOUR = {"left": ORANGE, "right": SKY, "": "white"}
SIDE_MARKER = {"left": "o", "right": "s", "": "D"}


class Picture(NamedTuple):
    """One panel: a photo, and whatever is to be drawn over it."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray | None = None  # (H, W) part ids
    # (N, 2) float, (column, row) in the image's pixels, or (M, N, 2) of several people; nan is not drawn
    joints: np.ndarray | None = None
    occluded: np.ndarray | None = None  # (N,) or (M, N) bool: drawn hollow
    title: str = ""


def blend(image: np.ndarray, mask: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """(H, W, 3) uint8: the photo, with every part but the background tinted over a grey version of it."""
    lookup = np.zeros((256, 3))
    lookup[: len(anatomy.palette)] = anatomy.palette
    lookup[IGNORE] = IGNORED_GREY
    grey = image.mean(axis=2, keepdims=True)  # under colours of its own a part would not look like its legend
    tinted = (1 - MASK_STRENGTH) * grey + MASK_STRENGTH * lookup[mask]
    return np.where((mask > 0)[..., None], tinted, image).astype(np.uint8)


def draw_joints(axes: Axes, joints: np.ndarray, anatomy: Anatomy, occluded: np.ndarray | None = None) -> None:
    """Skeleton and joints: left orange circles, right blue squares, middle white diamonds; occluded ones hollow."""
    outline = [withStroke(linewidth=2.6, foreground="black")]
    for a, b in anatomy.limb_indices:
        axes.plot(*joints[[a, b]].T, color="white", linewidth=1.2, path_effects=outline, zorder=3)
    hidden = np.zeros(len(joints), dtype=bool) if occluded is None else occluded
    for name, point, hollow in zip(anatomy.joints, joints, hidden, strict=True):
        side = name.split("_")[0] if name.split("_")[0] in SIDE_COLOUR else ""
        colour = SIDE_COLOUR[side]
        axes.plot(
            *point, marker=SIDE_MARKER[side], markersize=5, linestyle="none", zorder=4,
            markerfacecolor="none" if hollow else colour, markeredgecolor=colour if hollow else "black",
            markeredgewidth=1.3 if hollow else 0.7, path_effects=outline if hollow else None,
        )  # fmt: skip


def draw_people(axes: Axes, joints: np.ndarray, anatomy: Anatomy, occluded: np.ndarray | None = None) -> None:
    """Skeletons of M people, ``joints`` (M, N, 2), each in a colour of its own; occluded joints hollow."""
    outline = [withStroke(linewidth=3.2, foreground="black")]
    for number, person in enumerate(joints):
        colour = PEOPLE[number % len(PEOPLE)]
        for a, b in anatomy.limb_indices:
            axes.plot(*person[[a, b]].T, color=colour, linewidth=1.8, path_effects=outline, zorder=3)
        hidden = np.zeros(len(person), dtype=bool) if occluded is None else occluded[number]
        for hollow in (False, True):
            axes.plot(
                *person[hidden == hollow].T, marker="o", markersize=4.5, linestyle="none", zorder=4,
                markerfacecolor="black" if hollow else colour, markeredgecolor=colour if hollow else "black",
                markeredgewidth=1.3 if hollow else 0.7,
            )  # fmt: skip


def draw_picture(axes: Axes, picture: Picture, anatomy: Anatomy) -> None:
    """Draw one panel without ticks; what lies outside the photo is cut off."""
    height, width = picture.image.shape[:2]
    photo = picture.image if picture.mask is None else blend(picture.image, picture.mask, anatomy)
    axes.imshow(photo, interpolation="nearest")
    if picture.joints is not None:
        draw = draw_people if picture.joints.ndim == 3 else draw_joints
        draw(axes, picture.joints, anatomy, picture.occluded)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    bare(axes)
    if picture.title:
        axes.set_title(picture.title, fontsize=10)


def bare(axes: Axes) -> None:
    """Without ticks and frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def part_legend(figure: Figure, masks: Sequence[np.ndarray], anatomy: Anatomy, *, columns: int = 7) -> None:
    """Below the figure: the colours of the parts that occur in ``masks``."""
    present = sorted({int(part) for mask in masks for part in np.unique(mask)} - {0})
    labels = {part: anatomy.parts[part].replace("_", " ") for part in present if part < len(anatomy.parts)}
    if IGNORE in present:
        labels[IGNORE] = "ignored"
    colour_of = {part: anatomy.palette[part] if part != IGNORE else (IGNORED_GREY,) * 3 for part in labels}
    patches = [
        Patch(facecolor=np.array(colour_of[part]) / 255, edgecolor="#333333", linewidth=0.5, label=label)
        for part, label in labels.items()
    ]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(columns, len(patches)), frameon=False,
            handlelength=1.2, columnspacing=1.0, fontsize=9,
        )  # fmt: skip


@in_house_style
def picture_grid(
    rows: Sequence[Sequence[Picture]],
    anatomy: Anatomy,
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    panel: float = 2.4,
    legend: bool = True,
) -> Figure:
    """Pictures in rows and columns of panels ``panel`` inches wide, and below them the colours of the parts."""
    columns = max(len(row) for row in rows)
    # a panel is as tall as the tallest picture of its row needs
    heights = [max(p.image.shape[0] / max(p.image.shape[:2]) for p in row) for row in rows]
    titled = sum(any(p.title for p in row) for row in rows)
    masks = [p.mask for row in rows for p in row if p.mask is not None] if legend else []
    legend_lines = -(-len({int(part) for mask in masks for part in np.unique(mask)} - {0}) // 7)
    size = (panel * columns, panel * sum(heights) + 0.25 * titled + 0.25 * legend_lines + 0.3 * bool(column_titles))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for row, (pictures, line) in enumerate(zip(rows, grid, strict=True)):
        for axes in line:
            bare(axes)
        for axes, picture in zip(line, pictures, strict=False):
            draw_picture(axes, picture, anatomy)
        if row_titles:
            line[0].set_ylabel(row_titles[row], fontsize=10)
    for axes, title in zip(grid[0], column_titles, strict=False):
        above = axes.get_title()
        axes.set_title(f"{title}\n{above}" if above else title, fontsize=10)
    part_legend(figure, masks, anatomy)
    return figure
