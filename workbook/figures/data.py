"""What a data set holds: how often parts and joints occur."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from mula_lib.anatomy import Anatomy
from workbook.figures.style import BLUE, ORANGE, in_house_style

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
