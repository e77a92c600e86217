"""Systems of Table 3 that predict joints: adversarial hourglass, PSN-style pyramid, hourglass with a pose machine."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mula_lib import distributed as processes
from mula_lib.models.hourglass import HourglassEncoder, Stem, pre_activation
from mula_lib.models.losses import Targets
from mula_lib.models.network import ModelConfig, Network, StageOutput
from mula_lib.models.vgg import conv_relu

GENERATOR_WEIGHT = 1e-4  # λ of L_fake in the generator's loss
BALANCE = 0.5  # γ: the target ratio of L_fake to L_real
STEP = 1e-3  # λ_k


class Discriminator(nn.Module):
    """Reconstructs heatmaps from an image and heatmaps: (B, 3, h, w) and (B, N, h, w) -> (B, N, h, w).

    It learns to reconstruct true maps well and predicted ones badly.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3 + config.joints, config.width, 3, padding=1)
        self.encoder = HourglassEncoder(config.width, config.units)
        self.classifier = nn.Conv2d(config.width, config.joints, 1)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        return self.classifier(self.encoder(self.entry(torch.cat([image, maps], dim=1))))


class AdversarialHourglass(Network):
    """Chou et al. 2017: one hourglass predicts, and a second one learns to tell its heatmaps from true ones.

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
        self.initialize([self.classifier, self.discriminator.classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, joints, H/4, W/4); the discriminator is for training only."""
        features = self.encoder(self.stem(self.config.image(images)))
        return [StageOutput(None, self.classifier(features))]

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """L_G for the generator's parameters and L_D for the discriminator's, in one backward pass; updates k."""
        maps = outputs[-1].pose.float()
        targets = truth.pose_targets(maps)
        image = F.adaptive_avg_pool2d(self.config.image(truth.images), maps.shape[-2:])
        real = F.mse_loss(self.discriminator(image, targets), targets)
        # The gradient of L_fake is scaled by λ on its way to the generator, and by -k to the discriminator.
        seen = _scale_gradient(maps, GENERATOR_WEIGHT)
        weights = {name: _scale_gradient(each, -self.k) for name, each in self.discriminator.named_parameters()}
        fake = F.mse_loss(functional_call(self.discriminator, weights, (image, seen)), seen)
        total = truth.pose_weight * (F.mse_loss(maps, targets) + real + fake)
        self._update_k(real, fake)
        return total

    @torch.no_grad()
    def _update_k(self, real: Tensor, fake: Tensor) -> None:
        errors = processes.total(torch.stack([real, fake])) / processes.count()
        self.k += STEP * (BALANCE * errors[0] - errors[1])
        self.k.clamp_(0, 1)


def _scale_gradient(value: Tensor, scale: float | Tensor) -> Tensor:
    """The value itself, with its gradient multiplied by ``scale``."""
    value = value.view_as(value)
    value.register_hook(lambda upstream: upstream * scale)
    return value


LEVELS = 4  # strides 4, 8, 16 and 32


class PyramidStream(Network):
    """C_l bottom-up; P_l = 1×1(C_l) + up2(P_{l+1}); H_l = 3×3[P_l; up2(H_{l+1})] + up2(H_{l+1}); MSE at every level.

    All that is known of the Pyramid Stream Network is "a top-down pathway and lateral connections to combine features
    of different levels for recurrently refining joint confidence maps". Every level is compared at the finest one's
    size: a Gaussian fills a map of 3×3 cells, whose error would drown that of the finer levels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, joints = config.width, config.joints
        self.stem = Stem(width)
        self.up = nn.ModuleList(  # two residuals at each level, as in an hourglass, one on either side of its sum
            nn.Sequential(pre_activation(width, width), pre_activation(width, width)) for _ in range(LEVELS)
        )
        self.lateral = nn.ModuleList(  # residuals end in a bare sum
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1)) for _ in range(LEVELS)
        )
        self.classifier = nn.ModuleList(
            nn.Conv2d(width + (joints if level + 1 < LEVELS else 0), joints, 3, padding=1) for level in range(LEVELS)
        )
        self.initialize(self.classifier)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps (B, joints, H/4, W/4) of four levels, the coarsest first, upsampled to the finest."""
        x = self.stem(self.config.image(images))
        levels = []
        for level, block in enumerate(self.up):
            x = block(F.max_pool2d(x, 2) if level else x)
            levels.append(x)
        pyramid = self.lateral[-1](levels[-1])
        maps = [self.classifier[-1](pyramid)]
        for level in reversed(range(LEVELS - 1)):
            pyramid, coarser = self.lateral[level](levels[level]) + _doubled(pyramid), _doubled(maps[-1])
            maps.append(self.classifier[level](torch.cat([pyramid, coarser], dim=1)) + coarser)
        size = levels[0].shape[-2:]
        return [
            StageOutput(None, F.interpolate(each, size=size, mode="bilinear", align_corners=False)) for each in maps
        ]


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


STAGES = 3
KERNEL = 7


class PoseMachine(nn.Module):
    """Convolutional pose machine (Wei et al. 2016): three stages of 7×7 convolutions on [features; previous maps]."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *conv_relu(width + (joints if stage else 0), width, batch_norm=True, size=KERNEL),
                *conv_relu(width, width, batch_norm=True, size=KERNEL),
                *conv_relu(width, width, batch_norm=True, size=1),
                nn.Conv2d(width, joints, 1),
            )
            for stage in range(STAGES)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, width, h, w) -> three times (B, joints, h, w)."""
        maps = [self.stages[0](features)]
        for stage in self.stages[1:]:
            maps.append(stage(torch.cat([features, maps[-1]], dim=1)))
        return maps


class HybridPoseMachine(Network):
    """An hourglass and a pose machine on one stem; the prediction is the mean of their last maps."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stem = Stem(config.width)
        self.encoder = HourglassEncoder(config.width, config.units)
        self.classifier = nn.Conv2d(config.width, config.joints, 1)
        self.machine = PoseMachine(config.width, config.joints)
        self.initialize([self.classifier, *(stage[-1] for stage in self.machine.stages)])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> maps of the machine's stages, of the hourglass, and their mean (B, joints, H/4, W/4)."""
        features = self.stem(self.config.image(images))
        by_hourglass = self.classifier(self.encoder(features))
        by_machine = self.machine(features)
        mean = (by_hourglass + by_machine[-1]) / 2
        return [StageOutput(None, maps) for maps in (*by_machine, by_hourglass, mean)]
