"""How large a run is: ``smoke`` for tests, ``demo`` for a laptop, ``paper`` for GPUs.

A profile is independent of the data set. ``docs/paper_scale.md`` says where each value of the paper's profile is from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mula_lib.data.augment import Augmentation
from mula_lib.files import ConfigError
from mula_lib.inference import Testing
from mula_lib.training import PAPER_DROPS, PAPER_EPOCHS, Recipe


@dataclass(frozen=True)
class CrowdSize:
    """What is of another size in the half of the paper with several people an image (Tables 5 and 6)."""

    dataset: str
    crop: int
    recipe: Recipe
    core: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """A size of everything. ``core`` names the rows that are trained when nobody asks for more."""

    name: str
    dataset: str  # used when none is named: "fixture" or "people"
    crop: int
    vgg_width: int
    hourglass_width: int
    vgg_kernel_size: int
    hourglass_kernel_size: int
    vgg_batch_norm: bool
    recipe: Recipe
    testing: Testing
    crowds: CrowdSize
    core: tuple[str, ...] = ()  # empty: every row
    augmentation: Augmentation = field(default_factory=Augmentation)
    protocol: str = "paper"  # or "released": the authors' code where it differs from the paper
    vgg_context: int = 6  # of the VGG trunk's last six convolutions, how many are 3×3 (see ``ModelConfig.context``)
    residual: bool = False  # F(t) is added to F(t+1)
    vgg_learning_rate: float | None = None  # where it is another than the recipe's
    planned: bool = False  # days of work: the data is checked and a plan printed before it is begun
    watch: int = 0  # validation images looked at after each epoch, for the log only
    cell_timeout: int = 3600  # seconds; rows are trained before, so that a notebook's cell takes minutes at most

    def for_crowds(self) -> Profile:
        """This profile as it is for several people an image."""
        size = self.crowds
        return replace(self, dataset=size.dataset, crop=size.crop, recipe=size.recipe, core=size.core)


SMOKE = Profile(
    name="smoke",
    dataset="fixture",
    crop=64,
    vgg_width=16,
    hourglass_width=16,
    vgg_kernel_size=3,
    hourglass_kernel_size=3,
    vgg_batch_norm=True,
    recipe=Recipe(epochs=2, batch=8, warmup=0.5),
    testing=Testing(scales=(0.8, 1.0), mirror=True),
    crowds=CrowdSize("crowd-fixture", crop=64, recipe=Recipe(epochs=2, batch=8, warmup=0.5)),
    watch=4,
    cell_timeout=300,
)

# One cycle of AdamW: what learns in a hundred thousand samples instead of the paper's millions.
SHORT = Recipe(
    epochs=1,
    batch=24,
    learning_rate=0.005,
    optimizer="adamw",
    schedule="cosine",
    warmup=0.1,
    drop_at=(),
    pose_weight=500.0,
    bf16=True,
)

DEMO = Profile(
    name="demo",
    dataset="people",
    crop=96,
    vgg_width=64,
    hourglass_width=64,
    vgg_kernel_size=3,
    hourglass_kernel_size=7,
    vgg_batch_norm=True,
    residual=True,
    recipe=replace(SHORT, epochs=40),  # measured, docs/adaptation.md
    testing=Testing(scales=(0.8, 1.0, 1.25), mirror=True),
    crowds=CrowdSize(
        "crowds",
        crop=128,  # people are smaller in a crowd
        recipe=replace(SHORT, epochs=100),  # of 1,000 pictures
        core=("HG-2×1u", "HG-2s-1u-MuLA"),
    ),
    core=("VGG16-FCN", "VGG16-FCN-MuLA", "HG-0s-1u-MuLA", "HG-1s-1u-MuLA"),
    watch=100,
)

PAPER = Profile(
    name="paper",
    dataset="lip",
    crop=256,
    vgg_width=512,
    hourglass_width=256,
    vgg_kernel_size=3,
    hourglass_kernel_size=7,
    vgg_batch_norm=False,
    recipe=Recipe(epochs=PAPER_EPOCHS, batch=24),
    testing=Testing(scales=(0.8, 1.0, 1.25), mirror=True),
    crowds=CrowdSize("pascal", crop=256, recipe=Recipe(epochs=PAPER_EPOCHS, batch=24)),
    cell_timeout=24 * 3600,
    planned=True,
)

# The authors' code: other rates and drops, no clipping, nobody beyond the photo, one scale, mirrored poses only. Their
# network for several people was not released.
PAPER_RELEASED = replace(
    PAPER,
    name="paper-released",
    protocol="released",
    recipe=replace(
        PAPER.recipe,
        learning_rate=0.0015,
        drop_at=tuple((epoch - 1) / PAPER_EPOCHS for epoch in PAPER_DROPS),
        drop_to=(0.5, 0.25, 0.1, 0.05),
        clip_norm=0.0,
    ),
    vgg_learning_rate=0.0001,
    augmentation=Augmentation(outside=0, joints_outside=True),
    testing=Testing(scales=(1.0,), mirror=True, mirror_parts=False),
)


def rehearsal(profile: Profile) -> Profile:
    """``profile`` made so small that all of it runs in minutes: to find out what would fail after days."""
    recipe = {"epochs": 2, "batch": 8}
    return replace(
        profile,
        name=f"{profile.name}-rehearsal",
        crop=64,
        vgg_width=16,
        hourglass_width=16,
        recipe=replace(profile.recipe, **recipe),
        crowds=replace(profile.crowds, crop=64, recipe=replace(profile.crowds.recipe, **recipe)),
        cell_timeout=600,
    )


PROFILES = {
    profile.name: profile
    for profile in (SMOKE, DEMO, PAPER, PAPER_RELEASED, rehearsal(PAPER), rehearsal(PAPER_RELEASED))
}
PROTOCOLS = ("paper", "released")


def find_profile(name: str) -> Profile:
    """The profile called ``name``; ConfigError lists the known ones."""
    if not isinstance(name, str) or name not in PROFILES:  # a notebook may be given anything
        raise ConfigError(f"unknown profile {name!r:.80}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
