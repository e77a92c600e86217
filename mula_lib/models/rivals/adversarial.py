"""Adversarial hourglass (Chou et al. 2017): a second hourglass learns to tell predicted heatmaps from true ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mula_lib import distributed as processes
from mula_lib.kernels.convolution import Conv3x3
from mula_lib.losses import Truth
from mula_lib.models.config import ModelConfig
from mula_lib.models.hourglass import HourglassEncoder, Stem
from mula_lib.models.network import Network
from mula_lib.models.outputs import StageOutput

GENERATOR_WEIGHT = 1e-4  # λ of L_fake in the generator's loss
BALANCE = 0.5  # γ: what L_fake is to be of L_real
STEP = 1e-3  # λ_k


class Discriminator(nn.Module):
    """Reconstructs heatmaps from an image and heatmaps: (B, 3, h, w) and (B, N, h, w) -> (B, N, h, w).

    It learns to reconstruct true maps well and predicted ones badly; the error is its verdict.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.entry = Conv3x3(3 + config.joints, config.width)
        self.encoder = HourglassEncoder(config.width, config.units)
        self.classifier = nn.Conv2d(config.width, config.joints, 1)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        return self.classifier(self.encoder(self.entry(torch.cat([image, maps], dim=1))))


class AdversarialHourglass(Network):
    """Generator: one hourglass, as one branch of the baseline.

    L_G = MSE + λ·L_fake, L_D = L_real − k·L_fake, where L_real and L_fake are the discriminator's errors on true and
    on predicted maps, and k ← clip(k + λ_k(γ·L_real − L_fake)) keeps the two in balance.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stem = Stem(config.width)
        self.encoder = HourglassEncoder(config.width, config.units)
        self.classifier = nn.Conv2d(config.width, config.joints, 1)
        self.discriminator = Discriminator(config)
        self.register_buffer("k", torch.zeros(()))
        self.initialise([self.classifier, self.discriminator.classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, joints, H/4, W/4); the discriminator is for training only."""
        features = self.encoder(self.stem(self.config.image(images)))
        return [StageOutput(None, self.classifier(features))]

    def loss(self, outputs: list[StageOutput], truth: Truth) -> Tensor:
        """L_G for the generator's parameters and L_D for the discriminator's, by one backward pass; moves k."""
        maps = outputs[-1].pose.float()
        targets = truth.pose_targets(maps)
        image = F.adaptive_avg_pool2d(self.config.image(truth.images), maps.shape[-2:])
        real = F.mse_loss(self.discriminator(image, targets), targets)
        # One pass serves both players: towards the generator the slope of L_fake is scaled by λ, towards the
        # discriminator by -k.
        seen = _scale_slope(maps, GENERATOR_WEIGHT)
        judge = {name: _scale_slope(each, -self.k) for name, each in self.discriminator.named_parameters()}
        fake = F.mse_loss(functional_call(self.discriminator, judge, (image, seen)), seen)
        total = truth.pose_weight * (F.mse_loss(maps, targets) + real + fake)
        self._move_k(real, fake)
        return total

    @torch.no_grad()
    def _move_k(self, real: Tensor, fake: Tensor) -> None:
        errors = processes.total(torch.stack([real, fake])) / processes.count()
        self.k += STEP * (BALANCE * errors[0] - errors[1])
        self.k.clamp_(0, 1)


class _ScaleSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, scale: Tensor) -> Tensor:
        ctx.scale = scale
        return value.view_as(value)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        return slope * ctx.scale, None


def _scale_slope(value: Tensor, scale: float | Tensor) -> Tensor:
    """``value``, whose gradient is ``scale`` times what arrives here; a tensor is read now, not later."""
    return _ScaleSlope.apply(value, scale.clone() if isinstance(scale, Tensor) else scale)
