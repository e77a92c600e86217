"""VGG16-FCN, the plain trunk of Table 1 (Sec. 3.2): VGG-16 without its last two poolings, so at stride 8."""

from itertools import pairwise

from torch import nn

CONVS_PER_BLOCK = (2, 2, 3, 3, 3)
POOLED_BLOCKS = 3  # the paper drops the last two of VGG's five poolings
STRIDE = 2**POOLED_BLOCKS
PAPER_WIDTH = 512


def block_channels(width: int) -> tuple[int, ...]:
    """Channels of the five blocks of a VGG-16 whose last two have ``width``: the others have 1/8, 1/4 and 1/2 of it."""
    return width // 8, width // 4, width // 2, width, width


def conv_relu(
    in_channels: int, out_channels: int, *, batch_norm: bool, size: int = 3, dilation: int = 1
) -> list[nn.Module]:
    """A convolution that keeps the map's size, batch normalization if asked for, and ReLU."""
    convolution = nn.Conv2d(
        in_channels, out_channels, size, padding=size // 2 * dilation, dilation=dilation, bias=not batch_norm
    )
    return [convolution, *([nn.BatchNorm2d(out_channels)] if batch_norm else []), nn.ReLU(inplace=True)]


def block_layers(
    block: int, channels: tuple[int, ...], *, batch_norm: bool, dilation: int = 1, wide: int = 3, pooled: bool = True
) -> list[nn.Module]:
    """VGG-16's convolutions of one block, 0 to 4; the first ``wide`` are 3×3, others 1×1.

    ``pooled`` appends the pooling of a block that has one at stride 8.
    """
    layers: list[nn.Module] = []
    widths = [channels[block - 1] if block else 3, *[channels[block]] * CONVS_PER_BLOCK[block]]
    for number, pair in enumerate(pairwise(widths)):
        layers += conv_relu(*pair, batch_norm=batch_norm, dilation=dilation, size=3 if number < wide else 1)
    return [*layers, nn.MaxPool2d(2)] if pooled and block < POOLED_BLOCKS else layers


def encoder_blocks(width: int, *, batch_norm: bool, context: int, last_dilation: int = 1) -> list[list[nn.Module]]:
    """The layers of each of the five blocks of :class:`VGG16Encoder`; ``last_dilation`` is that of the fifth."""
    wide, dilations = (3, 3, 3, (context + 1) // 2, context // 2), (1, 1, 1, 1, last_dilation)
    return [
        block_layers(block, block_channels(width), batch_norm=batch_norm, wide=wide[block], dilation=dilations[block])
        for block in range(5)
    ]


class VGG16Encoder(nn.Sequential):
    """The 13 convolutions of VGG-16, fully convolutional: (B, 3, H, W) -> (B, width, H/8, W/8).

    Args:
        width: channels of the last two blocks; 512 in the paper. The first three blocks have 1/8, 1/4 and 1/2.
        batch_norm: batch normalization after every convolution. The paper's VGG has none; small training budgets
            need it (see ``docs/adaptation.md``).
        context: how many of the six convolutions of the last two blocks are 3×3; the others are 1×1. Each 3×3 there
            adds 16 pixels to the receptive field: 140 with all six, as in the paper, whose crops have 256.
    """

    def __init__(self, width: int = PAPER_WIDTH, *, batch_norm: bool = False, context: int = 6) -> None:
        super().__init__()
        blocks = encoder_blocks(width, batch_norm=batch_norm, context=context)
        self.layers = nn.Sequential(*(layer for block in blocks for layer in block))
