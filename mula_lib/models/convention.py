"""How a network wants its pixels: kept with its weights, so that a checkpoint cannot be fed the wrong colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mula_lib.errors import ConfigError


@dataclass(frozen=True)
class ImageConvention:
    """Channel order, mean and standard deviation of a network's input, in units of 0..1."""

    order: str = "RGB"  # or "BGR", as in the released checkpoints
    mean: float = 0.5
    std: float = 0.25  # the released checkpoints: 1

    def __post_init__(self) -> None:
        if self.order not in ("RGB", "BGR"):
            raise ConfigError(f"image order {self.order!r}: only RGB and BGR are known")

    def __call__(self, images: Tensor) -> Tensor:
        """RGB (B, 3, H, W), uint8 or float in 0..255 -> float32 in this convention, memory format kept."""
        if images.dtype == torch.uint8:
            images = images.float()
        if self.order == "BGR":
            images = images.flip(1)
        return images / (255 * self.std) - self.mean / self.std


RELEASED = ImageConvention(order="BGR", mean=0.5, std=1.0)  # of the authors' code
