"""VGG16-FCN, the plain trunk of Table 1 (Sec. 3.2): VGG-16 without its last two poolings, so at stride 8."""

from __future__ import annotations

from torch import Tensor, nn

from mula_lib.compiled.convolution import Conv3x3

CONVS_PER_BLOCK = (2, 2, 3, 3, 3)
POOLED_BLOCKS = 3  # the paper drops the last two of VGG's five poolings
STRIDE = 2**POOLED_BLOCKS
PAPER_WIDTH = 512


class VGG16Encoder(nn.Module):
    """The 13 convolutions of VGG-16, fully convolutional: (B, 3, H, W) -> (B, width, H/8, W/8).

    Args:
        width: channels of the last two blocks; 512 is the paper's. The first three blocks have 1/8, 1/4 and 1/2.
        batch_norm: follow every convolution by batch normalisation. The paper's VGG has none; small training
            budgets need it (see ``docs/adaptation.md``).
    """

    stride = STRIDE

    def __init__(self, width: int = PAPER_WIDTH, *, batch_norm: bool = False) -> None:
        super().__init__()
        channels = (width // 8, width // 4, width // 2, width, width)
        layers: list[nn.Module] = []
        previous = 3
        for block, (convs, out) in enumerate(zip(CONVS_PER_BLOCK, channels, strict=True)):
            for _ in range(convs):
                layers.append(Conv3x3(previous, out, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                layers.append(nn.ReLU(inplace=True))
                previous = out
            if block < POOLED_BLOCKS:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> R, (B, width, H/8, W/8)."""
        return self.layers(image)
