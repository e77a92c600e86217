"""The compiled loops against their plain references: values and gradients to 1e-5."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import IGNORE
from mula_lib.compiled import cross_entropy, jit
from mula_lib.compiled.cross_entropy import upsampled_cross_entropy

TOLERANCE = 1e-5


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


def random(*shape: int, seed: int = 0, channels_last: bool = True) -> torch.Tensor:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if channels_last:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()


def random_mask(parts: int, *shape: int, seed: int = 0) -> torch.Tensor:
    mask = torch.randint(0, parts + 1, shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(mask == parts, IGNORE, mask).to(torch.uint8)


class TestUpsampledCrossEntropy:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 3), st.sampled_from([2, 7, 8, 20]), st.integers(1, 6), st.integers(1, 6),
        st.integers(1, 20), st.integers(1, 20), st.integers(0, 99), st.booleans(),
    )  # fmt: skip
    def test_is_the_reference(self, batch, parts, height, width, rows, columns, seed, channels_last):
        logits = random(batch, parts, height, width, seed=seed, channels_last=channels_last)
        mask = random_mask(parts, batch, rows, columns, seed=seed)
        found, wanted = (f(logits * 5, mask, IGNORE) for f in (upsampled_cross_entropy, cross_entropy.reference))
        if (mask == IGNORE).all():
            assert found.isnan()
            assert wanted.isnan()
            return
        assert found.item() == pytest.approx(wanted.item(), rel=TOLERANCE, abs=1e-7)
        gradients = [torch.autograd.grad(loss * 3, logits)[0] for loss in (found, wanted)]
        assert relative_error(*gradients) < TOLERANCE

    def test_extreme_logits_stay_exact(self):
        logits = random(1, 20, 4, 4) * 1e4
        mask = random_mask(20, 1, 16, 16)
        wanted = cross_entropy.reference(logits, mask, IGNORE)
        assert upsampled_cross_entropy(logits, mask, IGNORE).item() == pytest.approx(wanted.item(), rel=TOLERANCE)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_diverged_logit_shows(self, value):
        logits = random(1, 20, 4, 4).detach()
        logits[0, 3, 2, 2] = value
        assert math.isnan(upsampled_cross_entropy(logits, random_mask(20, 1, 16, 16), IGNORE))

    def test_refuses_an_unknown_part(self):
        with pytest.raises(ValueError, match="neither one of 20 parts nor 255"):
            upsampled_cross_entropy(random(1, 20, 4, 4), torch.full((1, 8, 8), 20, dtype=torch.uint8), IGNORE)


class TestJit:
    def test_plain_takes_the_reference(self, monkeypatch):
        monkeypatch.setattr(cross_entropy, "reference", lambda *_: "reference")
        arguments = random(1, 3, 2, 2), torch.zeros(1, 4, 4, dtype=torch.uint8), IGNORE
        assert upsampled_cross_entropy(*arguments) != "reference"
        with jit.plain():
            assert upsampled_cross_entropy(*arguments) == "reference"
        assert upsampled_cross_entropy(*arguments) != "reference"

    @pytest.mark.parametrize("threads", [1, 2])
    def test_share_keeps_the_order(self, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert jit.share(lambda number: number**2, 9) == [number**2 for number in range(9)]
        finally:
            torch.set_num_threads(before)
