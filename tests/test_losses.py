"""The loss of Eq. 4 against naive loops, and its upsampling against PyTorch's."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import IGNORE
from mula_lib.data.targets import gaussian_heatmaps, heatmap_sigma
from mula_lib.models.losses import Targets, parsing_loss, supervise
from mula_lib.models.network import StageOutput


def random_logits_and_mask(batch, parts, map_size, mask_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, parts, *map_size, generator=generator).mul_(5)
    mask = torch.randint(0, parts + 1, (batch, *mask_size), generator=generator)
    return logits, torch.where(mask == parts, IGNORE, mask).to(torch.uint8)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(2, 20), st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(0, 99), st.booleans(),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)  # fmt: skip
def test_the_parsing_loss_is_pytorchs_interpolation_and_cross_entropy(
    batch, parts, map_size, mask_size, seed, aligned, layout
):
    logits, mask = random_logits_and_mask(batch, parts, map_size, mask_size, seed)
    mask[0, 0, 0] = 0  # at least one pixel counts
    exact = logits.double().requires_grad_()
    upsampled = F.interpolate(exact, size=mask_size, mode="bilinear", align_corners=aligned)
    wanted = F.cross_entropy(upsampled, mask.long(), ignore_index=IGNORE)
    ours = logits.contiguous(memory_format=layout).requires_grad_()
    found = parsing_loss(ours, mask, align_corners=aligned)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, maps)[0] for loss, maps in ((found, ours), (wanted, exact))]
    rounding = 1e-7  # of p - 1 in float32, where p is almost one
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm() + rounding


def test_extreme_logits_stay_exact():
    logits, mask = random_logits_and_mask(1, 20, (4, 4), (16, 16))
    upsampled = F.interpolate(1e4 * logits.double(), size=(16, 16), mode="bilinear", align_corners=False)
    wanted = F.cross_entropy(upsampled, mask.long(), ignore_index=IGNORE)
    assert parsing_loss(1e4 * logits, mask).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_logit_shows_in_the_loss(value):
    logits, mask = random_logits_and_mask(1, 20, (4, 4), (16, 16))
    logits[0, 3, 2, 2] = value
    assert math.isnan(parsing_loss(logits, mask))


def test_the_loss_sums_cross_entropy_and_weighted_squared_error_over_stages():
    generator = torch.Generator().manual_seed(0)
    stages = [
        StageOutput(torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 2, 4, 4, generator=generator))
        for _ in range(2)
    ]
    mask = torch.randint(0, 3, (2, 8, 8), generator=generator, dtype=torch.uint8)
    mask[0, :3] = 255
    joints = torch.rand(2, 2, 2, generator=generator) * 8
    present = torch.tensor([[True, True], [True, False]])
    batch = {"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "mask": mask, "joints": joints, "present": present}
    heatmaps = gaussian_heatmaps(joints, present, grid=(4, 4), stride=2, sigma=heatmap_sigma(8, 2))
    expected = 0.0
    for parsing, pose, _ in stages:
        logits = F.interpolate(parsing, size=(8, 8), mode="bilinear", align_corners=False)
        losses = [
            -logits[b, :, y, x].log_softmax(0)[int(mask[b, y, x])].item()
            for b in range(2) for y in range(8) for x in range(8) if mask[b, y, x] != 255
        ]  # fmt: skip
        expected += sum(losses) / len(losses) + 20 * ((pose - heatmaps) ** 2).mean().item()
    assert supervise(stages, Targets(batch, 20.0)).item() == pytest.approx(expected, rel=1e-5)
