"""The compared systems: what defines each one is there, and matters."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import ConfigError
from mula_lib.models.adaptation import AdaptationConfig
from mula_lib.models.interactions import AttentionAdapter
from mula_lib.models.losses import Targets
from mula_lib.models.network import ModelConfig, StageOutput, build_model, network_of, parameter_count
from mula_lib.models.rivals import SYSTEMS
from mula_lib.models.rivals import joint as pose_guided
from mula_lib.models.rivals.joint import draw_skeletons
from mula_lib.models.rivals.parsing import SCALES, scaled_rates
from mula_lib.training import Job, fit
from workbook.experiments import DEMO, EXPERIMENTS, PAPER, SMOKE, Recipe, find_experiment

RIVALS = [experiment for experiment in EXPERIMENTS if experiment.system]
POSE_ONLY = {"pose_machine", "pyramid", "adversarial"}
BOTH = {"jppnet", "cross_stitch", "pad_net", "pose_guided"}


def network(name, seed=0):
    """A system at smoke size, in evaluation mode."""
    return build_model(find_experiment(name).model_config(SMOKE, LIP), seed).eval()


def images(count=2, side=64, seed=0):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def doubled(maps):
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("name", ["DeepLabV2", "Attention", "SS-NAN", "JPPNet", "Cross-stitch", "PAD-Net"])
def test_a_system_on_the_vgg_trunk_has_the_baselines_context(name):
    model = build_model(find_experiment(name).model_config(replace(SMOKE, context=2), LIP), 0)
    trunk = [module for module in model.modules() if isinstance(module, nn.Conv2d)][:13]
    assert [layer.kernel_size[0] for layer in trunk] == [3] * 8 + [1, 1, 3, 1, 1]


def test_every_system_is_of_some_row_and_the_other_way_round():
    assert {experiment.system for experiment in RIVALS} == set(SYSTEMS)


@pytest.mark.parametrize("experiment", RIVALS, ids=lambda experiment: experiment.name)
def test_a_system_predicts_its_tasks_and_all_of_it_learns(experiment, batch):
    model = build_model(experiment.model_config(SMOKE, LIP), 0)
    outputs = model(batch["image"])
    for output in outputs:
        assert (output.parsing is None) == (experiment.system in POSE_ONLY)
        assert (output.pose is None) == (experiment.system not in POSE_ONLY | BOTH)
        assert output.offsets is None
    for maps, channels in ((outputs[-1].parsing, 20), (outputs[-1].pose, 16)):
        assert maps is None or maps.shape[:2] == (4, channels)
    model.loss(outputs, Targets(batch, 100.0)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", ["Attention+SSL", "SS-NAN"])
def test_systems_of_table_6_parse_crowds(name):
    output = build_model(find_experiment(name).model_config(SMOKE, PASCAL), 0).eval()(images())[-1]
    assert (output.parsing.shape[:2], output.pose) == ((2, 7), None)


def test_an_unknown_system_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown system 'fcn7s'; known: .*fcn8s"):
        network_of(ModelConfig("vgg", ("none",), 16, rival="fcn7s", crop=64))


def test_fcn8s_adds_the_scores_of_three_depths_from_coarse_to_fine():
    model, given = network("FCN-8s"), images()
    seen = {}
    for number, layer in enumerate(model.scores):
        layer.register_forward_hook(lambda module, _, output, number=number: seen.__setitem__(number, output))
    output = model(given)[-1].parsing
    assert [tuple(seen[number].shape[-2:]) for number in range(3)] == [(8, 8), (4, 4), (2, 2)]
    torch.testing.assert_close(output, seen[0] + doubled(seen[1] + doubled(seen[2])))


def test_segnet_puts_every_maximum_back_where_it_was():
    model = network("SegNet")
    for blocks in (model.encoder, model.decoder):
        for number in range(len(blocks)):
            blocks[number] = nn.Identity()
    model.classifier = nn.Identity()
    given = 255 * torch.rand(2, 3, 64, 64, generator=generator())
    image = model.config.image(given)
    expected = F.max_unpool2d(*F.max_pool2d(image, 32, return_indices=True), 32)  # five halvings at once
    assert expected.count_nonzero() == 2 * 3 * 4
    torch.testing.assert_close(model(given)[-1].parsing, expected)


def test_deeplabs_branches_look_as_far_as_their_rates():
    assert scaled_rates(256) == (6, 12, 18, 24)
    assert scaled_rates(96) == (2, 4, 7, 9)
    model = network("DeepLabV2")
    assert [branch[0].dilation for branch in model.branches] == [(rate, rate) for rate in scaled_rates(64)]
    outputs = model(images())[-1].parsing
    features = model.trunk(model.config.image(images()))
    torch.testing.assert_close(outputs, torch.stack([branch(features) for branch in model.branches]).sum(dim=0))


@pytest.mark.parametrize("name", ["Attention", "SS-NAN"])
def test_attention_weighs_the_scales_of_every_cell_by_shares_of_one(name):
    model, given = network(name), images()
    _, alike, weights = model.features(given)
    assert weights.shape == (2, len(SCALES), 8, 8)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 8, 8))
    assert weights.std(dim=(2, 3)).min() > 0  # not one share for the whole map
    *scores, fused = (output.parsing for output in model(given))
    if name == "SS-NAN":  # it sums features
        expected = model.classifier(sum(weights[:, s, None] * features for s, features in enumerate(alike)))
    else:
        assert [tuple(each.shape[-2:]) for each in scores] == [(8, 8), (6, 6), (4, 4)]
        expected = sum(
            weights[:, s, None] * F.interpolate(score, size=(8, 8), mode="bilinear", align_corners=False)
            for s, score in enumerate(scores)
        )
    torch.testing.assert_close(fused, expected)


def test_the_pyramid_refines_each_level_by_the_coarser_one():
    model, given = network("PSN-style"), images()
    x = model.stem(model.config.image(given))
    levels = []
    for number, block in enumerate(model.up):
        x = block(F.max_pool2d(x, 2) if number else x)
        levels.append(x)
    P = model.lateral[3](levels[3])
    H = [model.classifier[3](P)]
    for number in (2, 1, 0):
        P = model.lateral[number](levels[number]) + doubled(P)
        H.append(model.classifier[number](torch.cat([P, doubled(H[-1])], dim=1)) + doubled(H[-1]))
    for output, maps in zip(model(given), H, strict=True):
        enlarged = F.interpolate(maps, size=(16, 16), mode="bilinear", align_corners=False)
        torch.testing.assert_close(output.pose, enlarged)


def test_the_pose_machine_reads_its_own_maps_again_and_is_averaged_with_the_hourglass():
    model, given = network("HG + CPM"), images()
    *machine, hourglass, mean = (output.pose for output in model(given))
    torch.testing.assert_close(mean, (machine[-1] + hourglass) / 2)
    assert [stage[0].in_channels - model.config.width for stage in model.machine.stages] == [0, 16, 16]
    with torch.no_grad():
        model.machine.stages[0][-1].bias += 1  # other maps from the first stage ...
    *changed, same, _ = (output.pose for output in model(given))
    assert not torch.allclose(changed[-1], machine[-1])  # ... change what the third one says
    torch.testing.assert_close(same, hourglass)


def test_jppnet_refines_each_task_by_the_maps_of_both():
    model, given = network("JPPNet"), images()
    before = model(given)
    assert len(before) == 3
    with torch.no_grad():
        model.pose_classifier.bias += 1  # other first joint maps
    after = model(given)
    torch.testing.assert_close(after[0].parsing, before[0].parsing)
    for number in (1, 2):
        assert not torch.allclose(after[number].parsing, before[number].parsing)
        assert not torch.allclose(after[number].pose, before[number].pose)


def test_cross_stitch_without_exchange_is_two_single_networks():
    stitched, single, given = network("Cross-stitch"), network("VGG16-FCN", seed=1), images()
    for task in ("parsing", "pose"):
        branch = getattr(single, task)
        convolutions = [layer for block in getattr(stitched, task) for layer in block]
        for mine, other in zip(convolutions, branch.encoder[0].layers, strict=True):
            mine.load_state_dict(other.state_dict())
        getattr(stitched, f"{task}_classifier").load_state_dict(branch.classifier[0].state_dict())
    assert not torch.allclose(stitched(given)[-1].pose, single(given)[-1].pose)
    with torch.no_grad():
        for unit in stitched.stitches:
            assert unit.shares[0, 0].unique().item() == pytest.approx(0.9)
            assert unit.shares[1, 0].unique().item() == pytest.approx(0.1)
            unit.shares.copy_(torch.eye(2)[..., None].expand_as(unit.shares))
    for mine, other in zip(stitched(given)[-1][:2], single(given)[-1][:2], strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", ["Cross-stitch", "Cross-stitch (last layer)"])
def test_the_shares_of_cross_stitch_learn_ten_times_as_fast(name, source, tmp_path):
    model = network(name)
    usual, fast = model.parameter_groups()
    assert (usual["rate"], fast["rate"]) == (1.0, 10.0)
    assert {id(each) for each in fast["params"]} == {id(p) for n, p in model.named_parameters() if "shares" in n}
    assert len(usual["params"]) + len(fast["params"]) == len(list(model.parameters()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples = TrainingSamples(replace(source.train, records=source.train.records[:4]), 64, Augmentation(), LIP, 0)
    fit(model, samples, Recipe(epochs=1, batch=4, learning_rate=1e-3), Job(tmp_path, "x"))
    # RMSProp's first step is ten times the rate for every weight with a slope
    moved = {name: (model.state_dict()[name] - before[name]).abs().max().item() for name in before}
    for name, _ in model.named_parameters():
        assert moved[name] == pytest.approx(0.1 if "shares" in name else 0.01, rel=0.05), name


def test_pad_nets_messages_are_gated_cell_by_cell():
    model, control, given = network("PAD-Net"), network("PAD-Net (no messages)"), images()
    unit = model.interaction.to_parsing
    seen = torch.rand(2, 16, 8, 8, generator=generator())
    own = torch.rand(2, 16, 8, 8, generator=generator(2))
    torch.testing.assert_close(unit(own, seen), own + torch.sigmoid(unit.gate(seen)) * unit.message(seen))
    r_parsing, r_pose = torch.rand(2, 2, 16, 8, 8, generator=generator(1))
    refined, _ = model.interaction(r_parsing, r_pose)
    torch.testing.assert_close(refined, unit(r_parsing, r_pose))
    assert [len(each(given)) for each in (model, control)] == [2, 2]
    control.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("interaction")})
    torch.testing.assert_close(model(given)[0].parsing, control(given)[0].parsing)  # first predictions: alike
    assert not torch.allclose(model(given)[1].parsing, control(given)[1].parsing)


def test_cross_attention_starts_as_nothing_and_is_attention_by_the_book():
    adapter = AttentionAdapter(8, AdaptationConfig())
    adapter.reset_start()
    tokens = []
    adapter.key_and_value.register_forward_hook(lambda module, given, output: tokens.append(given[0].shape))
    adapter(*torch.randn(2, 1, 8, 40, 36, generator=generator()))
    assert tokens == [(1, 8, 16, 16)]  # larger maps are pooled
    features, guidance = torch.randn(2, 2, 8, 6, 5, generator=generator())
    torch.testing.assert_close(adapter(features, guidance), features)
    nn.init.normal_(adapter.output.weight, generator=generator(1))
    found = adapter(features, guidance)
    query, (key, value) = adapter.query(features), adapter.key_and_value(guidance).split(8, dim=1)
    for b, y, x in [(0, 0, 0), (1, 3, 2), (1, 5, 4)]:
        mixed = []
        for head in range(4):
            mine = slice(2 * head, 2 * head + 2)
            q, keys, values = query[b, mine, y, x], key[b, mine].flatten(1), value[b, mine].flatten(1)
            shares = torch.softmax(q @ keys / 2**0.5, dim=0)
            mixed.append(values @ shares)
        expected = features[b, :, y, x] + adapter.output(torch.cat(mixed)[None, :, None, None])[0, :, 0, 0]
        torch.testing.assert_close(found[b, :, y, x], expected)


def test_the_widened_baseline_has_mulas_number_of_parameters_at_the_papers_size_and_fewer_in_the_demo():
    names = "VGG16-FCN", "VGG16-FCN (widened)", "VGG16-FCN-MuLA"
    (baseline, widened, mula), (_, wide, full) = (
        [parameter_count(network_of(find_experiment(name).model_config(size, LIP))) for name in names]
        for size in (DEMO, PAPER)
    )
    assert wide == pytest.approx(full, rel=0.05)
    assert 1.4 * baseline < widened < mula


def test_skeletons_are_drawn_as_gaussians_around_joints_and_limbs():
    pose = torch.zeros(1, 16, 9, 9)
    places = {name: (2 + index % 6, 1 + index // 3) for index, name in enumerate(LIP.joints)}  # column, row
    for index, name in enumerate(LIP.joints):
        pose[0, index, places[name][1], places[name][0]] = 1
    drawn = draw_skeletons(StageOutput(None, pose), LIP)[0]
    assert drawn.shape == (16 + len(LIP.limbs), 9, 9)
    for channel, (a, b) in enumerate([*((name, name) for name in LIP.joints), *LIP.limbs]):
        start, end = torch.tensor(places[a]).float(), torch.tensor(places[b]).float()
        line = torch.stack([start + share * (end - start) for share in torch.linspace(0, 1, 2001)])
        for row, column in [(0, 0), (4, 4), (8, 2), (places[a][1], places[a][0])]:
            apart = (line - torch.tensor([column, row])).square().sum(dim=1).min()
            assert float(drawn[channel, row, column]) == pytest.approx(float((-apart / 2.88).exp()), abs=2e-3)


def test_people_without_a_joint_lack_its_drawing_and_nobody_is_drawn_where_nobody_was_found():
    nobody = StageOutput(None, torch.zeros(2, 14, 8, 8), torch.zeros(2, 28, 8, 8))
    assert draw_skeletons(nobody, PASCAL).count_nonzero() == 0
    pose, offsets = torch.zeros(1, 14, 16, 16), torch.zeros(1, 28, 16, 16)
    shown = [PASCAL.joint(name) for name in ("forehead", "neck", "left_hip", "left_knee", "right_hip")]
    for number, index in enumerate(shown):
        pose[0, index, 3 + 2 * number, 8] = 1.0
        offsets[0, 14 + index, 3 + 2 * number, 8] = (7 - (3 + 2 * number)) / 8  # all point at row 7
    drawn = draw_skeletons(StageOutput(None, pose, offsets), PASCAL)[0]
    assert [bool(each.any()) for each in drawn[:14]] == [index in shown for index in range(14)]
    both_ends = [a in shown and b in shown for a, b in PASCAL.limb_indices]
    assert any(both_ends)
    assert [bool(each.any()) for each in drawn[14:]] == both_ends


def test_refined_parts_depend_on_the_drawn_skeleton(monkeypatch):
    model, given = network("Pose-guided refinement"), images()
    first, refined = model(given)
    torch.testing.assert_close(first.pose, refined.pose)
    monkeypatch.setattr(pose_guided, "draw_skeletons", lambda output, anatomy: torch.zeros(2, 31, 16, 16))
    blind, changed = model(given)
    torch.testing.assert_close(blind.parsing, first.parsing)
    assert not torch.allclose(changed.parsing, refined.parsing)
