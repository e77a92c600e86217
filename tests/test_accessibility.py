"""Pictures that can be read by everybody: words beside them, and colors that stay apart for every kind of vision."""

import itertools
import re

import cv2
import nbformat
import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.colors import to_rgb

from mula_lib.anatomy import LIP, PASCAL
from workbook.figures import style

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

# What dichromats see of linear RGB (Viénot, Brettel and Mollon 1999)
VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    "no colors": [[0.2126, 0.7152, 0.0722]] * 3,
}


def seen(colors, vision):
    """(N, 3) sRGB of 0..255 -> (N, 3) CIE L*a*b* as somebody with that vision sees it."""
    srgb = np.asarray(colors, float) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(VISION[vision], float).T, 0, 1)
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(back[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("vision", VISION)
def test_the_two_sides_of_a_body_stay_apart(vision):
    pairs = [(LIP.part(f"left_{part}"), LIP.part(f"right_{part}")) for part in ("arm", "leg", "shoe")]
    pairs += [(PASCAL.part(f"upper_{part}"), PASCAL.part(f"lower_{part}")) for part in ("arm", "leg")]
    for anatomy, (one, other) in zip([LIP] * 3 + [PASCAL] * 2, pairs, strict=True):
        first, second = seen([anatomy.palette[one], anatomy.palette[other]], vision)
        assert np.linalg.norm(first - second) > 20, (anatomy.parts[one], anatomy.parts[other])


@pytest.mark.parametrize("vision", ["usual", "protanopia", "deuteranopia"])
def test_the_first_lines_of_a_plot_stay_apart(vision):
    colors = seen([255 * np.array(to_rgb(color)) for color in style.LINES[:4]], vision)
    for one, other in itertools.combinations(colors, 2):
        assert np.linalg.norm(one - other) > 15  # six times what is just noticed


def test_verdicts_and_bars_differ_without_color():
    assert len({marker for _, marker in style.VERDICTS.values()}) == len(style.VERDICTS)
    bars = [255 * np.array(to_rgb(bar["facecolor"])) for bar in (style.PAPER_BAR, style.OURS_BAR)]
    paper, ours = seen(bars, "no colors")
    assert abs(paper[0] - ours[0]) > 25
    assert style.PAPER_BAR["hatch"]


@pytest.mark.parametrize("page", sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"), *NOTEBOOKS]))
def test_every_picture_of_a_page_is_there_and_has_words_for_those_who_do_not_see_it(page):
    cells = nbformat.read(page, as_version=4).cells if page in NOTEBOOKS else []
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        for kind in output.get("data", {}):
            assert not kind.startswith("image/") or len(output["metadata"][kind].get("alt", "")) > 15
    for words, where in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8"), re.DOTALL):
        assert len(words) > 15
        assert where.startswith("http") or (page.parent / where).is_file(), where
