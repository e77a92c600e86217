"""Every row of the paper's tables as data: its name, how it is built and what the paper reports for it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mula_lib.anatomy import Anatomy
from mula_lib.errors import ConfigError
from mula_lib.models.interaction import AdaptationConfig
from mula_lib.models.joint import ModelConfig
from mula_lib.profiles import Profile


@dataclass(frozen=True)
class Experiment:
    """How a network is built, at any size and for any data set. ``name`` is the paper's, to the letter."""

    name: str
    backbone: str
    interactions: tuple[str, ...]
    idea: str  # one sentence for tables and notebooks
    shared_encoder: bool = False

    @property
    def slug(self) -> str:
        """The name as a file name: ``HG-2×1u`` -> ``hg-2x1u``."""
        text = unicodedata.normalize("NFKD", self.name.replace("×", "x")).lower()
        return re.sub(r"[^a-z0-9]+", "-", text).strip("-")

    def model_config(self, profile: Profile, anatomy: Anatomy) -> ModelConfig:
        """The network of this row at the size of ``profile``."""
        vgg = self.backbone == "vgg"
        return ModelConfig(
            backbone=self.backbone,
            interactions=self.interactions,
            width=profile.vgg_width if vgg else profile.hourglass_width,
            parts=len(anatomy.parts),
            joints=len(anatomy.joints),
            shared_encoder=self.shared_encoder,
            batch_norm=profile.vgg_batch_norm and vgg,
            adaptation=AdaptationConfig(profile.vgg_kernel_size if vgg else profile.hourglass_kernel_size),
            offsets=anatomy.crowds,
        )


@dataclass(frozen=True)
class Row:
    """A line of one of the paper's tables: ``name`` is the paper's, to the letter; ``paper`` holds its percentages.

    ``experiment`` is None for a system that is only quoted. ``baseline`` names the row that it is compared with.
    """

    table: int
    name: str
    paper: dict[str, float]
    experiment: Experiment | None
    baseline: str


def _vgg(name: str, interaction: str, idea: str, **more: bool) -> Experiment:
    return Experiment(name, "vgg", (interaction,), idea, **more)


def _hourglass(name: str, interactions: tuple[str, ...], idea: str) -> Experiment:
    return Experiment(name, "hourglass", interactions, idea)


EXPERIMENTS: tuple[Experiment, ...] = (
    _vgg("VGG16-FCN", "none", "two independent networks: the baseline"),
    _vgg("VGG16-FCN-Add", "add", "both classifiers read the sum of the two representations"),
    _vgg("VGG16-FCN-Multi", "multiply", "both classifiers read their product"),
    _vgg("VGG16-FCN-Concat", "concat", "both classifiers read the two, one after the other"),
    _vgg("VGG16-FCN-MTL", "none", "one encoder, two classifiers", shared_encoder=True),
    _vgg("VGG16-FCN-Self", "self_residual", "MuLA's residual path with static kernels, no exchange"),
    _vgg("VGG16-FCN-LA-Pose", "adapt_to_pose", "parsing adapts pose only"),
    _vgg("VGG16-FCN-LA-Parsing", "adapt_to_parsing", "pose adapts parsing only"),
    _vgg("VGG16-FCN-MuLA", "adapt", "each task adapts the other"),
    _hourglass("HG-0s-1u-MuLA", ("none",), "two independent hourglass networks: the baseline"),
    _hourglass("HG-1s-1u-MuLA", ("adapt",), "one stage, mutually adapted"),
    _hourglass("HG-2×1u", ("none",) * 2, "two stages without exchange"),
    _hourglass("HG-2s-1u-MuLA (1st Stage)", ("adapt", "none"), "two stages, the first adapted"),
    _hourglass("HG-2s-1u-MuLA (2nd Stage)", ("none", "adapt"), "two stages, the second adapted"),
    _hourglass("HG-2s-1u-MuLA", ("adapt",) * 2, "two stages, both adapted"),
    _hourglass("HG-3s-1u-MuLA", ("adapt",) * 3, "three adapted stages"),
    _hourglass("HG-4s-1u-MuLA", ("adapt",) * 4, "four adapted stages"),
    _hourglass("HG-5s-1u-MuLA", ("adapt",) * 5, "five adapted stages: the paper's model"),
    _hourglass("HG-5×1u", ("none",) * 5, "five stages without exchange: the baseline with several people"),
)


def find_experiment(name: str) -> Experiment:
    """The experiment called ``name`` (the paper's name or its slug); ConfigError lists the known ones."""
    for experiment in EXPERIMENTS:
        if name in (experiment.name, experiment.slug):
            return experiment
    known = ", ".join(experiment.name for experiment in EXPERIMENTS)
    raise ConfigError(f"unknown experiment {name!r}; known: {known}")


TABLES = (1, 2, 5, 6)
CROWD_TABLES = (5, 6)  # of several people an image
METRICS = {
    1: ("PCK", "mIoU"),
    2: ("PCK", "mIoU"),
    5: ("mAP", "mAP (annotated heads)"),  # the paper reports one figure, and not how it measures heads
    6: ("mIoU",),
}
# What a table's other rows are compared with.
BASELINES = {1: "VGG16-FCN", 2: "HG-0s-1u-MuLA", 5: "Our baseline (w/o MuLA)", 6: "Our baseline (w/o MuLA)"}


def _row(table: int, name: str, *numbers: float, is_: str | None = None, baseline: str | None = None) -> Row:
    paper = dict(zip(METRICS[table], numbers, strict=False))
    return Row(table, name, paper, find_experiment(is_) if is_ else None, baseline or BASELINES[table])


def _ablation(table: int, name: str, pck: float, miou: float) -> Row:
    return _row(table, name, pck, miou, is_=name)


def _crowd_rows(table: int, baseline: float, mula: float) -> tuple[Row, ...]:
    """The paper's two networks of five stages, and two of two stages, which it does not have, for small machines."""
    return (
        _row(table, "Our baseline (w/o MuLA)", baseline, is_="HG-5×1u"),
        _row(table, "Our model", mula, is_="HG-5s-1u-MuLA"),
        _row(table, "HG-2×1u", is_="HG-2×1u", baseline="HG-2×1u"),
        _row(table, "HG-2s-1u-MuLA", is_="HG-2s-1u-MuLA", baseline="HG-2×1u"),
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
    _row(5, "Chen and Yuille [6]", 21.8),
    _row(5, "Insafutdinov et al. [11]", 28.6),
    _row(5, "Xia et at. [24]", 39.2),  # spelt so in the paper
    *_crowd_rows(5, 38.6, 39.9),
    _row(6, "Attention+SSL [10]", 59.4),
    _row(6, "SS-NAN [28]", 62.4),
    _row(6, "Xia et al. [24]", 64.4),
    *_crowd_rows(6, 62.9, 65.1),
)


def table_rows(table: int) -> tuple[Row, ...]:
    """The rows of one table, in the paper's order."""
    return tuple(row for row in ROWS if row.table == table)


def table_experiments(table: int) -> tuple[Experiment, ...]:
    """What is run for a table, in the order of its rows."""
    return tuple(row.experiment for row in table_rows(table) if row.experiment is not None)
