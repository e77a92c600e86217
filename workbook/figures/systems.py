"""The compared systems as small diagrams: what goes where, and what is learned from what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbook.figures.people import bare
from workbook.figures.style import in_house_style

# light tints; the text says what a box is, so that nothing hangs on the colour
IMAGE, TRUNK, PARTS, JOINTS, IDEA = "#EEEEEE", "#FFFFFF", "#FBE3C0", "#CFE8F7", "#F7F0A8"
ACROSS, DOWN = 1.0, 0.62  # distance of neighbouring places
PANEL = (5.6, 2.1)  # inches


class Box(NamedTuple):
    """A box with its text, at a place of a grid: columns to the right, rows downwards."""

    text: str
    column: float
    row: float
    colour: str = TRUNK


class Arrow(NamedTuple):
    """From one box to another, by their names."""

    start: str
    end: str
    text: str = ""
    dashed: bool = False


Diagram = tuple[dict[str, Box], Sequence[Arrow]]


def _chain(*names: str) -> list[Arrow]:
    return [Arrow(a, b) for a, b in itertools.pairwise(names)]


def _two_trunks(idea: dict[str, Box], arrows: Sequence[Arrow]) -> Diagram:
    """The joint systems: parsing above, pose below, and between them an idea."""
    boxes = {
        "image": Box("image", 0, 1, IMAGE),
        "S": Box("trunk", 1, 0, PARTS),
        "J": Box("trunk", 1, 2, JOINTS),
        "parts": Box("parts", 4, 0, PARTS),
        "joints": Box("joints", 4, 2, JOINTS),
        **idea,
    }
    return boxes, [Arrow("image", "S"), Arrow("image", "J"), *arrows]


DIAGRAMS: dict[str, Diagram] = {
    "FCN-8s": (
        {
            "image": Box("image", 0, 0, IMAGE), "3": Box("blocks\n1–3", 1, 0), "4": Box("block 4", 2, 0),
            "5": Box("block 5", 3, 0), "7": Box("conv\n6–7", 4, 0), "parts": Box("parts", 0, 2, PARTS),
            "s3": Box("score +", 1, 2, IDEA), "s4": Box("score +", 2, 2, IDEA), "s7": Box("score", 4, 2, IDEA),
        },
        [
            *_chain("image", "3", "4", "5", "7"), Arrow("3", "s3"), Arrow("4", "s4"), Arrow("7", "s7"),
            Arrow("s7", "s4", "×2"), Arrow("s4", "s3", "×2"), Arrow("s3", "parts", "×8"),
        ],
    ),
    "SegNet": (
        {
            "image": Box("image", 0, 0, IMAGE), "1": Box("block 1\npool", 1.2, 0),
            "2": Box("blocks\n2–4, pool", 2.6, 0),
            "3": Box("block 5\npool", 4, 0), "d3": Box("unpool\nconvs", 4, 2, IDEA),
            "d2": Box("unpool\nconvs", 2.6, 2, IDEA),
            "d1": Box("unpool\nconvs", 1.2, 2, IDEA), "parts": Box("parts", 0, 2, PARTS),
        },
        [
            *_chain("image", "1", "2", "3"), *_chain("d3", "d2", "d1", "parts"), Arrow("3", "d3"),
            Arrow("1", "d1", "places", dashed=True), Arrow("2", "d2", "places", dashed=True),
        ],
    ),
    "DeepLabV2": (
        {
            "image": Box("image", 0, 1.5, IMAGE), "trunk": Box("trunk,\nstride 8", 1.2, 1.5),
            **{str(r): Box(f"3×3, rate {r}", 2.6, row, IDEA) for row, r in enumerate((6, 12, 18, 24))},
            "+": Box("+", 3.7, 1.5), "parts": Box("parts", 4.6, 1.5, PARTS),
        },
        [
            *_chain("image", "trunk"), *(Arrow("trunk", r) for r in ("6", "12", "18", "24")),
            *(Arrow(r, "+") for r in ("6", "12", "18", "24")), *_chain("+", "parts"),
        ],
    ),
    "Attention": (
        {
            **{f"i{n}": Box(f"image × {s}", 0, n, IMAGE) for n, s in enumerate(("1", "¾", "½"))},
            "trunk": Box("one\ntrunk", 1.2, 1),
            **{f"g{n}": Box(f"scores g{s}", 2.4, n) for n, s in enumerate(("₁", "₂", "₃"))},
            "a": Box("weights a\n(softmax)", 2.4, 3.2, IDEA), "sum": Box("Σ a·g", 3.6, 1, IDEA),
            "parts": Box("parts", 4.6, 1, PARTS),
        },
        [
            *(Arrow(f"i{n}", "trunk") for n in range(3)), *(Arrow("trunk", f"g{n}") for n in range(3)),
            *(Arrow(f"g{n}", "sum") for n in range(3)), Arrow("trunk", "a"), Arrow("a", "sum"), Arrow("sum", "parts"),
        ],
    ),
    "Attention+SSL": (
        {
            "image": Box("image", 0, 0, IMAGE), "net": Box("Attention", 1.2, 0), "parts": Box("parts", 2.4, 0, PARTS),
            "true": Box("true parts", 2.4, 2, PARTS), "c": Box("centroids\nof 9 groups", 3.6, 0, IDEA),
            "ct": Box("centroids\nof 9 groups", 3.6, 2, IDEA), "w": Box("w =\ndistance", 4.7, 1, IDEA),
            "loss": Box("w · cross\nentropy", 1.2, 2, IDEA),
        },
        [
            *_chain("image", "net", "parts", "c", "w"), *_chain("true", "ct", "w"), Arrow("true", "loss"),
            Arrow("parts", "loss"),
        ],
    ),
    "SS-NAN": (
        {
            **{f"i{n}": Box(f"image × {s}", 0, n, IMAGE) for n, s in enumerate(("1", "¾", "½"))},
            "trunk": Box("one\ntrunk", 1.1, 1),
            **{f"f{n}": Box(f"features f{s}", 2.2, n) for n, s in enumerate(("₁", "₂", "₃"))},
            "a": Box("weights a\n(softmax)", 2.2, 3.2, IDEA), "sum": Box("Σ a·f", 3.3, 1, IDEA),
            "parts": Box("parts", 4.2, 1, PARTS), "loss": Box("w · hard\npixels", 4.2, 2.6, IDEA),
        },
        [
            *(Arrow(f"i{n}", "trunk") for n in range(3)), *(Arrow("trunk", f"f{n}") for n in range(3)),
            *(Arrow(f"f{n}", "sum") for n in range(3)), Arrow("trunk", "a"), Arrow("a", "sum"),
            *_chain("sum", "parts", "loss"),
        ],
    ),
    "PSN-style": (
        {
            "image": Box("image", 0, 0, IMAGE),
            **{f"C{n}": Box(f"C{s}", 1 + n, 0) for n, s in enumerate("₁₂₃₄")},
            **{f"P{n}": Box(f"P{s}", 1 + n, 1.2) for n, s in enumerate("₁₂₃₄")},
            **{f"H{n}": Box(f"H{s}", 1 + n, 2.4, JOINTS) for n, s in enumerate("₁₂₃₄")},
            "joints": Box("joints", 0, 2.4, JOINTS),
        },
        [
            *_chain("image", "C0", "C1", "C2", "C3"), *_chain("P3", "P2", "P1", "P0"),
            *_chain("H3", "H2", "H1", "H0", "joints"),
            *(Arrow(f"C{n}", f"P{n}") for n in range(4)), *(Arrow(f"P{n}", f"H{n}") for n in range(4)),
        ],
    ),
    "Adversarial hourglass": (
        {
            "image": Box("image", 0, 0, IMAGE), "G": Box("generator\nhourglass", 1.3, 0),
            "maps": Box("joints", 2.6, 0, JOINTS),
            "true": Box("true\njoints", 2.6, 2, JOINTS), "D": Box("discriminator\nhourglass", 3.9, 1, IDEA),
            "error": Box("real or\npredicted?", 5.1, 1, IDEA), "k": Box("k", 5.1, 2.3, IDEA),
        },
        [
            *_chain("image", "G", "maps", "D", "error"), Arrow("true", "D"), Arrow("error", "k"),
            Arrow("maps", "true", "MSE", dashed=True),
        ],
    ),
    "HG + CPM": (
        {
            "image": Box("image", 0, 1, IMAGE), "stem": Box("stem", 0.9, 1), "hg": Box("hourglass", 2.3, 0),
            "1": Box("7×7\nconvs", 1.9, 2, IDEA), "2": Box("7×7\nconvs", 2.8, 2, IDEA),
            "3": Box("7×7\nconvs", 3.7, 2, IDEA),
            "mean": Box("mean", 4.4, 1), "joints": Box("joints", 5.2, 1, JOINTS),
        },
        [
            *_chain("image", "stem", "hg", "mean", "joints"), *_chain("stem", "1", "2", "3", "mean"),
        ],
    ),
    "JPPNet": (
        {
            "image": Box("image", 0, 1, IMAGE), "trunk": Box("one\ntrunk", 0.9, 1),
            "S": Box("parts", 1.9, 0, PARTS), "J": Box("joints", 1.9, 2, JOINTS),
            "S1": Box("refined\nparts", 3.2, 0, PARTS), "J1": Box("refined\njoints", 3.2, 2, JOINTS),
            "S2": Box("refined\nparts", 4.6, 0, PARTS), "J2": Box("refined\njoints", 4.6, 2, JOINTS),
        },
        [
            *_chain("image", "trunk", "S", "S1", "S2"), *_chain("trunk", "J", "J1", "J2"),
            Arrow("S", "J1"), Arrow("J", "S1"), Arrow("S1", "J2"), Arrow("J1", "S2"),
        ],
    ),
    "Cross-stitch": (
        {
            "image": Box("image", 0, 1, IMAGE), "S1": Box("block", 1, 0, PARTS), "J1": Box("block", 1, 2, JOINTS),
            "a1": Box("α", 1.9, 1, IDEA), "S2": Box("block", 2.8, 0, PARTS), "J2": Box("block", 2.8, 2, JOINTS),
            "a2": Box("α", 3.7, 1, IDEA), "parts": Box("… parts", 4.6, 0, PARTS),
            "joints": Box("… joints", 4.6, 2, JOINTS),
        },
        [
            Arrow("image", "S1"), Arrow("image", "J1"), *_chain("S1", "a1", "S2", "a2", "parts"),
            *_chain("J1", "a1", "J2", "a2", "joints"),
        ],
    ),
    "PAD-Net": _two_trunks(
        {
            "S0": Box("first parts", 2.2, -0.8, PARTS), "J0": Box("first joints", 2.2, 2.8, JOINTS),
            "S+": Box("+ σ(gate)·\nmessage", 3, 0, IDEA), "J+": Box("+ σ(gate)·\nmessage", 3, 2, IDEA),
        },
        [
            Arrow("S", "S0"), Arrow("J", "J0"), *_chain("S", "S+", "parts"), *_chain("J", "J+", "joints"),
            Arrow("S", "J+"), Arrow("J", "S+"),
        ],
    ),
    "Cross-attention": _two_trunks(
        {"S+": Box("attends\nto joints'", 2.7, 0, IDEA), "J+": Box("attends\nto parts'", 2.7, 2, IDEA)},
        [*_chain("S", "S+", "parts"), *_chain("J", "J+", "joints"), Arrow("S", "J+"), Arrow("J", "S+")],
    ),
    "MuLA": _two_trunks(
        {
            "S+": Box("convolved", 3, 0, IDEA), "J+": Box("convolved", 3, 2, IDEA),
            "AS": Box("kernels", 1.9, 0.7, PARTS), "AJ": Box("kernels", 1.9, 1.4, JOINTS),
        },
        [
            *_chain("S", "S+", "parts"), *_chain("J", "J+", "joints"), Arrow("S", "AS"), Arrow("J", "AJ"),
            Arrow("AS", "J+"), Arrow("AJ", "S+"),
        ],
    ),
}  # fmt: skip


@in_house_style
def system_diagrams(names: Sequence[str], *, columns: int = 2) -> Figure:
    """The diagrams of the named systems of :data:`DIAGRAMS`, in rows of ``columns``."""
    rows = -(-len(names) // columns)
    size = (PANEL[0] * columns, PANEL[1] * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        bare(axes)
    for axes, name in zip(grid.flat, names, strict=False):
        draw_diagram(axes, *DIAGRAMS[name])
        axes.set_title(name, fontsize=11, loc="left", fontweight="bold")
    return figure


def draw_diagram(axes: Axes, boxes: Mapping[str, Box], arrows: Sequence[Arrow]) -> None:
    """Draw boxes and arrows between them; the axes end where the boxes do."""
    texts = {
        name: axes.text(
            box.column * ACROSS, -box.row * DOWN, box.text, ha="center", va="center", fontsize=9, zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": box.colour, "edgecolor": "#333333", "linewidth": 0.8},
        )
        for name, box in boxes.items()
    }  # fmt: skip
    for arrow in arrows:
        start, end = boxes[arrow.start], boxes[arrow.end]
        axes.annotate(
            "", xy=(end.column * ACROSS, -end.row * DOWN), xytext=(start.column * ACROSS, -start.row * DOWN), zorder=2,
            arrowprops={
                "arrowstyle": "-|>", "color": "#333333", "linewidth": 1.0, "linestyle": "--" if arrow.dashed else "-",
                "patchA": texts[arrow.start].get_bbox_patch(), "patchB": texts[arrow.end].get_bbox_patch(),
                "shrinkA": 1, "shrinkB": 1,
            },
        )  # fmt: skip
        if arrow.text:
            middle = (start.column + end.column) / 2 * ACROSS, -(start.row + end.row) / 2 * DOWN
            axes.text(*middle, arrow.text, fontsize=8, ha="center", va="center", zorder=4, backgroundcolor="white")
    columns, rows = [box.column * ACROSS for box in boxes.values()], [-box.row * DOWN for box in boxes.values()]
    axes.set(xlim=(min(columns) - 0.5, max(max(columns), 4.6) + 0.6), ylim=(min(rows) - 0.35, max(rows) + 0.35))
