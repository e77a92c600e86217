"""Figures and sources on the page of a notebook, and figures on disk."""

from __future__ import annotations

import inspect
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from mula_lib.files import write_bytes, write_text
from workbook.datasets import REPOSITORY
from workbook.figures.style import DPI

CAPTION = "Description"  # keyword of the PNG's text that holds it; viewers and screen readers may show it
COLORS = 256  # of the palette; a third of the size of full color, and the eye sees no difference at this scale


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


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure to ``path`` as PNG, atomically; returns ``path``."""
    write_bytes(path, png_bytes(figure))
    return path


def save_all(folder: Path, results: Mapping[str, Figure | pd.DataFrame | None], also: Sequence[str] = ()) -> None:
    """Write the figures and tables that are not None under their names; print these files, and those ``also`` there."""
    for name, result in results.items():
        if isinstance(result, Figure):
            save_figure(result, folder / name)
        elif result is not None:
            write_text(folder / name, result.to_csv(index=result.index.name is not None))
    for name in (*also, *(name for name, result in results.items() if result is not None)):
        path = (folder / name).resolve()
        print(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


def show(figure: Figure, caption: str) -> None:
    """Put a figure and its caption (Markdown) on the page of a notebook; saved later, its PNG carries the caption."""
    setattr(figure, CAPTION, caption)
    display(Image(png_bytes(figure), alt=caption))
    display(Markdown(f"*{caption}*"))


def show_source(*objects: object) -> None:
    """Put the library's own code on the page, beside the equation that it implements."""
    for each in objects:
        display(Markdown(f"```python\n{textwrap.dedent(inspect.getsource(each)).strip()}\n```"))
