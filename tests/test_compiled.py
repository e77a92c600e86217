"""The library's own operator against a plain reference, to 1e-5 with gradients, and what PyTorch must know of it."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mula_lib.anatomy import IGNORE
from mula_lib.kernels import channels_last, depthwise
from mula_lib.kernels.depthwise import dynamic_depthwise
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.network import ModelConfig, build_model
from mula_lib.training import Objective, Recipe

TOLERANCE = 1e-5


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()


def random(*shape: int, seed: int = 0, last: bool = True, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return (channels_last(tensor) if last else tensor).requires_grad_()


def random_mask(parts: int, *shape: int, seed: int = 0) -> torch.Tensor:
    mask = torch.randint(0, parts + 1, shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(mask == parts, IGNORE, mask).to(torch.uint8)


def values_and_gradients(function, features, kernels, upstream):
    result = function(features, kernels)
    return (result, *torch.autograd.grad(result, (features, kernels), upstream))


class TestDynamicDepthwise:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 3), st.sampled_from([1, 6, 8]), st.integers(1, 9), st.integers(1, 9),
        st.sampled_from([1, 3, 5, 7]), st.integers(0, 99), st.booleans(),
    )  # fmt: skip
    @example(1, 256, 64, 64, 7, 0, True)  # the paper's size
    def test_is_the_reference(self, batch, channels, height, width, size, seed, last):
        shapes = ((channels, height, width), (channels, size, size), (channels, height, width))
        given = [random(batch, *shape, seed=seed + k, last=last) for k, shape in enumerate(shapes)]
        ways = (values_and_gradients(function, *given) for function in (dynamic_depthwise, depthwise.reference))
        for found, wanted in zip(*ways, strict=True):
            assert relative_error(found, wanted) < TOLERANCE

    def test_loops_are_compiled_once_and_read_from_disk_after_that(self):
        arrays = [np.ones((1, side, side, 8), np.float32) for side in (4, 3, 4)]
        for _ in range(2):
            loop = depthwise._loops.__wrapped__(3)[0]  # as another process makes it
            loop(*arrays)
        assert loop.stats.cache_hits, "a closure over anything but numbers is not found again"

    def test_double_precision_is_left_to_the_reference(self):
        features, kernels = random(2, 6, 9, 9, dtype=torch.float64), random(2, 6, 3, 3, dtype=torch.float64)
        assert torch.equal(dynamic_depthwise(features, kernels), depthwise.reference(features, kernels))

    def test_bf16_is_computed_in_float32_under_autocast_too(self):
        given = [random(2, 8, side, side, seed=side, dtype=torch.bfloat16) for side in (12, 5, 12)]
        wide = [each.detach().float().requires_grad_() for each in given]
        ways = (values_and_gradients(dynamic_depthwise, *each) for each in (given, wide))
        for found, wanted in zip(*ways, strict=True):
            assert torch.equal(found, wanted.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(dynamic_depthwise(*given[:2]), dynamic_depthwise(*wide[:2]))


class TestWhatPyTorchKnows:
    def test_the_operator_keeps_pytorchs_rules(self):
        given, upstream = (random(2, 8, 5, 4), random(2, 8, 3, 3, seed=1)), random(2, 8, 5, 4, seed=2)
        torch.library.opcheck(torch.ops.mula.dynamic_depthwise.default, given)
        gradient = upstream.detach(), given[0].detach(), 3
        torch.library.opcheck(torch.ops.mula.dynamic_depthwise_kernels.default, gradient)

    def test_flops_are_those_of_the_grouped_convolution_and_twice_as_many_backward(self):
        given, counted = (random(2, 8, 5, 4), random(2, 8, 3, 3, seed=1)), []
        for function in (dynamic_depthwise, depthwise.reference):
            for run in (lambda: function(*given), function(*given).sum().backward):  # noqa: B023
                with FlopCounterMode(display=False) as counter:
                    run()
                counted.append(counter.get_total_flops())
        assert counted[:3] == [2 * (2 * 8 * 5 * 4) * 9 * times for times in (1, 2, 1)]

    @pytest.mark.parametrize("backbone", ["hourglass", "vgg"])
    def test_dynamo_takes_a_training_steps_loss_whole(self, backbone):
        stages, found = 2 if backbone == "hourglass" else 1, []
        config = ModelConfig(backbone, ("adapt",) * stages, 8, adaptation=AdaptationConfig(3))
        batch = {
            "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), "mask": random_mask(20, 2, 64, 64),
            "joints": 64 * torch.rand(2, 16, 2), "present": torch.ones(2, 16, dtype=torch.bool),
        }  # fmt: skip
        for compiled in (False, True):
            model = build_model(config, 0)
            model.recompute_stages = compiled
            objective = Objective(model, Recipe(epochs=1, batch=2))
            if compiled:
                objective.compile(fullgraph=True, backend="aot_eager")
            loss = objective(batch)
            loss.backward()
            found.append((loss.detach(), torch.cat([each.grad.ravel() for each in objective.parameters()])))
        for compiled, eager in zip(*reversed(found), strict=True):
            assert relative_error(compiled, eager) < 1e-3


TRITON = """
import torch
from mula_lib.kernels import channels_last, depthwise, depthwise_triton

for channels, height, width, size in ((8, 6, 5, 3), (40, 9, 7, 7), (33, 5, 5, 1)):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3)):
        shapes = (channels, height, width), (channels, height, width), (channels, size, size)
        upstream, features, kernels = (channels_last(torch.randn(2, *shape).to(dtype)) for shape in shapes)
        found = (
            depthwise_triton.convolve(features, kernels),
            depthwise_triton.convolve(upstream, channels_last(kernels.flip(2, 3))),
            depthwise_triton.correlate(upstream, features, size),
        )
        exact = features.double().requires_grad_(), kernels.double().requires_grad_()
        result = depthwise.reference(*exact)
        wanted = result, *torch.autograd.grad(result, exact, upstream.double())
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            assert (one.double() - other).norm() < tolerance * other.norm(), (channels, dtype)
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; PyTorch for CPUs comes without it")
def test_the_gpus_kernels_are_the_reference_in_tritons_interpreter():
    subprocess.run([sys.executable, "-c", TRITON], env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)
