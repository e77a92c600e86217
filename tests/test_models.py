"""The joint model: shapes at any size, the paper's parameter counts, and what each row of the tables wires up."""

import json
from dataclasses import replace

import pytest
import torch

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.files import ConfigError
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.joint import JointModel
from mula_lib.models.network import ImageConvention, ModelConfig
from mula_lib.models.vgg import VGG16Encoder
from workbook.experiments import EXPERIMENTS, SMOKE, find_experiment
from workbook.tables import table_experiments


def tiny(backbone="hourglass", interactions=("adapt",), **changes):
    return ModelConfig(backbone, interactions, 16, adaptation=AdaptationConfig(kernel_size=3), **changes)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


JOINT_MODELS = [experiment for experiment in EXPERIMENTS if experiment.system is None]


@pytest.mark.parametrize("experiment", JOINT_MODELS, ids=lambda experiment: experiment.name)
def test_every_row_of_the_tables_predicts_parts_and_joints_at_every_stage(experiment):
    config = experiment.model_config(SMOKE, LIP)
    outputs = JointModel(config)(torch.zeros(2, 3, 64, 48))
    assert len(outputs) == config.stages
    for stage in outputs:
        assert stage.parsing.shape == (2, 20, 64 // config.stride, 48 // config.stride)
        assert stage.pose.shape == (2, 16, 64 // config.stride, 48 // config.stride)
        assert stage.offsets is None


@pytest.mark.parametrize("experiment", table_experiments(5), ids=lambda experiment: experiment.name)
def test_with_several_people_every_stage_of_the_same_network_regresses_offsets_too(experiment):
    single, crowd = (experiment.model_config(SMOKE, anatomy) for anatomy in (LIP, PASCAL))
    assert replace(crowd, parts=20, joints=16, offsets=False, anatomy="LIP") == single
    for stage in JointModel(crowd)(torch.zeros(2, 3, 64, 64)):
        assert [each.shape[1] for each in stage] == [7, 14, 28]
        assert stage.offsets.shape[-2:] == stage.pose.shape[-2:]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_configuration_survives_json(experiment):
    for anatomy in (LIP, PASCAL):
        config = experiment.model_config(SMOKE, anatomy)
        assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("side", [32, 40, 100])
@pytest.mark.parametrize("backbone", ["vgg", "hourglass"])
def test_any_crop_size_passes(side, backbone):
    config = tiny(backbone)
    side -= side % config.stride
    output = JointModel(config).eval()(torch.zeros(1, 3, side, side))[-1]
    assert output.pose.shape[-2:] == (side // config.stride, side // config.stride)


def test_vgg_at_the_papers_width_has_the_parameters_of_vgg16s_convolutions():
    assert count(VGG16Encoder(512)) == 14_714_688


@pytest.mark.parametrize(
    ("backbone", "width", "kernel_size", "cells", "extra"),
    [
        # for each task: U, V with biases, the three convolutions of the adapter, the base kernels, the closing BN
        ("vgg", 512, 3, 32, 2 * (2 * (512**2 + 512) + 3 * (9 * 512**2 + 512) + 512 * 9 + 2 * 512)),
        ("hourglass", 256, 7, 64, 2 * (2 * (256**2 + 256) + 3 * (9 * 256**2 + 256) + 256 * 49 + 2 * 256)),
    ],
)
def test_at_256_and_full_width_mula_has_the_papers_shapes_and_the_expected_extra_parameters(
    backbone, width, kernel_size, cells, extra
):
    adaptation = AdaptationConfig(kernel_size)
    mula = JointModel(ModelConfig(backbone, ("adapt",), width, adaptation=adaptation)).eval()
    plain = JointModel(ModelConfig(backbone, ("none",), width, adaptation=adaptation))
    assert count(mula) - count(plain) == extra
    with torch.inference_mode():
        image = torch.zeros(1, 3, 256, 256)
        output = mula(image)[0]
        assert output.parsing.shape == (1, 20, cells, cells)
        assert output.pose.shape == (1, 16, cells, cells)
        r_parsing = mula.parsing.encoder[0](mula.parsing.stem(image))
        assert mula.interaction[0].to_pose.adapter(r_parsing).shape == (1, width, kernel_size, kernel_size)


def test_multi_task_learning_shares_one_encoder():
    independent, shared = JointModel(tiny("vgg", ("none",))), JointModel(tiny("vgg", ("none",), shared_encoder=True))
    assert count(independent) - count(shared) == count(independent.pose.encoder)
    assert not any(name.startswith("pose.encoder") for name in shared.state_dict())


def test_independent_networks_do_not_share_gradients():
    model = JointModel(tiny("hourglass", ("none",) * 2))
    model(torch.rand(2, 3, 64, 64) * 255)[-1].pose.sum().backward()
    assert all(p.grad is None for p in model.parsing.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.pose.encoder[0].parameters())


def test_mutual_adaptation_lets_each_task_learn_from_the_others_loss():
    model = JointModel(tiny("hourglass", ("adapt",)))
    # R* and the predicted difference start at zero: gradients reach the other encoder once both have moved
    for direction in (model.interaction[0].to_parsing, model.interaction[0].to_pose):
        torch.nn.init.normal_(direction.adapter.conv3.weight, std=0.1)
        torch.nn.init.ones_(direction.dynamic.close[0].weight)
    model(torch.rand(2, 3, 64, 64) * 255)[-1].pose.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parsing.encoder.parameters())


def test_adapting_the_first_stage_only_leaves_the_second_without_an_adapter():
    first = JointModel(find_experiment("HG-2s-1u-MuLA (1st Stage)").model_config(SMOKE, LIP))
    second = JointModel(find_experiment("HG-2s-1u-MuLA (2nd Stage)").model_config(SMOKE, LIP))
    assert [count(i) > 0 for i in first.interaction] == [True, False]
    assert [count(i) > 0 for i in second.interaction] == [False, True]


def test_the_model_brings_uint8_and_float_images_into_its_own_convention():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    ours, released = ImageConvention(), ImageConvention(order="BGR", std=1.0)
    torch.testing.assert_close(ours(images), (images.float() / 255 - 0.5) / 0.25)
    torch.testing.assert_close(ours(images), ours(images.float()))
    torch.testing.assert_close(released(images), images.flip(1).float() / 255 - 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet"}, "resnet"),
        ({"interactions": ()}, "at least one stage"),
        ({"width": 20}, "multiple of 8"),
        ({"backbone": "vgg", "interactions": ("none",) * 2}, "one stage"),
        ({"interactions": ("adapt",), "shared_encoder": True}, "MTL"),
        ({"interactions": ("adept",)}, "adept"),
    ],
)
def test_impossible_networks_are_refused_in_a_line(changes, message):
    values = {"backbone": "hourglass", "interactions": ("none",), "width": 16} | changes
    with pytest.raises(ConfigError, match=message):
        JointModel(ModelConfig(**values))


def test_recomputed_stages_give_the_same_gradients_and_statistics():
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = JointModel(ModelConfig("hourglass", ("adapt", "adapt"), 8, adaptation=AdaptationConfig(3)))
        model.recompute_stages = recompute
        outputs = model(images)
        sum(each.square().sum() for stage in outputs for each in (stage.parsing, stage.pose)).backward()
        found.append((model, [parameter.grad for parameter in model.parameters()]))
    (once, gradients), (again, recomputed) = found
    torch.testing.assert_close(recomputed, gradients)
    torch.testing.assert_close(dict(again.named_buffers()), dict(once.named_buffers()))  # each batch counted once
    assert all(norm.momentum == 0.1 for norm in again.modules() if isinstance(norm, torch.nn.BatchNorm2d))
