"""What a network costs: parameters and operations."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from mula_lib.models.network import Network


def parameter_count(model: Network) -> int:
    """Learned numbers of the network."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def forward_gflops(model: Network, crop: int) -> float:
    """10⁹ floating point operations of one forward pass of one image, in evaluation mode; a multiply-add counts as two.

    Convolutions and matrix products are counted; what is left is far below one percent.
    """
    image = torch.zeros(1, 3, crop, crop, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        model.eval()(image)
    return round(counter.get_total_flops() / 1e9, 4)
