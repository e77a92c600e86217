"""The joint model: two branches, T stages, and at each stage an interaction (Fig. 2, Eqs. 1-4).

All of Tables 1, 2, 5 and 6 is this one class; a row differs in its :class:`ModelConfig` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mula_lib.errors import ConfigError
from mula_lib.models import hourglass, vgg
from mula_lib.models.adaptation import ParameterAdapter
from mula_lib.models.convention import ImageConvention
from mula_lib.models.interaction import AdaptationConfig, StaticRefinement, build_interaction

CLASSIFIER_STD = 0.01
BACKBONES = ("vgg", "hourglass")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a network's shape; stored with its weights and compared when they are loaded."""

    backbone: str  # "vgg" or "hourglass"
    interactions: tuple[str, ...]  # one name a stage, so T = len(interactions)
    width: int  # channels of R; the paper: 512 (vgg), 256 (hourglass)
    parts: int = 20  # P + 1 with background
    joints: int = 16  # N
    units: int = 1  # residual units in each group of an hourglass
    shared_encoder: bool = False  # MTL: one encoder, two classifiers
    batch_norm: bool = False  # in the VGG trunk
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    image: ImageConvention = field(default_factory=ImageConvention)
    offsets: bool = False  # several people: the pose branch also regresses each joint's offset to its centroid

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"unknown backbone {self.backbone!r}; known: {', '.join(BACKBONES)}")
        if not self.interactions:
            raise ConfigError("a model needs at least one stage; give interactions=('none',) for independent networks")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width={self.width}: the trunks need a positive multiple of 8")
        if self.backbone == "vgg" and self.stages > 1:
            raise ConfigError("VGG16-FCN encodes images, not features, and so has one stage; stack hourglasses instead")
        if self.shared_encoder and self.interactions != ("none",):
            raise ConfigError("a shared encoder (MTL) has one stage and no interaction: interactions=('none',)")

    @property
    def stages(self) -> int:
        """T."""
        return len(self.interactions)

    @property
    def stride(self) -> int:
        """Image pixels per feature cell."""
        return vgg.STRIDE if self.backbone == "vgg" else hourglass.STRIDE

    def to_json(self) -> dict:
        """Plain lists and numbers, for files; ``offsets`` is named by networks for several people only."""
        values = {**asdict(self), "interactions": list(self.interactions)}
        if not self.offsets:  # so that files of networks for one person are what they were before there were others
            del values["offsets"]
        return values

    @classmethod
    def from_json(cls, values: dict) -> ModelConfig:
        """The inverse of :meth:`to_json`."""
        return cls(
            **{
                **values,
                "interactions": tuple(values["interactions"]),
                "adaptation": AdaptationConfig(**values["adaptation"]),
                "image": ImageConvention(**values["image"]),
            }
        )


class StageOutput(NamedTuple):
    """Predictions of one stage, at the trunk's stride."""

    parsing: Tensor  # S(t): (B, parts, h, w) logits
    pose: Tensor  # J(t): (B, joints, h, w) confidence maps
    # (B, 2 · joints, h, w), of several people only: x of every joint, then y, in units of half a crop
    offsets: Tensor | None = None


class Mapping(nn.Module):
    """M of Eq. 3: F(t+1) = 1×1(R̄(t)) + 1×1(prediction(t))."""

    def __init__(self, refined_channels: int, predictions: int, width: int) -> None:
        super().__init__()
        self.from_features = nn.Conv2d(refined_channels, width, 1)
        self.from_prediction = nn.Conv2d(predictions, width, 1)

    def forward(self, refined: Tensor, prediction: Tensor) -> Tensor:
        return self.from_features(refined).add_(self.from_prediction(prediction))


class Branch(nn.Module):
    """One task's network: image -> F(1) by the stem, then per stage an encoder E, a classifier C and a mapping M.

    Args:
        config: the model's configuration.
        outputs: number of maps the classifier predicts.
        refined_channels: channels of R̄ at each stage.
        with_encoder: False for the second task of MTL, which has classifiers only.
    """

    def __init__(
        self, config: ModelConfig, outputs: int, refined_channels: list[int], *, with_encoder: bool = True
    ) -> None:
        super().__init__()
        if with_encoder and config.backbone == "vgg":
            self.stem: nn.Module = nn.Identity()
            self.encoder = nn.ModuleList([vgg.VGG16Encoder(config.width, batch_norm=config.batch_norm)])
        elif with_encoder:
            self.stem = hourglass.Stem(config.width)
            self.encoder = nn.ModuleList(
                hourglass.HourglassEncoder(config.width, config.units) for _ in config.interactions
            )
        self.classifier = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in refined_channels)
        self.mapping = nn.ModuleList(Mapping(channels, outputs, config.width) for channels in refined_channels[:-1])


class JointModel(nn.Module):
    """MuLA and every row of Tables 1, 2, 5 and 6.

    ``model(images)`` takes RGB images of 0..255, uint8 or float, with H and W multiples of ``config.stride``, and
    returns T :class:`StageOutput`; the last one is the prediction, all are supervised (Eq. 4). The model itself
    brings the pixels into the convention it was trained with.

    With ``recompute_stages`` set, training keeps the features between stages only and computes the inside of each
    stage again when its gradient is due: the same gradients for a third more time and about a T-th of the memory.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_stages = False
        self.interaction = nn.ModuleList(
            build_interaction(name, config.width, config.adaptation) for name in config.interactions
        )
        refined_channels = [interaction.out_channels for interaction in self.interaction]
        self.parsing = Branch(config, config.parts, refined_channels)
        self.pose = Branch(config, config.joints, refined_channels, with_encoder=not config.shared_encoder)
        # The dense regression of Sec. 4.1 reads the tailored features too, and passes nothing on to the next stage.
        self.regressor = nn.ModuleList(
            nn.Conv2d(channels, 2 * config.joints, 1) for channels in refined_channels if config.offsets
        )
        self.apply(_kaiming)
        self.apply(_start_at_identity)
        for classifier in (*self.parsing.classifier, *self.pose.classifier, *self.regressor):
            # Near zero, as the targets are: from Kaiming's scale the first updates are spent on shrinking the maps.
            nn.init.normal_(classifier.weight, std=CLASSIFIER_STD)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> T stages of (B, parts, h, w) logits, (B, joints, h, w) maps and, if asked for, offsets."""
        images = self.config.image(images)
        f_parsing = self.parsing.stem(images)
        f_pose = f_parsing if self.config.shared_encoder else self.pose.stem(images)
        outputs: list[StageOutput] = []
        for t in range(self.config.stages):
            if self.recompute_stages and self.training and torch.is_grad_enabled():
                stage, f_parsing, f_pose = checkpoint(
                    self._stage, t, f_parsing, f_pose, use_reentrant=False, context_fn=self._both_passes
                )
            else:
                stage, f_parsing, f_pose = self._stage(t, f_parsing, f_pose)
            outputs.append(stage)
        return outputs

    def _both_passes(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """What a stage runs within when it is computed, and when it is computed again."""
        return nullcontext(), _statistics_at_rest(self)

    def _stage(self, t: int, f_parsing: Tensor, f_pose: Tensor) -> tuple[StageOutput, Tensor | None, Tensor | None]:
        """F(t) of both tasks -> predictions, and F(t+1) of both unless this is the last stage (Eqs. 1-3)."""
        r_parsing = self.parsing.encoder[t](f_parsing)
        r_pose = r_parsing if self.config.shared_encoder else self.pose.encoder[t](f_pose)
        refined_parsing, refined_pose = self.interaction[t](r_parsing, r_pose)
        stage = StageOutput(
            self.parsing.classifier[t](refined_parsing),
            self.pose.classifier[t](refined_pose),
            self.regressor[t](refined_pose) if self.config.offsets else None,
        )
        if t + 1 == self.config.stages:
            return stage, None, None
        next_parsing = self.parsing.mapping[t](refined_parsing, stage.parsing)
        next_pose = self.pose.mapping[t](refined_pose, stage.pose)
        return stage, next_parsing, next_pose


@contextmanager
def _statistics_at_rest(model: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from counting a batch a second time when a stage is computed again."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(counted)


def _kaiming(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _start_at_identity(module: nn.Module) -> None:
    if isinstance(module, ParameterAdapter | StaticRefinement):
        module.reset_start()
