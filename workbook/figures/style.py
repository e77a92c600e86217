"""The look of figures, in colors that stay apart for every kind of vision; how they are shown and saved."""

import functools
import inspect
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, Markdown, display
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from mula_lib.files import write_bytes, write_text
from workbook.runs import RESULTS

DPI = 80  # on the page; keeps executed notebooks small
CAPTION = "Description"  # keyword of the PNG's text that holds it; viewers and screen readers may show it
COLORS = 256  # of the palette; a third of the size of full color, and the eye sees no difference at this scale

# Okabe and Ito's palette, which differs in lightness too
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
GREY = "#555555"
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, "#7F7F7F", "#8C6D1F")
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


def png_bytes(figure: Figure, *, dpi: int = DPI, whole: bool = False) -> bytes:
    """The figure as a PNG with a palette, cut to what is drawn on it; ``whole`` keeps its full size."""
    full, small, text = io.BytesIO(), io.BytesIO(), PngInfo()
    figure.savefig(full, format="png", dpi=dpi, bbox_inches=None if whole else "tight", facecolor="white")
    if caption := getattr(figure, CAPTION, None):
        text.add_itxt(CAPTION, caption)
    Pillow.open(full).convert("RGB").quantize(
        COLORS, method=Pillow.Quantize.MAXCOVERAGE, kmeans=3, dither=Pillow.Dither.NONE
    ).save(small, "PNG", optimize=True, pnginfo=text)  # maximum coverage keeps rare colors, such as a legend's
    return small.getvalue()


def save_all(folder: Path, results: Mapping[str, Figure | pd.DataFrame | None], also: Sequence[str] = ()) -> None:
    """Write the figures and tables that are not None under their names; print their paths, and those of ``also``."""
    for name, result in results.items():
        if isinstance(result, Figure):
            write_bytes(folder / name, png_bytes(result))
        elif result is not None:
            write_text(folder / name, result.to_csv(index=result.index.name is not None))
    for name in (*also, *(name for name, result in results.items() if result is not None)):
        path = (folder / name).resolve()
        print(path.relative_to(RESULTS.parent) if path.is_relative_to(RESULTS) else path)


def show(figure: Figure, caption: str) -> None:
    """Put a figure and its caption (Markdown) on the page of a notebook; saved later, its PNG carries the caption."""
    setattr(figure, CAPTION, caption)
    display(Image(png_bytes(figure), alt=caption))
    display(Markdown(f"*{caption}*"))


def show_source(*objects: object) -> None:
    """Put the library's own code on the page, beside the equation that it implements."""
    for each in objects:
        display(Markdown(f"```python\n{textwrap.dedent(inspect.getsource(each)).strip()}\n```"))
