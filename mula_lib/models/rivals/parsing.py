"""Systems of Tables 4 and 6 that parse: FCN-8s, SegNet, DeepLabV2, attention to scale with and without SSL, SS-NAN."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.anatomy import ANATOMIES, IGNORE
from mula_lib.data.targets import PAPER_CROP, gaussian_heatmaps, heatmap_sigma
from mula_lib.models.losses import Targets, upsample
from mula_lib.models.network import ModelConfig, Network, StageOutput
from mula_lib.models.vgg import CONVS_PER_BLOCK, VGG16Encoder, block_channels, block_layers, conv_relu, encoder_blocks


class FCN8s(Network):
    """FCN-8s (Long et al. 2015): 1×1 scores of pool 3, pool 4 and conv 7, upsampled and added from coarse to fine.

    conv 6 is 7×7, like VGG's first fully connected layer as a convolution, but has ``width`` channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels, norm = block_channels(config.width), config.batch_norm
        self.blocks = nn.ModuleList(
            nn.Sequential(*block_layers(i, channels, batch_norm=norm, pooled=False)) for i in range(5)
        )
        self.head = nn.Sequential(  # conv 6 and conv 7
            *conv_relu(config.width, config.width, batch_norm=norm, size=7),
            *conv_relu(config.width, config.width, batch_norm=norm, size=1),
        )
        self.scores = nn.ModuleList(nn.Conv2d(depth, config.parts, 1) for depth in (*channels[2:4], config.width))
        self.initialize(self.scores)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W), H and W multiples of 32 -> logits (B, parts, H/8, W/8)."""
        x = self.config.image(images)
        pooled = []
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
            pooled.append(x)
        score = self.scores[2](self.head(x))
        for finer, layer in ((pooled[3], self.scores[1]), (pooled[2], self.scores[0])):
            score = layer(finer) + _upsampled(score, finer)
        return [StageOutput(score, None)]


class SegNet(Network):
    """SegNet (Badrinarayanan et al. 2017): the decoder puts each value back where the encoder's pooling found it.

    The decoder has the encoder's convolutions in reverse, and its logits have the image's own size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = block_channels(config.width)
        self.encoder = nn.ModuleList(
            nn.Sequential(*block_layers(i, channels, batch_norm=True, pooled=False)) for i in range(5)
        )
        self.decoder = nn.ModuleList(_mirrored(i, channels) for i in reversed(range(5)))
        self.classifier = nn.Conv2d(channels[0], config.parts, 1)
        self.initialize([self.classifier])

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
    pairs = pairwise([channels[block], *out])
    return nn.Sequential(*(layer for pair in pairs for layer in conv_relu(*pair, batch_norm=True)))


RATES = (6, 12, 18, 24)  # cells at a stride of 8, at the paper's crop of 256
CONV5_DILATION = 2


class DeepLabV2(Network):
    """DeepLabV2 (Chen et al. 2016): a dilated fifth block and four summed branches: 3×3 at a rate, 1×1, 1×1 scores.

    At other crops the rates scale in proportion: beyond the map's edge a rate sees only padding.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        norm, width = config.batch_norm, config.width
        blocks = encoder_blocks(width, batch_norm=norm, context=config.context, last_dilation=CONV5_DILATION)
        self.trunk = nn.Sequential(*(layer for block in blocks for layer in block))
        self.branches = nn.ModuleList(
            nn.Sequential(
                *conv_relu(width, width, batch_norm=norm, dilation=rate),
                *conv_relu(width, width, batch_norm=norm, size=1),
                nn.Conv2d(width, config.parts, 1),
            )
            for rate in scaled_rates(config.crop)
        )
        self.initialize(branch[-1] for branch in self.branches)

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H/8, W/8)."""
        features = self.trunk(self.config.image(images))
        return [StageOutput(sum(branch(features) for branch in self.branches), None)]


def scaled_rates(crop: int) -> tuple[int, ...]:
    """The four rates for crops of any size."""
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
        self.encoder = VGG16Encoder(config.width, batch_norm=config.batch_norm, context=config.context)
        self.weights = ScaleWeights(config.width)
        self.classifier = nn.Conv2d(config.width, config.parts, 1)
        self.initialize([self.classifier])

    def features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Features of each scale at its own size, the same at the first one's size, and the weights a."""
        image = self.config.image(images)
        resized = [
            F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False, antialias=True)
            for scale in SCALES[1:]
        ]
        own = [self.encoder(each) for each in (image, *resized)]
        alike = [own[0], *(_upsampled(each, own[0]) for each in own[1:])]
        return own, alike, self.weights(alike)


class AttentionToScale(MultiScale):
    """Attention to scale (Chen et al. 2016): scores g = Σ_s a_s · g_s; the loss is CE(g) + Σ_s CE(g_s)."""

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits of each scale, then of all: (B, parts, H/8, W/8)."""
        own, _, weights = self.features(images)
        scores = [self.classifier(each) for each in own]
        alike = [scores[0], *(_upsampled(each, scores[0]) for each in scores[1:])]
        fused = sum(weights[:, s, None] * score for s, score in enumerate(alike))
        return [StageOutput(score, None) for score in (*scores, fused)]


def _upsampled(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


HARD_SHARE = 0.5  # of an image's pixels
IDS = 256  # values that a part id may have, IGNORE among them


@torch.no_grad()
def structure_distance(logits: Tensor, mask: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """How far the predicted parts are from their true places: w (B,), not differentiated.

    The centroids of each of ``groups`` of part ids, predicted and true, are drawn as Gaussians; w is the mean squared
    difference of the drawings. A group that is in neither is blank in both; one that is in only one of them counts as
    its whole Gaussian.

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
    """(B, h, w) part ids -> centroids (B, G, 2) in pixels (column, row), and (B, G) whether the group occurs."""
    batch, height, width = ids.shape
    rows, columns = ((stride - 1) / 2 + stride * torch.arange(size, device=ids.device) for size in (height, width))
    places = [torch.ones_like(ids), columns.expand_as(ids), rows[:, None].expand_as(ids)]
    places = torch.stack([each.flatten(1).double() for each in places], dim=1)  # exact: multiples of one half
    # Counts and sums of coordinates of every id at once: faster than a pass over the pixels for each group.
    sums = places.new_zeros(batch, 3, IDS).scatter_add_(2, ids.long().flatten(1)[:, None].expand_as(places), places)
    cells, x, y = (sums @ _members(groups, ids.device)).unbind(dim=1)
    centroids = torch.stack([x, y], dim=-1) / cells.clamp(min=1)[..., None]
    return centroids.float(), cells > 0


@cache
def _members(groups: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(IDS, G) float64: 1 where an id belongs to a group; made once, because the host waits for it."""
    return torch.tensor([[id in group for group in groups] for id in range(IDS)], dtype=torch.float64, device=device)


def over_batch_mean(weights: Tensor) -> Tensor:
    """Control: w over its mean in the batch, so that images differ in weight but the loss keeps its size."""
    return weights / weights.mean().clamp(min=torch.finfo(weights.dtype).tiny)


def shuffled(weights: Tensor) -> Tensor:
    """Control: every image gets the weight of its neighbor in the batch, so that w says nothing about it."""
    return weights.roll(1)


class AttentionSSL(AttentionToScale):
    """Attention to scale with structure-sensitive learning: each image's cross entropy is weighted by w.

    The released code computes a weighted loss but omits w from its gradient; here it is in both, as in the paper.
    """

    def __init__(self, config: ModelConfig, weighting: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(config)
        self.weighting = weighting
        self.groups = ANATOMIES[config.anatomy].structure_groups

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Σ over outputs of the mean over images of w · CE."""
        weights = structure_distance(outputs[-1].parsing, truth.mask, self.groups)
        weights = self.weighting(weights) if self.weighting else weights
        losses = (image_cross_entropy(stage.parsing, truth.mask) for stage in outputs)
        return sum((weights * each).mean() for each in losses)


class SSNAN(MultiScale):
    """SS-NAN (Zhao et al. 2017): *features*, not scores, are summed by the scales' weights: F = Σ_s a_s · f_s.

    Its loss is the cross entropy of each image's hardest pixels, weighted by w. The authors train in three phases.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.groups = ANATOMIES[config.anatomy].structure_groups

    def forward(self, images: Tensor) -> list[StageOutput]:
        """(B, 3, H, W) -> logits (B, parts, H/8, W/8)."""
        _, alike, weights = self.features(images)
        aggregated = sum(weights[:, s, None] * features for s, features in enumerate(alike))
        return [StageOutput(self.classifier(aggregated), None)]

    def loss(self, outputs: list[StageOutput], truth: Targets) -> Tensor:
        """Mean over images of w · the mean cross entropy of the hardest half of the image's pixels."""
        logits = outputs[-1].parsing
        weights = structure_distance(logits, truth.mask, self.groups)
        return (weights * hard_cross_entropy(logits, truth.mask)).mean()


def image_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean cross entropy of each image by itself; zero where no pixel counts."""
    losses, counted = _pixel_losses(logits, mask)
    return losses.sum(dim=1) / counted.clamp(min=1)


def hard_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """The same over the hardest :data:`HARD_SHARE` of each image's pixels."""
    losses, counted = _pixel_losses(logits, mask)
    hardest = (HARD_SHARE * counted[:, None]).round().clamp(min=1)
    ranked = losses.sort(dim=1, descending=True).values  # ignored pixels are zero, so never among the hardest
    chosen = torch.arange(losses.shape[1], device=losses.device) < hardest
    return (ranked * chosen).sum(dim=1) / hardest[:, 0]


def _pixel_losses(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each image's pixels, (B, H·W), zero where ignored, and how many of them count, (B,)."""
    upsampled = upsample(logits, mask.shape[-2:])
    losses = F.cross_entropy(upsampled, mask.long(), ignore_index=IGNORE, reduction="none")
    return losses.flatten(1), (mask != IGNORE).flatten(1).sum(dim=1)
