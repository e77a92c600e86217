"""Cross entropy of upsampled logits without keeping the upsampled tensors: Eq. 4's parsing term.

In plain PyTorch, every stage stores its logits, their soft-max and the gradient of both at the image's size, sixteen
times the size of the maps. The operator computes the loss and its gradient to the maps in one pass. The loops for the
CPU interpolate one row of pixels, compare it and fold it back into the gradient while it is in the L1 cache.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mula_lib.kernels import channels_last, compiled, pixels

LANES = 8  # floats of one AVX register; the parts are padded to a multiple
NEVER = np.float32(-1e30)  # logit of a padding part: its probability is zero

# exp(x) = 2^k p(r), x = k ln 2 + r: Cephes' minimax polynomial p of degree 5, good to the last bits of a float32
_LOG2_E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_HALF, _ONE, _ZERO, _LOWEST = np.float32(0.5), np.float32(1), np.float32(0), np.float32(-87)


def upsampled_cross_entropy(logits: Tensor, target: Tensor, ignore: int, *, align_corners: bool = False) -> Tensor:
    """Mean cross entropy of ``logits`` (B, P, h, w), upsampled bilinearly to ``target`` (B, H, W) uint8: a scalar.

    Pixels whose target is ``ignore`` do not count; zero if none is left. Raises ``ValueError`` on a CPU for a target
    that is neither a part nor ``ignore``. ``align_corners`` is that of PyTorch's ``interpolate``.
    """
    losses, counted, _ = _sums(logits.float(), target, ignore, align_corners)
    return (losses.sum() / counted.sum().clamp(min=1)).float()


def image_cross_entropy(logits: Tensor, target: Tensor, ignore: int) -> Tensor:
    """The same for each image by itself: (B,) means, zero where no pixel counts."""
    losses, counted, _ = _sums(logits.float(), target, ignore, False)
    return (losses / counted.clamp(min=1)).float()


def reference(logits: Tensor, target: Tensor, ignore: int, *, align_corners: bool = False) -> Tensor:
    """:func:`upsampled_cross_entropy` as one would write it; nan if no pixel counts."""
    upsampled = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    return F.cross_entropy(upsampled, target.long(), ignore_index=ignore)


def _by_operations(logits: Tensor, target: Tensor, ignore: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """For each image, the sum of its cross entropy (float64), its pixels that count, and the sum's gradient."""
    upsampled = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    counts = target != ignore
    wanted = torch.where(counts, target, 0).long()[:, None]
    logs = upsampled.log_softmax(dim=1)
    losses = torch.where(counts, -logs.gather(1, wanted)[:, 0], 0.0).double().sum(dim=(1, 2))
    slopes = logs.exp_().scatter_add_(1, wanted, logs.new_full((), -1.0).expand_as(wanted)) * counts[:, None]
    gradient = torch.ops.aten.upsample_bilinear2d_backward(slopes, target.shape[-2:], logits.shape, align_corners)
    return losses, counts.sum(dim=(1, 2)), channels_last(gradient)


_sums = torch.library.custom_op("mula::upsampled_cross_entropy", _by_operations, mutates_args=())


@_sums.register_fake
def _(logits: Tensor, target: Tensor, ignore: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    losses, counted = (logits.new_empty(len(logits), dtype=dtype) for dtype in (torch.float64, torch.int64))
    return losses, counted, torch.empty_like(logits, memory_format=torch.channels_last)


@_sums.register_kernel("cpu")
def _(logits: Tensor, target: Tensor, ignore: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    if align_corners:
        return _by_operations(logits, target, ignore, align_corners)
    logits, target, parts = channels_last(logits), target.contiguous(), logits.shape[1]
    gradient = torch.zeros_like(logits)
    values, labels, slopes = pixels(logits), target.numpy(), pixels(gradient)
    rows, columns = (_neighbours(logits.shape[axis], target.shape[axis - 1]) for axis in (2, 3))
    loop = _loop(-(-parts // LANES) * LANES)
    sums = [loop(*image, *rows, *columns, ignore) for image in zip(values, labels, slopes, strict=True)]
    if min(counted for _, counted in sums) < 0:
        raise ValueError(f"a target that is neither one of {parts} parts nor {ignore} (ignore)")
    losses, counted = zip(*sums, strict=True)
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(counted), gradient


def _keep(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(output[2])


def _backward(ctx, upstream: Tensor, *_: None) -> tuple[Tensor, None, None, None]:
    (gradient,) = ctx.saved_tensors
    return gradient * upstream.to(gradient.dtype)[:, None, None, None], None, None, None


_sums.register_autograd(_backward, setup_context=_keep)


@lru_cache
def _neighbours(size: int, upsampled: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each upsampled cell: the two cells that it lies between, and the weight of the second."""
    centre = np.maximum((np.arange(upsampled) + 0.5) * size / upsampled - 0.5, 0)
    first = np.minimum(centre.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), (centre - first).astype(np.float32)


@lru_cache
def _loop(lanes: int):
    """The loop over one image, for parts padded to ``lanes``: a constant, so that the innermost loops are unrolled."""

    @compiled
    def loop(logits, target, gradient, row0, row1, row_weight, column0, column1, column_weight, ignore):
        _, width, parts = logits.shape
        here = np.empty((width, lanes), np.float32)  # the logits of one row of pixels, not yet upsampled along it
        here[:, parts:] = NEVER
        slope = np.empty((width, lanes), np.float32)  # the gradient of the same
        value, exponent = np.empty(lanes, np.float32), np.empty(lanes, np.int32)
        power = exponent.view(np.float32)
        loss, counted = 0.0, 0
        for y in range(target.shape[0]):
            above, below, down = row0[y], row1[y], row_weight[y]
            for x in range(width):
                for p in range(parts):
                    here[x, p] = logits[above, x, p] + down * (logits[below, x, p] - logits[above, x, p])
            slope[:] = _ZERO
            product = 1.0  # of the normalisers: one logarithm serves many pixels
            for x in range(target.shape[1]):
                wanted = target[y, x]
                if wanted == ignore:
                    continue
                if wanted >= parts:
                    return loss, -1
                left, right, across = column0[x], column1[x], column_weight[x]
                for p in range(lanes):
                    value[p] = here[left, p] + across * (here[right, p] - here[left, p])
                highest = value[0]
                for p in range(lanes):
                    highest = max(highest, value[p])
                loss -= value[wanted] - highest
                for p in range(lanes):
                    v = value[p] - highest
                    v = _LOWEST if v < _LOWEST else v  # this way round a nan stays
                    k = np.floor(v * _LOG2_E + _HALF)
                    exponent[p] = (np.int32(k) + np.int32(127)) << np.int32(23)
                    r = v - k * _LN2_HIGH
                    r = r - k * _LN2_LOW
                    value[p] = (((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5) * r * r + r + _ONE
                total = _ZERO
                for p in range(lanes):
                    value[p] *= power[p]
                    total += value[p]
                product *= total
                if product > 1e200:
                    loss += math.log(product)
                    product = 1.0
                counted += 1
                scale = _ONE / total
                for p in range(lanes):
                    value[p] *= scale
                value[wanted] -= _ONE
                for p in range(lanes):
                    slope[left, p] += value[p] * (_ONE - across)
                for p in range(lanes):
                    slope[right, p] += value[p] * across
            loss += math.log(product)
            for x in range(width):
                for p in range(parts):
                    gradient[above, x, p] += (_ONE - down) * slope[x, p]
            for x in range(width):
                for p in range(parts):
                    gradient[below, x, p] += down * slope[x, p]
        return loss, counted

    return loop
