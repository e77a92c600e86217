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
    """One row. ``name`` is the paper's, to the letter; ``paper`` holds its numbers in percent."""

    name: str
    table: int
    paper: dict[str, float]
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
        )


def _table1(name: str, pck: float, miou: float, interaction: str, idea: str, **more: bool) -> Experiment:
    return Experiment(name, 1, {"PCK": pck, "mIoU": miou}, "vgg", (interaction,), idea, **more)


def _table2(name: str, pck: float, miou: float, interactions: tuple[str, ...], idea: str) -> Experiment:
    return Experiment(name, 2, {"PCK": pck, "mIoU": miou}, "hourglass", interactions, idea)


EXPERIMENTS: tuple[Experiment, ...] = (
    _table1("VGG16-FCN", 69.1, 34.5, "none", "two independent networks: the baseline"),
    _table1("VGG16-FCN-Add", 69.7, 36.5, "add", "both classifiers read the sum of the two representations"),
    _table1("VGG16-FCN-Multi", 69.4, 35.8, "multiply", "both classifiers read their product"),
    _table1("VGG16-FCN-Concat", 69.5, 36.1, "concat", "both classifiers read the two, one after the other"),
    _table1("VGG16-FCN-MTL", 65.3, 31.2, "none", "one encoder, two classifiers", shared_encoder=True),
    _table1("VGG16-FCN-Self", 69.8, 36.1, "self_residual", "MuLA's residual path with static kernels, no exchange"),
    _table1("VGG16-FCN-LA-Pose", 75.0, 32.1, "adapt_to_pose", "parsing adapts pose only"),
    _table1("VGG16-FCN-LA-Parsing", 66.5, 40.0, "adapt_to_parsing", "pose adapts parsing only"),
    _table1("VGG16-FCN-MuLA", 76.0, 40.2, "adapt", "each task adapts the other"),
    _table2("HG-0s-1u-MuLA", 78.8, 38.5, ("none",), "two independent hourglass networks: the baseline"),
    _table2("HG-1s-1u-MuLA", 82.2, 43.5, ("adapt",), "one stage, mutually adapted"),
    _table2("HG-2×1u", 80.8, 41.3, ("none",) * 2, "two stages without exchange"),
    _table2("HG-2s-1u-MuLA (1st Stage)", 82.8, 45.5, ("adapt", "none"), "two stages, the first adapted"),
    _table2("HG-2s-1u-MuLA (2nd Stage)", 83.1, 45.6, ("none", "adapt"), "two stages, the second adapted"),
    _table2("HG-2s-1u-MuLA", 84.4, 46.9, ("adapt",) * 2, "two stages, both adapted"),
    _table2("HG-3s-1u-MuLA", 85.0, 47.8, ("adapt",) * 3, "three adapted stages"),
    _table2("HG-4s-1u-MuLA", 85.1, 48.9, ("adapt",) * 4, "four adapted stages"),
    _table2("HG-5s-1u-MuLA", 85.4, 49.3, ("adapt",) * 5, "five adapted stages: the paper's model"),
)

TABLES = (1, 2)
BASELINES = {1: "VGG16-FCN", 2: "HG-0s-1u-MuLA"}  # what a table's other rows are compared with


def find_experiment(name: str) -> Experiment:
    """The experiment called ``name`` (the paper's name or its slug); ConfigError lists the known ones."""
    for experiment in EXPERIMENTS:
        if name in (experiment.name, experiment.slug):
            return experiment
    known = ", ".join(experiment.name for experiment in EXPERIMENTS)
    raise ConfigError(f"unknown experiment {name!r}; known: {known}")


def table_rows(table: int) -> tuple[Experiment, ...]:
    """The rows of one table, in the paper's order."""
    return tuple(experiment for experiment in EXPERIMENTS if experiment.table == table)
