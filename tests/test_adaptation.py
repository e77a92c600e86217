"""The dynamic convolution and the adapter, against Eq. 6 multiplied out and the paper's own layer list."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mula_lib.files import ConfigError
from mula_lib.models.adaptation import AdaptationConfig, DynamicConv2d, ParameterAdapter, dynamic_depthwise
from mula_lib.models.interactions import INTERACTIONS, build_interaction


@pytest.mark.parametrize(("side", "kernel_size"), [(64, 7), (32, 3)])
def test_on_the_papers_sizes_the_adapter_is_the_published_layer_list(side, kernel_size):
    adapter = ParameterAdapter(4, AdaptationConfig(kernel_size, plain_start=True, unit_kernels=False))
    published = nn.Sequential(adapter.conv1, nn.MaxPool2d(2), adapter.conv2, nn.MaxPool2d(2), adapter.conv3)
    guidance = torch.randn(2, 4, side, side)
    expected = published(guidance)
    assert expected.shape == (2, 4, kernel_size, kernel_size)
    torch.testing.assert_close(adapter(guidance), expected)


@pytest.mark.parametrize("side", [6, 12, 24, 31, 96])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_the_adapter_gives_h_by_h_kernels_on_any_feature_map(side, kernel_size):
    kernels = ParameterAdapter(2, AdaptationConfig(kernel_size))(torch.randn(1, 2, side, side + 2))
    assert kernels.shape == (1, 2, kernel_size, kernel_size)


def test_adapted_kernels_start_as_the_identity_for_every_sample():
    interaction = build_interaction("adapt", 8, AdaptationConfig(kernel_size=5))
    for direction in (interaction.to_parsing, interaction.to_pose):
        direction.adapter.reset_start()
        features, guidance = torch.randn(2, 3, 8, 16, 16)
        kernels = direction.adapter(guidance)
        torch.testing.assert_close(dynamic_depthwise(features, kernels), features)


def test_unit_kernels_have_unit_norm_in_every_channel():
    kernels = ParameterAdapter(8, AdaptationConfig(3, plain_start=True))(torch.randn(2, 8, 16, 16))
    torch.testing.assert_close(kernels.flatten(2).norm(dim=2), torch.ones(2, 8))
    assert (kernels[0] - kernels[1]).abs().max() > 1e-3  # each image has its own


def test_dynamic_convolution_is_eq_6_per_sample():
    """U ⊗ ψ̃ ⊗c V ⊗ R, multiplied out into one dense kernel a sample and applied by an ordinary convolution."""
    layer = DynamicConv2d(4, AdaptationConfig(norm="none"))
    features, kernels = torch.randn(3, 4, 9, 9), torch.randn(3, 4, 3, 3)
    u, v = layer.U.weight[:, :, 0, 0], layer.V.weight[:, :, 0, 0]
    nn.init.zeros_(layer.V.bias)  # a bias before the border's zero padding does not fold into one kernel
    for sample in range(3):
        dense = torch.einsum("om,mhw,mi->oihw", u, kernels[sample], v)
        expected = F.conv2d(features[sample : sample + 1], dense, layer.U.bias, padding=1)
        actual = layer(features[sample : sample + 1], kernels[sample : sample + 1])
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_kernel_depends_on_the_other_tasks_features_only_and_self_exchanges_nothing():
    plain = AdaptationConfig(kernel_size=3, plain_start=True, norm="none")
    interaction = build_interaction("adapt", 8, plain)
    r_parsing, r_pose, other = torch.randn(3, 1, 8, 16, 16)
    refined, _ = interaction(r_parsing, r_pose)
    changed, _ = interaction(r_parsing, other)
    assert not torch.allclose(refined, changed)
    one_way = build_interaction("adapt_to_pose", 8, plain)
    untouched, refined_pose = one_way(r_parsing, r_pose)
    assert untouched is r_parsing
    assert not torch.allclose(refined_pose, r_pose)
    alone = build_interaction("self_residual", 8, AdaptationConfig(kernel_size=3))
    torch.testing.assert_close(alone(r_parsing, r_pose)[0], alone(r_parsing, other)[0])


def test_self_starts_where_mula_starts():
    config = AdaptationConfig(kernel_size=3, norm="none")
    static, mutual = build_interaction("self_residual", 8, config), build_interaction("adapt", 8, config)
    static.parsing.reset_start()
    mutual.to_parsing.adapter.reset_start()
    for name in ("U", "V"):
        getattr(static.parsing, name).load_state_dict(getattr(mutual.to_parsing.dynamic, name).state_dict())
    nn.init.zeros_(static.parsing.depthwise.bias)
    r_parsing, r_pose = torch.randn(2, 2, 8, 16, 16)
    torch.testing.assert_close(static(r_parsing, r_pose)[0], mutual(r_parsing, r_pose)[0])


def test_direct_fusions_are_what_their_names_say():
    a, b = torch.randn(2, 1, 4, 3, 3)
    names = ("none", "add", "multiply", "concat")
    fused = {name: build_interaction(name, 4, AdaptationConfig())(a, b) for name in names}
    assert fused["none"] == (a, b)
    torch.testing.assert_close(fused["add"][0], a + b)
    torch.testing.assert_close(fused["multiply"][1], a * b)
    torch.testing.assert_close(fused["concat"][0], torch.cat([a, b], 1))


@pytest.mark.parametrize("name", INTERACTIONS)
def test_every_interaction_says_how_many_channels_it_returns(name):
    interaction = build_interaction(name, 8, AdaptationConfig(kernel_size=3))
    for refined in interaction(*torch.randn(2, 1, 8, 16, 16)):
        assert refined.shape == (1, interaction.out_channels, 16, 16)


def test_unknown_norms_and_even_kernels_are_refused():
    with pytest.raises(ConfigError, match=r"'batch'.*bn_relu"):
        AdaptationConfig(norm="batch")
    with pytest.raises(ConfigError, match="odd"):
        AdaptationConfig(kernel_size=4)


def test_batch_normalised_adaptation_starts_by_changing_nothing_and_can_leave_that_start():
    interaction = build_interaction("adapt", 8, AdaptationConfig(kernel_size=3, norm="bn"))
    r_parsing, r_pose = torch.randn(2, 2, 8, 16, 16)
    refined_parsing, refined_pose = interaction(r_parsing, r_pose)
    torch.testing.assert_close(refined_parsing, r_parsing)
    torch.testing.assert_close(refined_pose, r_pose)
    (refined_pose * torch.randn_like(refined_pose)).sum().backward()
    assert interaction.to_pose.dynamic.close[0].weight.grad.abs().max() > 0
