"""FCN-8s (Long et al. 2015): scores of three depths of a VGG-16, added from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.anatomy import IGNORE, find_anatomy
from mula_lib.data.targets import PAPER_CROP, gaussian_heatmaps, heatmap_sigma
from mula_lib.kernels.cross_entropy import upsampled_cross_entropy
from mula_lib.models.losses import Targets
from mula_lib.models.network import ModelConfig, Network, StageOutput
from mula_lib.models.vgg import CONVS_PER_BLOCK, POOLED_BLOCKS, VGG16Encoder, block_channels, block_layers, conv_relu


class FCN8s(Network):
    """All five poolings; 1×1 scores of pool 3, pool 4 and conv 7; up 2 and add, twice; the loss enlarges 8 times.

    conv 6 has 7×7 weights, as VGG's first fully connected layer has once it is a convolution, but ``width`` channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels, norm = block_channels(config.width), config.batch_norm
        self.blocks = nn.ModuleList(nn.Sequential(*block_layers(i, channels, batch_norm=norm)) for i in range(5))
        self.head = nn.Sequential(  # conv 6 and conv 7
            *conv_relu(config.width, config.width, batch_norm=norm, size=7),
            *conv_relu(config.width, config.width, batch_norm=norm, size=1),
        )
        self.scores = nn.ModuleList(nn.Conv2d(depth, config.parts, 1) for depth in (*channels[2:4], config.width))
        self.initialise(self.scores)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W), H and W multiples of 32 -> logits (B, parts, H/8, W/8)."""
        x = self.config.image(images)
        pooled = []
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
            pooled.append(x)
        score = self.scores[2](self.head(x))
        for finer, layer in ((pooled[3], self.scores[1]), (pooled[2], self.scores[0])):
            score = layer(finer) + F.interpolate(score, size=finer.shape[-2:], mode="bilinear", align_corners=False)
        return [StageOutput(score, None)]


class SegNet(Network):
    """Encoder with batch normalisation that keeps where each maximum came from; decoder that unpools to there.

    The decoder has the encoder's convolutions in reverse, and its logits are of the image's own size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = block_channels(config.width)
        self.encoder = nn.ModuleList(nn.Sequential(*block_layers(i, channels, batch_norm=True)) for i in range(5))
        self.decoder = nn.ModuleList(_mirrored(i, channels) for i in reversed(range(5)))
        self.classifier = nn.Conv2d(channels[0], config.parts, 1)
        self.initialise([self.classifier])

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H, W)."""
        x = self.config.image(images)
        places = []
        for block in self.encoder:
            x = block(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            places.append((indices, size))
        for block, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return [StageOutput(self.classifier(x), None)]


def _mirrored(block: int, channels: tuple[int, ...]) -> nn.Sequential:
    """The convolutions of one encoder block in reverse: the last one goes to the channels of the block before it."""
    out = [channels[block]] * (CONVS_PER_BLOCK[block] - 1) + [channels[max(block - 1, 0)]]
    layers: list[nn.Module] = []
    previous = channels[block]
    for each in out:
        layers += conv_relu(previous, each, batch_norm=True)
        previous = each
    return nn.Sequential(*layers)


RATES = (6, 12, 18, 24)  # cells at a stride of 8, at the paper's crop of 256
CONV5_DILATION = 2


class DeepLabV2(Network):
    """VGG-16 at stride 8 with a dilated fifth block, and four branches: 3×3 at a rate, 1×1, 1×1 scores; summed.

    At crops of other sizes the rates are in proportion: beyond the map's edge a rate sees padding only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels, norm, width = block_channels(config.width), config.batch_norm, config.width
        layers: list[nn.Module] = []
        for block in range(5):
            layers += block_layers(block, channels, batch_norm=norm, dilation=CONV5_DILATION if block == 4 else 1)
            if block < POOLED_BLOCKS:
                layers.append(nn.MaxPool2d(2))
        self.trunk = nn.Sequential(*layers)
        self.branches = nn.ModuleList(
            nn.Sequential(
                *conv_relu(width, width, batch_norm=norm, dilation=rate),
                *conv_relu(width, width, batch_norm=norm, size=1),
                nn.Conv2d(width, config.parts, 1),
            )
            for rate in scaled_rates(config.crop)
        )
        self.initialise(branch[-1] for branch in self.branches)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H/8, W/8)."""
        features = self.trunk(self.config.image(images))
        return [StageOutput(sum(branch(features) for branch in self.branches), None)]


def scaled_rates(crop: int) -> tuple[int, ...]:
    """The four rates for crops of another size than the paper's."""
    return tuple(max(1, round(rate * crop / PAPER_CROP)) for rate in RATES)


SCALES = (1.0, 0.75, 0.5)
DROPOUT = 0.5


class ScaleWeights(nn.Module):
    """a = softmax over scales of conv 1×1 (dropout (ReLU (conv 3×3 [f₁; f.₇₅; f.₅]))): (B, 3, h, w), sums to one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(len(SCALES) * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Conv2d(channels, len(SCALES), 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Three maps (B, C, h, w) of one size -> their weights."""
        return self.layers(torch.cat(features, dim=1)).softmax(dim=1)


class MultiScale(Network):
    """A shared VGG-16 at three scales, and the weights of the three."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = VGG16Encoder(config.width, batch_norm=config.batch_norm)
        self.weights = ScaleWeights(config.width)
        self.classifier = nn.Conv2d(config.width, config.parts, 1)
        self.initialise([self.classifier])

    def features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Features of each scale at its own size, the same at the first one's size, and the weights a."""
        image = self.config.image(images)
        own = [self.encoder(self._resized(image, scale)) for scale in SCALES]
        alike = [own[0], *(_enlarged(each, own[0]) for each in own[1:])]
        return own, alike, self.weights(alike)

    @staticmethod
    def _resized(image: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return image
        return F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False, antialias=True)


class AttentionToScale(MultiScale):
    """Scores g = Σ_s a_s · g_s; the loss is CE(g) + Σ_s CE(g_s), so four outputs are supervised."""

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits of each scale, then (B, parts, H/8, W/8) of all."""
        own, _, weights = self.features(images)
        scores = [self.classifier(each) for each in own]
        alike = [scores[0], *(_enlarged(each, scores[0]) for each in scores[1:])]
        fused = sum(weights[:, s, None] * score for s, score in enumerate(alike))
        return [StageOutput(score, None) for score in (*scores, fused)]


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


HARD_SHARE = 0.5  # of an image's pixels
IDS = 256  # values that a part id may have, IGNORE among them


@torch.no_grad()
def structure_distance(logits: Tensor, mask: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """How far the predicted parts are from their places: w (B,), not differentiated.

    The centroids of each of ``groups`` of part ids, in the prediction and in the truth, are drawn as Gaussians; w is
    the mean squared difference of the drawings. A group that nobody sees is blank in both; one that only one of them
    sees counts as its whole Gaussian.

    ``logits`` (B, P, h, w) of any size and ``mask`` (B, H, W) uint8.
    """
    grid, stride = tuple(logits.shape[-2:]), mask.shape[-1] / logits.shape[-1]
    sigma = heatmap_sigma(mask.shape[-1], stride)
    predicted, true = (
        gaussian_heatmaps(*_centroids(ids, step, groups), grid=grid, stride=stride, sigma=sigma)
        for ids, step in ((logits.argmax(dim=1), stride), (mask, 1.0))
    )
    return (predicted - true).square().mean(dim=(1, 2, 3))


def _centroids(ids: Tensor, stride: float, groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(B, h, w) part ids -> centroids (B, G, 2) in pixels (column, row), and (B, G) which groups are there."""
    batch, height, width = ids.shape
    # Counts and sums of places of every id at once: quicker than a look at all pixels for each group.
    bins = (ids.long() + IDS * torch.arange(batch, device=ids.device)[:, None, None]).flatten()
    rows, columns = ((stride - 1) / 2 + stride * torch.arange(size, device=ids.device) for size in (height, width))
    places = (None, columns.expand(batch, height, width), rows[:, None].expand(batch, height, width))
    sums = [
        torch.bincount(bins, None if each is None else each.flatten().double(), minlength=batch * IDS)
        for each in places
    ]
    members = torch.zeros(IDS, len(groups), dtype=torch.float64, device=ids.device)
    for number, group in enumerate(groups):
        members[list(group), number] = 1
    cells, x, y = (each.double().view(batch, IDS) @ members for each in sums)
    centroids = torch.stack([x, y], dim=-1) / cells.clamp(min=1)[..., None]
    return centroids.float(), cells > 0


def as_written(weights: Tensor) -> Tensor:
    """w itself, as the paper has it."""
    return weights


def over_batch_mean(weights: Tensor) -> Tensor:
    """Control: w over its mean in the batch, so that images differ in weight but the loss keeps its size."""
    return weights / weights.mean().clamp(min=torch.finfo(weights.dtype).tiny)


def shuffled(weights: Tensor) -> Tensor:
    """Control: every image gets the weight of its neighbour in the batch, so that w says nothing about it."""
    return weights.roll(1)


class AttentionSSL(AttentionToScale):
    """Attention to scale, the cross entropy of each image weighted by w of the final prediction.

    The released code computes a weighted loss and forgets w in its gradient; here the gradient has it, as the paper
    says.
    """

    def __init__(self, config: ModelConfig, weighting: Callable[[Tensor], Tensor] = as_written) -> None:
        super().__init__(config)
        self.weighting = weighting
        self.groups = find_anatomy(config.anatomy).structure_groups

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Σ over outputs of the mean over images of w · CE."""
        weights = self.weighting(structure_distance(outputs[-1].parsing, truth.mask, self.groups))
        total = sum((weights * image_cross_entropy(stage.parsing, truth.mask)).mean() for stage in outputs)
        return truth.parsing_weight * total


class SSNAN(MultiScale):
    """SS-NAN (Zhao et al. 2017): *features*, not scores, are summed by the scales' weights: F = Σ_s a_s · f_s.

    Its loss is the cross entropy of each image's hardest pixels, weighted by w. The authors train in three phases.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.groups = find_anatomy(config.anatomy).structure_groups

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H/8, W/8)."""
        _, alike, weights = self.features(images)
        aggregated = sum(weights[:, s, None] * features for s, features in enumerate(alike))
        return [StageOutput(self.classifier(aggregated), None)]

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Mean over images of w · the mean cross entropy of the hardest half of the image's pixels."""
        logits = outputs[-1].parsing
        weights = structure_distance(logits, truth.mask, self.groups)
        return truth.parsing_weight * (weights * hard_cross_entropy(logits, truth.mask)).mean()


def image_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean cross entropy of each image by itself, at the mask's size; zero where no pixel counts."""
    losses = [
        upsampled_cross_entropy(logits[b : b + 1], mask[b : b + 1], IGNORE)
        if bool((mask[b] != IGNORE).any())
        else logits[b].sum() * 0
        for b in range(len(mask))
    ]
    return torch.stack(losses)


def hard_cross_entropy(logits: Tensor, mask: Tensor, share: float = HARD_SHARE) -> Tensor:
    """(B,) mean cross entropy of the hardest ``share`` of each image's pixels; zero where no pixel counts."""
    enlarged = F.interpolate(logits.float(), size=mask.shape[-2:], mode="bilinear", align_corners=False)
    pixels = F.cross_entropy(enlarged, mask.long(), ignore_index=IGNORE, reduction="none").flatten(1)
    counted = (mask != IGNORE).flatten(1).sum(dim=1)
    losses = []
    for image, count in zip(pixels, counted.tolist(), strict=True):  # ignored pixels are zero, so never among these
        hardest = max(1, round(share * count))
        losses.append(image.topk(hardest).values.mean())
    return torch.stack(losses)
