"""Other interactions of the two branches at a stage: MuLA's rivals in Table 1, and more.

An interaction is a module ``(r_parsing, r_pose) -> (refined_parsing, refined_pose)``: (B, C, H, W) tensors in,
(B, ``out_channels``, H, W) out. To add one, write the class, name it in ``INTERACTIONS``, and add a line to
``workbook/networks.csv``.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mula_lib.files import ConfigError
from mula_lib.models.adaptation import AdaptationConfig, Exchange, Interaction, closing

Pair = tuple[Tensor, Tensor]


class Add(Interaction):
    """VGG16-FCN-Add: both classifiers read R_S + R_J."""

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        return (r_parsing + r_pose,) * 2


class Multiply(Interaction):
    """VGG16-FCN-Multi: both classifiers read R_S · R_J, element by element."""

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        return (r_parsing * r_pose,) * 2


class Concat(Interaction):
    """VGG16-FCN-Concat: both classifiers read [R_S; R_J], 2C channels."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__(channels, config)
        self.out_channels = 2 * channels

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        return (torch.cat([r_parsing, r_pose], dim=1),) * 2


class StaticRefinement(nn.Sequential):
    """R -> R* with learned static depthwise kernels of the same size instead of dynamic ones."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        size = config.kernel_size
        self.V = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)
        self.U = nn.Conv2d(channels, channels, 1)
        self.close = closing(channels, config.norm)

    def reset_start(self) -> None:
        """Start the static kernels where the dynamic ones start, so that this control differs in nothing else."""
        nn.init.dirac_(self.depthwise.weight, groups=self.depthwise.groups)


class SelfResidual(Interaction):
    """VGG16-FCN-Self: MuLA's residual path without the exchange: static kernels instead of predicted ones."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__(channels, config)
        self.parsing = StaticRefinement(channels, config)
        self.pose = StaticRefinement(channels, config)

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        return r_parsing + self.parsing(r_parsing), r_pose + self.pose(r_pose)


class CrossStitch(Interaction):
    """Cross-stitch (Misra et al. 2016): each channel becomes a learned mixture of both tasks'.

    ``shares`` (2, 2, C) holds α, [to, from]; at [[1, 0], [0, 1]] nothing is exchanged.
    """

    learning_rate_factor = 10.0  # mixtures learn slowly otherwise: the authors found 10 to 1000 times the usual rate

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__(channels, config)
        self.shares = nn.Parameter(torch.tensor([[0.9, 0.1], [0.1, 0.9]])[..., None].repeat(1, 1, channels))

    def forward(self, r_parsing: Tensor, r_pose: Tensor) -> Pair:
        (own, other), (to_other, kept) = self.shares[..., None, None]
        return own * r_parsing + other * r_pose, to_other * r_parsing + kept * r_pose


class GatedMessage(nn.Module):
    """PAD-Net (Xu et al. 2018): R̄_S = R_S + σ(conv(R_J)) · conv(R_J), a gate for every cell, and static kernels."""

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        self.message = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, other: Tensor) -> Tensor:
        return features + self.gate(other).sigmoid() * self.message(other)


class AttentionAdapter(nn.Module):
    """R̄ = R + attention of R's cells to the other task's map, pooled to at most 16×16 tokens; starts at zero.

    Content-addressed and per image, without predicted kernels.
    """

    TOKENS = 16  # a side
    HEADS = 4

    def __init__(self, channels: int, config: AdaptationConfig) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_and_value = nn.Conv2d(channels, 2 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def reset_start(self) -> None:
        """Start from R̄ = R, as MuLA's adaptation does."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor, guidance: Tensor) -> Tensor:
        """R of this task and R of the other -> R̄ of this task, all (B, C, H, W)."""
        pooled = F.adaptive_avg_pool2d(guidance, tuple(min(self.TOKENS, side) for side in guidance.shape[-2:]))
        query, key, value = (
            maps.flatten(2).unflatten(1, (self.HEADS, -1)).transpose(2, 3)  # (B, heads, cells, C / heads)
            for maps in (self.query(features), *self.key_and_value(pooled).chunk(2, dim=1))
        )
        found = F.scaled_dot_product_attention(query, key, value)
        return features + self.output(found.transpose(2, 3).reshape(features.shape))


INTERACTIONS: dict[str, Callable[[int, AdaptationConfig], Interaction]] = {
    "none": Interaction,
    "add": Add,
    "multiply": Multiply,
    "concat": Concat,
    "self_residual": SelfResidual,
    "adapt": Exchange,
    "adapt_detached": partial(Exchange, detach=True),
    "adapt_to_pose": partial(Exchange, to_parsing=False),
    "adapt_to_parsing": partial(Exchange, to_pose=False),
    "cross_stitch": CrossStitch,
    "distill": partial(Exchange, direction=GatedMessage),
    "cross_attention": partial(Exchange, direction=AttentionAdapter),
}


def build_interaction(name: str, channels: int, config: AdaptationConfig) -> Interaction:
    """The interaction called ``name``; raises :class:`ConfigError` naming the known ones."""
    if name not in INTERACTIONS:
        raise ConfigError(f"unknown interaction {name!r}; known: {', '.join(INTERACTIONS)}")
    return INTERACTIONS[name](channels, config)
