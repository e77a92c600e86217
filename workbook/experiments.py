"""Networks (networks.csv) and profiles: how each row's network is built, and how large a run is.

A profile is independent of the data set. docs/paper_scale.md says where each value of the paper's profile is from.
"""

import csv
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from mula_lib.anatomy import Anatomy
from mula_lib.data.augment import Augmentation
from mula_lib.files import ConfigError
from mula_lib.inference import Testing
from mula_lib.models.adaptation import AdaptationConfig, released_adaptation
from mula_lib.models.network import RELEASED, ImageConvention, ModelConfig
from mula_lib.training import PAPER_DROPS, PAPER_EPOCHS, Recipe


@dataclass(frozen=True)
class Profile:
    """A size of everything. ``core`` names the rows that are trained when none is asked for."""

    name: str
    dataset: str  # default data set
    crop: int
    recipe: Recipe
    width: int
    kernel_size: int = 3  # of ⊗c
    batch_norm: bool = False  # in the VGG trunk
    residual: bool = False  # F(t) is added to F(t+1)
    testing: Testing = field(default_factory=lambda: Testing(scales=(0.8, 1.0, 1.25), mirror=True))
    augmentation: Augmentation = field(default_factory=Augmentation)
    core: tuple[str, ...] = ()  # empty: every row
    context: int = 6  # of the VGG trunk: ``ModelConfig.context``
    vgg: dict = field(default_factory=dict)  # overrides for the VGG trunk; "recipe" holds those of the recipe
    crowds: dict = field(default_factory=dict)  # what differs where images show several people (Tables 5 and 6)
    released: bool = False  # the authors' code where it differs from the paper
    needs_gpu: bool = False
    start: str = ""  # profile whose committed weights training starts from; empty: random weights
    watch: int = 0  # validation images scored after each epoch, for the log only

    def for_crowds(self) -> "Profile":
        """This profile for several people an image."""
        return replace(self, **self.crowds, crowds={})

    def for_epochs(self, epochs: int) -> "Profile":
        """This profile trained for another number of epochs, under a name of its own: ``demo-12-epochs``."""
        if epochs == self.recipe.epochs:
            return self
        return replace(self, name=f"{self.name}-{epochs}-epochs", recipe=replace(self.recipe, epochs=epochs))

    def for_trunk(self, backbone: str) -> "Profile":
        """This profile for networks with the trunk ``backbone``."""
        if backbone != "vgg":
            return self
        recipe = replace(self.recipe, **self.vgg.get("recipe", {}))
        return replace(self, **self.vgg | {"recipe": recipe, "vgg": {}})


SMOKE = Profile(
    "smoke", "fixture", crop=64, recipe=Recipe(epochs=2, batch=8, warmup=0.5), width=16, vgg={"batch_norm": True},
    testing=Testing(scales=(0.8, 1.0), mirror=True), crowds={"dataset": "crowd-fixture"}, watch=4,
)  # fmt: skip

# One cycle of AdamW, by the search of docs/adaptation.md.
SHORT = Recipe(
    epochs=40, batch=24, learning_rate=0.005, optimizer="adamw", schedule="cosine", warmup=0.1, drop_at=(),
    pose_weight=2000.0, bf16=True, sigma_floor=0.6,
)  # fmt: skip
DEMO = Profile(
    "demo", "people", crop=96, recipe=SHORT, width=64, kernel_size=7, residual=True,
    # a cell of VGG's last map sees 59 % of the crop, in the paper 55 %
    vgg={
        "batch_norm": True, "kernel_size": 3, "residual": False, "crop": 128, "context": 2,
        "recipe": {"pose_weight": 1000.0},
    },
    core=("VGG16-FCN", "VGG16-FCN-MuLA", "HG-0s-1u-MuLA", "HG-1s-1u-MuLA"),
    crowds={
        "dataset": "crowds",
        "crop": 128,  # people are smaller in a crowd
        "recipe": replace(SHORT, epochs=100),
        "core": ("HG-2×1u", "HG-2s-1u-MuLA"),
    },
    watch=100,
)  # fmt: skip

# The network for photographs: the demo's, trained on with what photographs look like.
PHOTO = replace(
    DEMO, name="photo", dataset="people-photo", start="demo", watch=0, core=("HG-1s-1u-MuLA",),
    recipe=replace(SHORT, sigma_floor=1.2, pose_weight=500.0),  # wider targets carry over better (docs/photographs.md)
)  # fmt: skip

PAPER = Profile(
    "paper", "lip", crop=256, recipe=Recipe(epochs=PAPER_EPOCHS, batch=24), width=256, kernel_size=7,
    vgg={"width": 512, "kernel_size": 3}, crowds={"dataset": "pascal"}, needs_gpu=True,
)  # fmt: skip

# The authors' code: other rates and drops, no clipping, nobody beyond the photo, one scale, mirrored poses only. Their
# network for several people was not released.
_THEIR_DROPS = tuple((epoch - 1) / PAPER_EPOCHS for epoch in PAPER_DROPS)
PAPER_RELEASED = replace(
    PAPER, name="paper-released", released=True, vgg={**PAPER.vgg, "recipe": {"learning_rate": 0.0001}},
    recipe=replace(
        PAPER.recipe, learning_rate=0.0015, drop_at=_THEIR_DROPS, drop_to=(0.5, 0.25, 0.1, 0.05), clip_norm=0.0
    ),
    augmentation=Augmentation(outside=0, joints_outside=True),
    testing=Testing(scales=(1.0,), mirror=True, mirror_parts=False),
)  # fmt: skip

# A weekend on one card: the paper's networks, a quarter of its epochs with the drops in proportion, the rows that
# decide its main claims. On LIP with --lip; without, on people rendered at its size.
GPU = replace(
    PAPER, name="gpu", dataset="people-256", recipe=Recipe(epochs=60, batch=24, warmup=0.02),
    vgg={**PAPER.vgg, "batch_norm": True},
    core=(
        "VGG16-FCN", "VGG16-FCN-Self", "VGG16-FCN-LA-Pose", "VGG16-FCN-LA-Parsing", "VGG16-FCN-MuLA",
        "HG-0s-1u-MuLA", "HG-2×1u", "HG-2s-1u-MuLA", "HG-5s-1u-MuLA",
    ),
    crowds={"dataset": "crowds-256", "core": ("HG-5×1u", "HG-5s-1u-MuLA")},
    watch=200,
)  # fmt: skip
GPU_192 = replace(GPU, name="gpu-192", crop=192)  # fits 24 GiB


def rehearsal(profile: Profile) -> Profile:
    """``profile`` made so small that minutes show what would fail after days."""
    tiny = {"people-256": "fixture", "crowds-256": "crowd-fixture"}
    crowds = {**profile.crowds, "dataset": tiny.get(profile.crowds["dataset"], profile.crowds["dataset"])}
    return replace(
        profile, name=f"{profile.name}-rehearsal", crop=64, recipe=replace(profile.recipe, epochs=2, batch=8),
        width=16, vgg={**profile.vgg, "width": 16}, needs_gpu=False, watch=min(profile.watch, 4),
        dataset=tiny.get(profile.dataset, profile.dataset), crowds=crowds,
    )  # fmt: skip


def bf16(profile: Profile) -> Profile:
    """``profile`` trained in bf16 where the hardware has it."""
    return replace(profile, name=f"{profile.name}-bf16", recipe=replace(profile.recipe, bf16=True))


_SMALL, _LARGE = (SMOKE, DEMO, PHOTO), (GPU, GPU_192, PAPER, PAPER_RELEASED)
_ALL = (*_SMALL, *_LARGE, *map(bf16, _LARGE), *map(rehearsal, (GPU, PAPER, PAPER_RELEASED, bf16(PAPER))))
PROFILES = {profile.name: profile for profile in _ALL}


def find_profile(name: str) -> Profile:
    """The profile called ``name``; ConfigError lists the known ones."""
    if name not in tuple(PROFILES):  # a notebook may be given a list
        raise ConfigError(f"unknown profile {name!r:.80}; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def slug(name: str) -> str:
    """A name as a file name: ``HG-2×1u`` -> ``hg-2x1u``."""
    return re.sub(r"[^a-z0-9]+", "-", name.replace("×", "x").lower()).strip("-")


@dataclass(frozen=True)
class Experiment:
    """How a network is built, at any size and for any data set. ``name`` is the paper's, to the letter."""

    name: str
    backbone: str
    interactions: tuple[str, ...]
    idea: str  # one sentence for tables and notebooks
    shared_encoder: bool = False
    system: str | None = None  # a compared system of ``models.rivals`` instead of the joint model
    width_factor: float = 1.0  # times the profile's width, rounded up to a multiple of 8
    # times the profile's learning rate, as ``tools.rate_search`` found it for the demo; None: the profile's, as in all
    # ablations, whose baselines and MuLA were searched for too
    rate: float | None = None
    controls: str = ""  # for a control: the system that it controls, whose rate it uses

    def model_config(self, profile: Profile, anatomy: Anatomy) -> ModelConfig:
        """The network of this row at the size of ``profile``."""
        profile = profile.for_trunk(self.backbone)
        released, size = profile.released and self.system is None, profile.kernel_size
        return ModelConfig(
            backbone=self.backbone,
            interactions=self.interactions,
            width=math.ceil(profile.width * self.width_factor / 8) * 8,
            parts=len(anatomy.parts),
            joints=len(anatomy.joints),
            shared_encoder=self.shared_encoder,
            batch_norm=profile.batch_norm,
            context=profile.context,
            residual=profile.residual,
            adaptation=released_adaptation(size, vgg=self.backbone == "vgg") if released else AdaptationConfig(size),
            offsets=anatomy.crowds,
            rival=self.system,
            crop=profile.crop if self.system else None,
            anatomy=anatomy.name,
            image=RELEASED if released else ImageConvention(),
            released=released,
        )

    def recipe(self, profile: Profile) -> Recipe:
        """How this network is trained at the size of ``profile``."""
        recipe = profile.for_trunk(self.backbone).recipe
        return replace(recipe, learning_rate=recipe.learning_rate * (self.rate or 1.0))


with open(Path(__file__).with_name("networks.csv"), encoding="utf-8", newline="") as _file:
    EXPERIMENTS = tuple(
        Experiment(
            _line["name"], _line["backbone"], tuple(_line["interactions"].split()), _line["idea"],
            bool(_line["shared_encoder"]), _line["system"] or None, float(_line["width_factor"] or 1),
            float(_line["rate"]) if _line["rate"] else None, _line["controls"],
        )
        for _line in csv.DictReader(_file)
    )  # fmt: skip


def find_experiment(name: str) -> Experiment:
    """The experiment called ``name`` (the paper's name or its slug); ConfigError lists the known ones."""
    found = next((each for each in EXPERIMENTS if name in (each.name, slug(each.name))), None)
    if found is None:
        raise ConfigError(f"unknown experiment {name!r}; known: {', '.join(each.name for each in EXPERIMENTS)}")
    return found
