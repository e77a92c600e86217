"""Every row of the paper's tables as data: its name, what the paper reports for it, and which network it is here."""

from __future__ import annotations

from dataclasses import dataclass

from mula_lib.anatomy import LIP
from workbook.experiments import Experiment, find_experiment


@dataclass(frozen=True)
class Row:
    """A line of one of the paper's tables: ``name`` is the paper's, to the letter; ``paper`` holds its percentages.

    ``experiment`` is None for a system that is only quoted; ``note`` says why, or what stands in its place.
    ``baseline`` names the row that it is compared with.
    """

    table: int
    name: str
    paper: dict[str, float]
    experiment: Experiment | None
    baseline: str
    note: str = ""


TABLES = (1, 2, 3, 4, 5, 6)
COMPARED_TABLES = (3, 4)  # of many systems, each with its costs
CROWD_TABLES = (5, 6)  # of several people an image
METRICS = {
    1: ("PCK", "mIoU"),
    2: ("PCK", "mIoU"),
    3: ("PCK", *(name for name, _ in LIP.columns), "U.Body"),  # PCK is what the paper calls "Avg."
    4: ("mIoU", "PixelAcc", "MeanAcc"),
    5: ("mAP", "mAP (annotated heads)"),  # the paper reports one figure, and not how it measures heads
    6: ("mIoU",),
}
# What a table's other rows are compared with.
BASELINES = {
    1: "VGG16-FCN",
    2: "HG-0s-1u-MuLA",
    3: "HG-0s-1u-MuLA",
    4: "VGG16-FCN",
    5: "Our baseline (w/o MuLA)",
    6: "Our baseline (w/o MuLA)",
}

COMPACT = "compact re-implementation, our trunk and budget, no ImageNet, no CRF"
BEYOND = "beyond the paper"
NO_PAPER = "quoted: a challenge entry whose details were not published; 'HG + CPM' is our construction of the idea"
NOT_BUILT = "quoted: {}, which is another kind of system than the networks here"


def _row(
    table: int, name: str, *numbers: float, is_: str | None = None, baseline: str | None = None, note: str = ""
) -> Row:
    paper = dict(zip(METRICS[table], numbers, strict=False))
    return Row(table, name, paper, find_experiment(is_) if is_ else None, baseline or BASELINES[table], note)


def _ablation(table: int, name: str, pck: float, miou: float) -> Row:
    return _row(table, name, pck, miou, is_=name)


def _parsing(name: str, pixel: float, mean: float, miou: float, *, is_: str, note: str = COMPACT) -> Row:
    """A row of Table 4, numbers in the paper's order."""
    return _row(4, name, miou, pixel, mean, is_=is_, note=note)


def _joint_rivals(table: int) -> tuple[Row, ...]:
    """Joint networks on MuLA's trunk at MuLA's budget, none of them in the paper's Tables 3 and 4."""
    jppnet = "LIP's own joint network; its authors report 86.39 / 62.32 / 51.37 on LIP val, above MuLA's mIoU"
    mula = "VGG16-FCN-MuLA"
    first = _row(table, mula, is_=f"{mula}, own rate", note=f"{BEYOND}: Table 1's MuLA, on the trunk of the rows below")
    others = (
        _row(table, name, is_=name, note=f"{BEYOND}: {note}")
        for name, note in (
            ("VGG16-FCN (widened)", "control, the baseline with MuLA's number of parameters"),
            ("JPPNet", jppnet),
            ("Cross-stitch", "mixtures after each block"),
            ("Cross-stitch (last layer)", "mixtures where MuLA adapts"),
            ("PAD-Net", "local gates against MuLA's global kernels"),
            ("PAD-Net (no messages)", "control, the first predictions' supervision alone"),
            ("Cross-attention", "attention against MuLA's kernels"),
        )
    )
    return first, *others


def _crowd_rows(table: int, baseline: float, mula: float) -> tuple[Row, ...]:
    """The paper's two networks of five stages, and two of two stages, which it does not have, for small machines."""
    return (
        _row(table, "Our baseline (w/o MuLA)", baseline, is_="HG-5×1u"),
        _row(table, "Our model", mula, is_="HG-5s-1u-MuLA"),
        _row(table, "HG-2×1u", is_="HG-2×1u", baseline="HG-2×1u", note=f"{BEYOND}: for small machines"),
        _row(table, "HG-2s-1u-MuLA", is_="HG-2s-1u-MuLA", baseline="HG-2×1u", note=f"{BEYOND}: for small machines"),
    )


ROWS: tuple[Row, ...] = (
    _ablation(1, "VGG16-FCN", 69.1, 34.5),
    _ablation(1, "VGG16-FCN-Add", 69.7, 36.5),
    _ablation(1, "VGG16-FCN-Multi", 69.4, 35.8),
    _ablation(1, "VGG16-FCN-Concat", 69.5, 36.1),
    _ablation(1, "VGG16-FCN-MTL", 65.3, 31.2),
    _ablation(1, "VGG16-FCN-Self", 69.8, 36.1),
    _ablation(1, "VGG16-FCN-LA-Pose", 75.0, 32.1),
    _ablation(1, "VGG16-FCN-LA-Parsing", 66.5, 40.0),
    _ablation(1, "VGG16-FCN-MuLA", 76.0, 40.2),
    _ablation(2, "HG-0s-1u-MuLA", 78.8, 38.5),
    _ablation(2, "HG-1s-1u-MuLA", 82.2, 43.5),
    _ablation(2, "HG-2×1u", 80.8, 41.3),
    _ablation(2, "HG-2s-1u-MuLA (1st Stage)", 82.8, 45.5),
    _ablation(2, "HG-2s-1u-MuLA (2nd Stage)", 83.1, 45.6),
    _ablation(2, "HG-2s-1u-MuLA", 84.4, 46.9),
    _ablation(2, "HG-3s-1u-MuLA", 85.0, 47.8),
    _ablation(2, "HG-4s-1u-MuLA", 85.1, 48.9),
    _ablation(2, "HG-5s-1u-MuLA", 85.4, 49.3),
    _row(3, "Hybrid Pose Machine", 77.2, note=NO_PAPER),
    _row(3, "BUPTMM-POSE", 80.2, note=NO_PAPER),
    _row(3, "Pyramid Stream Network", 82.1, is_="PSN-style", note=f"{COMPACT}; built from the paper's one sentence"),
    _row(3, "Chou et al. [7]", 87.4, is_="Adversarial hourglass", note=f"{COMPACT}; params include the discriminator"),
    _row(3, "Our model", 87.5, is_="HG-5s-1u-MuLA, own rate"),
    _row(3, "HG-0s-1u-MuLA", is_="HG-0s-1u-MuLA, own rate", note=f"{BEYOND}: Table 2's baseline, both tasks apart"),
    _row(3, "HG + CPM", is_="HG + CPM", note="our construction for Hybrid Pose Machine and BUPTMM-POSE"),
    _row(3, "VGG16-FCN", is_="VGG16-FCN, own rate", note=f"{BEYOND}: baseline of the rows below, both tasks apart"),
    *_joint_rivals(3),
    _parsing("SegNet [1]", 69.0, 24.0, 18.2, is_="SegNet"),
    _parsing("FCN-8s [13]", 76.1, 36.8, 28.3, is_="FCN-8s"),
    _parsing("DeepLabV2 [4]", 82.7, 51.6, 41.6, is_="DeepLabV2"),
    _parsing("Attention [5]", 83.4, 54.4, 42.9, is_="Attention"),
    _parsing("Attention+SSL [10]", 84.4, 54.9, 44.7, is_="Attention+SSL"),
    _parsing("SS-NAN [28]", 87.6, 56.0, 47.9, is_="SS-NAN"),
    _parsing("Our model", 88.5, 60.5, 49.3, is_="HG-5s-1u-MuLA, own rate", note=""),
    _row(4, "VGG16-FCN", is_="VGG16-FCN, own rate", note=f"{BEYOND}: Table 1's baseline, both tasks apart"),
    _row(4, "Attention+SSL (mean 1)", is_="Attention+SSL (mean 1)", note=f"{BEYOND}: control, weights of mean 1"),
    _row(4, "Attention+SSL (shuffled)", is_="Attention+SSL (shuffled)", note=f"{BEYOND}: control, another's weight"),
    *_joint_rivals(4),
    _row(5, "Chen and Yuille [6]", 21.8, note=NOT_BUILT.format("a graphical model")),
    _row(5, "Insafutdinov et al. [11]", 28.6, note=NOT_BUILT.format("an integer programme over candidates")),
    _row(5, "Xia et at. [24]", 39.2, note=NOT_BUILT.format("assembly by a conditional random field")),  # spelt so
    *_crowd_rows(5, 38.6, 39.9),
    _row(6, "Attention+SSL [10]", 59.4, is_="Attention+SSL", note=COMPACT),
    _row(6, "SS-NAN [28]", 62.4, is_="SS-NAN", note=COMPACT),
    _row(6, "Xia et al. [24]", 64.4, is_="Pose-guided refinement", note=f"{COMPACT}; poses are not refined"),
    *_crowd_rows(6, 62.9, 65.1),
)

# Published on LIP val, mIoU, by systems trained on ImageNet or more and tested at larger sizes: context, not targets.
CONTEXT = {
    "DeepLabV3+": 44.80,
    "MuLA, the paper": 49.30,
    "JPPNet": 51.37,
    "CE2P": 53.10,
    "HRNet-W48+OCR": 56.48,
    "SCHP": 59.36,
    "CDGNet": 60.30,
    "SOLIDER Swin-B": 60.50,
    "Hulk ViT-L": 66.02,
}


def table_rows(table: int) -> tuple[Row, ...]:
    """The rows of one table, in the paper's order."""
    return tuple(row for row in ROWS if row.table == table)


def table_experiments(table: int) -> tuple[Experiment, ...]:
    """What is run for a table, in the order of its rows."""
    return tuple(row.experiment for row in table_rows(table) if row.experiment is not None)
