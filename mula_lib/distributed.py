"""Several processes, started by ``torchrun``, train one network together; in a single process nothing here acts.

The batch of a recipe is split, but every mean over the batch still covers *all* of it: batch normalization, the loss
over annotated pixels, the gradient. So N processes follow the loss curve of one. (Only Attention+SSL's two controls,
which compare a batch's weights with each other, see each process's share of it.)
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

TIMEOUT = timedelta(hours=2)  # others wait while the first process tests


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started several, each on the GPU of its local rank or on the CPU."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        leave()


def leave() -> None:
    """Part from the other processes, which may then end."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0. The first one writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Return when all processes have called this."""
    if count() > 1:
        dist.barrier()


def total(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes, without gradient."""
    value = value.detach().clone()
    if count() > 1:
        dist.all_reduce(value)
    return value


def parallel(model: nn.Module) -> nn.Module:
    """``model`` in DDP: gradients averaged, statistics of the whole batch; its own batch normalization is replaced."""
    if count() == 1:
        return model
    if next(model.parameters()).device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:  # on the CPU, which SyncBatchNorm does not support
            module.__class__ = SharedBatchNorm2d
    return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the batch of all processes, which must hold equally many samples."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or count() == 1:
            return super().forward(x)
        dtype, x = x.dtype, x.float()  # under autocast, statistics are float32 as in PyTorch's own
        values = x.numel() // x.shape[1] * count()
        mean = all_reduce(x.sum(dim=(0, 2, 3))) / values
        centered = x - mean[:, None, None]
        variance = all_reduce(centered.square().sum(dim=(0, 2, 3))) / values
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * values / (values - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(dtype)
