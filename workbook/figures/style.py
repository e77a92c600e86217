"""How the workbook's figures look: one set of sizes, and colors that stay apart for every kind of color vision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 80  # on the page; keeps executed notebooks small

# Okabe and Ito's palette, which differs in lightness too
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
GREY = "#555555"
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, "#7F7F7F", "#8C6D1F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
DASHES = ("", (4, 1.5), (6, 1.5, 1, 1.5), (1, 1))  # solid, dashed, dash-dotted, dotted
PAPER_BAR = {"facecolor": "#C9C9C9", "edgecolor": "#333333", "hatch": "////"}
OURS_BAR = {"facecolor": BLUE, "edgecolor": "#08304A"}
VERDICTS = {"supported": (BLUE, "o"), "not supported": (RED, "X"), "undecided": ("#9A9A9A", "s")}  # color and marker

HOUSE_STYLE = {
    "figure.dpi": DPI, "savefig.dpi": DPI, "figure.facecolor": "white", "font.size": 11, "axes.titlesize": 11,
    "axes.labelsize": 11, "legend.fontsize": 10, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#DDDDDD",
    "hatch.linewidth": 0.6,
}  # fmt: skip


def in_house_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the house style, whatever the caller's settings, and return the figure closed.

    A closed figure is still whole; only pyplot forgets it, so that a notebook does not show it twice.
    """

    @functools.wraps(draw)
    def styled(*arguments: object, **named: object) -> Figure:
        with rc_context(HOUSE_STYLE):
            figure = draw(*arguments, **named)
        plt.close(figure)
        return figure

    return styled


def label_grid(grid: np.ndarray, rows: Sequence[str], columns: Sequence[str] = ()) -> None:
    """Name a grid's rows at the left and its columns above, over a panel's own title if it has one."""
    for axes, name in zip(grid[:, 0], rows, strict=False):
        axes.set_ylabel(name, fontsize=10)
    for axes, name in zip(grid[0], columns, strict=False):
        axes.set_title(f"{name}\n{axes.get_title()}".strip(), fontsize=10)


def bare(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
