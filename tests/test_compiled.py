"""The compiled loops against their plain references: values and gradients to 1e-5."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mula_lib.anatomy import IGNORE
from mula_lib.kernels import convolution, cross_entropy, depthwise, jit
from mula_lib.kernels.cross_entropy import upsampled_cross_entropy

TOLERANCE = 1e-5


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()


def random(*shape: int, seed: int = 0, channels_last: bool = True) -> torch.Tensor:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if channels_last:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()


def random_mask(parts: int, *shape: int, seed: int = 0) -> torch.Tensor:
    mask = torch.randint(0, parts + 1, shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(mask == parts, IGNORE, mask).to(torch.uint8)


@contextlib.contextmanager
def use_threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


class TestDynamicDepthwise:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 3), st.sampled_from([8, 24, 72]), st.integers(1, 9), st.integers(1, 9),
        st.sampled_from([1, 3, 5, 7]), st.integers(0, 99), st.booleans(),
    )  # fmt: skip
    def test_is_the_reference(self, batch, channels, height, width, size, seed, channels_last):
        features = random(batch, channels, height, width, seed=seed, channels_last=channels_last)
        kernels = random(batch, channels, size, size, seed=seed + 1, channels_last=channels_last)
        upstream = random(batch, channels, height, width, seed=seed + 2).detach()
        found, wanted = (f(features, kernels) for f in (depthwise.dynamic_depthwise, depthwise.reference))
        assert relative_error(found, wanted) < TOLERANCE
        gradients = [torch.autograd.grad(result, (features, kernels), upstream) for result in (found, wanted)]
        for of_found, of_wanted in zip(*gradients, strict=True):
            assert relative_error(of_found, of_wanted) < TOLERANCE

    def test_is_the_reference_at_the_papers_size(self):
        features, kernels = random(1, 256, 64, 64), random(1, 256, 7, 7, seed=1)
        found, wanted = (f(features, kernels) for f in (depthwise.dynamic_depthwise, depthwise.reference))
        assert relative_error(found, wanted) < TOLERANCE
        gradients = [torch.autograd.grad(result.square().sum(), (features, kernels)) for result in (found, wanted)]
        for of_found, of_wanted in zip(*gradients, strict=True):
            assert relative_error(of_found, of_wanted) < TOLERANCE

    def test_does_not_depend_on_the_number_of_threads(self):
        features, kernels = random(3, 72, 9, 9), random(3, 72, 3, 3, seed=1)
        results = []
        for threads in (1, 2):
            with use_threads(threads):
                result = depthwise.dynamic_depthwise(features, kernels)
                results.append((result, *torch.autograd.grad(result.square().sum(), (features, kernels))))
        for one, two in zip(*results, strict=True):
            assert torch.equal(one, two)

    @pytest.mark.parametrize(("channels", "dtype"), [(6, torch.float32), (8, torch.float64)])
    def test_leaves_other_widths_and_precisions_to_the_reference(self, channels, dtype):
        features, kernels = (random(2, channels, 5, 5).to(dtype), random(2, channels, 3, 3).to(dtype))
        assert torch.equal(depthwise.dynamic_depthwise(features, kernels), depthwise.reference(features, kernels))


class TestConv1x1:
    @pytest.mark.parametrize("side", [8, 24])
    def test_is_a_convolution(self, side):
        with use_threads(1):
            module = convolution.Conv1x1(8, 16)
            arguments = [random(3, 8, side, side), *module.parameters()]
            found, wanted = module(arguments[0]), torch.nn.Conv2d.forward(module, arguments[0])
            assert relative_error(found, wanted) < TOLERANCE
            upstream = random(3, 16, side, side, seed=1).detach()
            gradients = [torch.autograd.grad(result, arguments, upstream) for result in (found, wanted)]
        for of_found, of_wanted in zip(*gradients, strict=True):
            assert relative_error(of_found, of_wanted) < TOLERANCE


class TestConv3x3:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("channels", "outputs"), [(64, 72), (8, 64)])
    def test_is_a_convolution(self, channels, outputs, bias):
        module = convolution.Conv3x3(channels, outputs, bias=bias)
        arguments = [random(2, channels, 19, 17), *module.parameters()]
        found, wanted = module(arguments[0]), torch.nn.Conv2d.forward(module, arguments[0])
        assert relative_error(found, wanted) < TOLERANCE
        upstream = random(2, outputs, 19, 17, seed=1).detach()
        gradients = [torch.autograd.grad(result, arguments, upstream) for result in (found, wanted)]
        for of_found, of_wanted in zip(*gradients, strict=True):
            assert relative_error(of_found, of_wanted) < TOLERANCE

    def test_takes_its_own_way_where_it_pays(self):
        ways = [
            type(convolution.Conv3x3(wide, wide)(random(1, wide, side, side)).grad_fn)
            for wide, side in ((32, 16), (64, 15), (64, 16))
        ]
        assert ways[0] is ways[1]
        assert ways[1] is not ways[2]


class TestJit:
    def test_plain_takes_the_reference(self, monkeypatch):
        monkeypatch.setattr(cross_entropy, "reference", lambda *_, **__: "reference")
        arguments = random(1, 3, 2, 2), torch.zeros(1, 4, 4, dtype=torch.uint8), IGNORE
        assert upsampled_cross_entropy(*arguments) != "reference"
        with jit.plain():
            assert upsampled_cross_entropy(*arguments) == "reference"
        assert upsampled_cross_entropy(*arguments) != "reference"

    @pytest.mark.parametrize("threads", [1, 2])
    def test_share_keeps_the_order(self, threads):
        with use_threads(threads):
            assert jit.share(lambda number: number**2, 9) == [number**2 for number in range(9)]
