"""The structure-sensitive loss of Attention+SSL (Gong et al. 2017) and SS-NAN: images whose parts are in the wrong
places count for more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.anatomy import IGNORE, find_anatomy
from mula_lib.data.targets import gaussian_heatmaps, heatmap_sigma
from mula_lib.kernels.cross_entropy import upsampled_cross_entropy
from mula_lib.losses import Truth
from mula_lib.models.config import ModelConfig
from mula_lib.models.outputs import StageOutput
from mula_lib.models.rivals.attention import AttentionToScale, MultiScale

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

    def loss(self, outputs: list[StageOutput], truth: Truth) -> Tensor:
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

    def loss(self, outputs: list[StageOutput], truth: Truth) -> Tensor:
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
