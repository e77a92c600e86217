"""The joint model: two branches, T stages, and at each stage an interaction (Fig. 2, Eqs. 1-4).

Tables 1, 2, 5 and 6 are all this one class; their rows differ only in :class:`ModelConfig`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mula_lib.models import hourglass, vgg
from mula_lib.models.interactions import build_interaction
from mula_lib.models.losses import Targets, supervise
from mula_lib.models.network import ModelConfig, Network, StageOutput


class Mapping(nn.Module):
    """M of Eq. 3: F(t+1) = 1×1(R̄(t)) + 1×1(prediction(t)).

    In the released structure it reads R(t), and F(t) is added to its result.
    """

    def __init__(self, channels: int, predictions: int, width: int) -> None:
        super().__init__()
        self.from_features = nn.Conv2d(channels, width, 1)
        self.from_prediction = nn.Conv2d(predictions, width, 1)

    def forward(self, features: Tensor, prediction: Tensor) -> Tensor:
        return self.from_features(features).add_(self.from_prediction(prediction))


class Branch(nn.Module):
    """One task's network: image -> F(1) by the stem, then for each stage an encoder E, a classifier C and a mapping M.

    Args:
        outputs: number of maps that the classifier predicts.
        refined_channels: channels of R̄ at each stage.
        with_encoder: False for the second task of MTL, which has classifiers only.
    """

    def __init__(
        self, config: ModelConfig, outputs: int, refined_channels: list[int], *, with_encoder: bool = True
    ) -> None:
        super().__init__()
        if with_encoder and config.backbone == "vgg":
            self.stem: nn.Module = nn.Identity()
            encoder = vgg.VGG16Encoder(config.width, batch_norm=config.batch_norm, context=config.context)
            self.encoder = nn.ModuleList([encoder])
        elif with_encoder:
            self.stem = hourglass.Stem(config.width)
            self.encoder = nn.ModuleList(
                hourglass.HourglassEncoder(config.width, config.units, align_corners=config.released)
                for _ in config.interactions
            )
        self.classifier = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in refined_channels)
        self.mapping = nn.ModuleList(
            Mapping(config.width if config.released else channels, outputs, config.width)
            for channels in refined_channels[:-1]
        )


class JointModel(Network):
    """MuLA and every other row of Tables 1, 2, 5 and 6.

    ``model(images)`` takes RGB images in 0..255, uint8 or float, with H and W multiples of ``config.stride``, and
    returns T :class:`StageOutput`; the last one is the prediction, all are supervised (Eq. 4). The model itself
    converts the pixels to the convention it was trained with.

    With ``recompute_stages``, training keeps only the features between stages and recomputes the inside of each stage
    for its gradient: the same gradients, for a third more time and about a T-th of the memory.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.interaction = nn.ModuleList(
            build_interaction(name, config.width, config.adaptation) for name in config.interactions
        )
        refined_channels = [interaction.out_channels for interaction in self.interaction]
        self.parsing = Branch(config, config.parts, refined_channels)
        self.pose = Branch(config, config.pose_maps, refined_channels, with_encoder=not config.shared_encoder)
        # The dense regression of Sec. 4.1 reads the tailored features too, and passes nothing on to the next stage.
        self.regressor = nn.ModuleList(
            nn.Conv2d(channels, 2 * config.joints, 1) for channels in refined_channels if config.offsets
        )
        self.initialize((*self.parsing.classifier, *self.pose.classifier, *self.regressor))

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Eq. 4, with the logits upsampled as ``config.released`` says."""
        return supervise(outputs, truth, align_corners=self.config.released)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> T stages of (B, parts, h, w) logits, (B, joints, h, w) maps and, if asked for, offsets."""
        images = self.config.image(images)
        f_parsing = self.parsing.stem(images)
        f_pose = f_parsing if self.config.shared_encoder else self.pose.stem(images)
        outputs: list[StageOutput] = []
        for t in range(self.config.stages):
            if self.recompute_stages and self.training and torch.is_grad_enabled():
                # torch.compile cannot trace a context here, and counts the statistics once without it
                frozen = {"context_fn": lambda: (nullcontext(), _frozen_statistics(self))}
                how = {} if torch.compiler.is_compiling() else frozen
                stage, f_parsing, f_pose = checkpoint(self._stage, t, f_parsing, f_pose, use_reentrant=False, **how)
            else:
                stage, f_parsing, f_pose = self._stage(t, f_parsing, f_pose)
            outputs.append(stage)
        return outputs

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
        released = self.config.released
        next_parsing = self.parsing.mapping[t](r_parsing if released else refined_parsing, stage.parsing)
        next_pose = self.pose.mapping[t](r_pose if released else refined_pose, stage.pose)
        if released or self.config.residual:
            next_parsing, next_pose = next_parsing + f_parsing, next_pose + f_pose
        return stage, next_parsing, next_pose


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch normalization from counting a batch twice when a stage is recomputed."""
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
