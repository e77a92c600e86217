"""What a network costs: parameters, arithmetic, memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from mula_lib.models.network import ModelConfig, Network, network_of

BACKWARD = 2  # forward passes that a backward pass costs: one for the gradient of the features, one for the weights'
BYTES = 4  # of a float32
STATE = 3  # floats a parameter in training: itself, its gradient, and RMSProp's mean square


def parameter_count(model: Network) -> int:
    """Learned numbers of the network."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def forward_gflops(model: Network, crop: int) -> float:
    """10⁹ floating point operations of one forward pass of one image; a multiply-add counts as two.

    Convolutions and matrix products are counted; what is left is far below one percent.
    """
    image = torch.zeros(1, 3, crop, crop, device=next(model.parameters()).device)
    was_training = model.training
    with FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    return round(counter.get_total_flops() / 1e9, 4)


@dataclass(frozen=True)
class NetworkCost:
    """What one network costs, counted and not measured."""

    parameters: int
    gflops: float  # of the forward pass of one image
    kept_bytes: int  # of one image's features, kept from the forward pass for the backward one
    loss_bytes: int  # of one image's logits at the crop's size, their soft-max and their gradient
    stages: int

    def training_bytes(self, batch: int, *, save_memory: bool = False) -> int:
        """Memory of a training step of ``batch`` images; ``save_memory`` keeps the features of one stage at a time."""
        features = self.kept_bytes // self.stages if save_memory else self.kept_bytes
        return STATE * BYTES * self.parameters + batch * (features + self.loss_bytes)

    @property
    def training_gflops(self) -> float:
        """Of one training step for one image."""
        return (1 + BACKWARD) * self.gflops


def network_cost(config: ModelConfig, crop: int) -> NetworkCost:
    """Count what the network of ``config`` costs on crops of ``crop`` pixels, without computing it where possible."""
    try:
        return _count(config, crop, "meta")
    except NotImplementedError:  # a network that looks at values within
        return _count(config, crop, "cpu")


def _count(config: ModelConfig, crop: int, device: str) -> NetworkCost:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        model = network_of(config)
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # by storage; held, so that no other one gets the same address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # two images: the norms of a map of one cell want more than one value
        outputs = model.train()(torch.zeros(2, 3, crop, crop, device=device))
    logits = sum(stage.parsing.shape[1] for stage in outputs if stage.parsing is not None)
    return NetworkCost(
        parameters=parameter_count(model),
        gflops=forward_gflops(model, crop),
        kept_bytes=sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) // 2,
        loss_bytes=3 * BYTES * logits * crop**2,
        stages=config.stages,
    )
