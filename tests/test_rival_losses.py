"""Losses that are a system's idea: structure-sensitive weights, hard pixels, and two networks playing against each
other."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.models.losses import Targets, parsing_loss
from mula_lib.models.network import build_model
from mula_lib.models.rivals import pose as adversarial
from mula_lib.models.rivals.parsing import (
    hard_cross_entropy,
    image_cross_entropy,
    over_batch_mean,
    shuffled,
    structure_distance,
)
from mula_lib.models.rivals.pose import BALANCE, STEP
from workbook.experiments import SMOKE, find_experiment

GROUPS = LIP.structure_groups


def training_network(name):
    return build_model(find_experiment(name).model_config(SMOKE, LIP), 0).train()


def logits_of(ids, classes=20):
    """Logits of which ``ids`` are the arg max."""
    return 5 * F.one_hot(ids.long(), classes).permute(0, 3, 1, 2).float()


def test_structure_groups_are_the_nine_of_the_paper():
    assert GROUPS == ((1, 2, 4, 13), (5, 7, 11), (9, 12), (14,), (15,), (16,), (17,), (18,), (19,))
    assert PASCAL.structure_groups == ((1,), (2,), (3,), (4,), (5,), (6,))


def naive_distance(predicted, true, sigma):
    """Of one image, both at one size, cell by cell."""
    height, width = true.shape
    total = 0.0
    for group in GROUPS:
        maps = []
        for ids in (predicted, true):
            cells = [(y, x) for y in range(height) for x in range(width) if int(ids[y, x]) in group]
            drawn = torch.zeros(height, width)
            if cells:
                cy, cx = (sum(values) / len(cells) for values in zip(*cells, strict=True))
                for y in range(height):
                    for x in range(width):
                        exponent = -((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2)
                        drawn[y, x] = torch.tensor(exponent).exp() if exponent >= -4.6 else 0.0
            maps.append(drawn)
        total += float(((maps[0] - maps[1]) ** 2).mean())
    return total / len(GROUPS)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_structure_distance_is_that_of_gaussians_at_the_groups_centroids(seed):
    generator = torch.Generator().manual_seed(seed)
    predicted, true = torch.randint(0, 20, (2, 2, 9, 9), generator=generator, dtype=torch.uint8)
    found = structure_distance(logits_of(predicted), true, GROUPS)
    for image in range(2):
        # at 9 pixels and a stride of 1 sigma is 1.2 cells
        expected = naive_distance(predicted[image], true[image], 1.2)
        assert float(found[image]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_parts_in_their_places_weigh_nothing_and_ignored_or_unnamed_parts_take_no_part():
    def distance(predicted, true):
        return float(structure_distance(logits_of(predicted), true, GROUPS))

    true = torch.zeros(1, 16, 16, dtype=torch.uint8)
    true[0, 2:5, 3:6] = LIP.part("hair")
    assert distance(true, true) == 0
    dressed = true.clone()
    dressed[0, 8:12, 8:12] = LIP.part("dress")  # in no group
    ignored = true.clone()
    ignored[0, 8:12, 8:12] = 255
    assert distance(true, dressed) == distance(true, ignored) == 0
    assert distance(true.roll(6, dims=2), true) > distance(torch.zeros_like(true), true) > 0
    # where a part is matters, not which one of its group it is
    assert distance(torch.where(true > 0, LIP.part("hat"), 0), true) == 0


def test_coarse_logits_and_fine_masks_mean_the_same_places():
    fine = torch.zeros(1, 64, 64, dtype=torch.uint8)
    fine[0, 16:32, 8:24] = LIP.part("face")
    coarse = fine[:, ::8, ::8]
    assert float(structure_distance(logits_of(coarse), fine, GROUPS)) == pytest.approx(0, abs=1e-8)


def test_hard_pixels_are_the_worst_half_of_those_that_count():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 20, 8, 8, generator=generator)
    mask = torch.randint(0, 20, (2, 8, 8), generator=generator, dtype=torch.uint8)
    mask[1, :3] = 255
    for image, found in enumerate(hard_cross_entropy(logits, mask)):
        losses = sorted(
            (
                float(-logits[image, :, y, x].log_softmax(0)[int(mask[image, y, x])])
                for y in range(8) for x in range(8) if mask[image, y, x] != 255
            ),
            reverse=True,
        )  # fmt: skip
        half = losses[: round(len(losses) / 2)]
        assert float(found) == pytest.approx(sum(half) / len(half), rel=1e-5)


def test_each_image_has_a_mean_of_its_own_and_zero_without_pixels():
    logits, mask = torch.randn(3, 20, 4, 4).requires_grad_(), torch.randint(0, 20, (3, 16, 16), dtype=torch.uint8)
    mask[1, :5], mask[2] = 255, 255
    wanted = torch.stack([*(parsing_loss(logits[b : b + 1], mask[b : b + 1]) for b in range(2)), torch.zeros(())])
    found, weights = image_cross_entropy(logits, mask), torch.tensor([0.3, 2.0, 5.0])
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad((weights * each).sum(), logits)[0] for each in (found, wanted)]
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


def slope_of(model, outputs, loss):
    """The gradient of ``loss`` to the last output's logits."""
    (gradient,) = torch.autograd.grad(loss, outputs[-1].parsing, retain_graph=True)
    return gradient


@pytest.mark.parametrize("name", ["Attention+SSL", "Attention+SSL (mean 1)", "Attention+SSL (shuffled)"])
def test_ssls_weight_reaches_the_gradient(name, batch):
    model = training_network(name)
    outputs, truth = model(batch["image"]), Targets(batch, 100.0, 0.5)  # a mean over images needs no weight
    plain = slope_of(model, outputs, image_cross_entropy(outputs[-1].parsing, truth.mask).mean())
    weighted = slope_of(model, outputs, model.loss(outputs, truth))
    raw = structure_distance(outputs[-1].parsing, truth.mask, GROUPS)
    assert len(raw.unique()) > 1
    weights = {
        "Attention+SSL": raw,
        "Attention+SSL (mean 1)": raw / raw.mean(),
        "Attention+SSL (shuffled)": torch.stack([raw[3], raw[0], raw[1], raw[2]]),
    }[name]
    torch.testing.assert_close(weighted, plain * weights[:, None, None, None])
    assert not raw.requires_grad


def test_controls_of_the_weight():
    weights = torch.tensor([0.1, 0.0, 0.3])
    torch.testing.assert_close(over_batch_mean(weights), torch.tensor([0.75, 0.0, 2.25]))
    assert over_batch_mean(torch.zeros(3)).tolist() == [0, 0, 0]
    assert sorted(shuffled(weights).tolist()) == sorted(weights.tolist())
    assert (shuffled(weights) != weights).all()  # nobody keeps their own


def test_ss_nan_weighs_hard_pixels_by_structure(batch):
    model, truth = training_network("SS-NAN"), Targets(batch, 100.0, 0.5)
    outputs = model(batch["image"])
    logits = outputs[-1].parsing
    expected = structure_distance(logits, truth.mask, GROUPS) * hard_cross_entropy(logits, truth.mask)
    assert model.loss(outputs, truth).item() == pytest.approx(expected.mean().item())


def test_generator_and_discriminator_learn_from_their_own_losses(batch, monkeypatch):
    monkeypatch.setattr(adversarial, "GENERATOR_WEIGHT", 0.5)  # the real one is too small to be seen among roundings
    model = training_network("Adversarial hourglass")
    model.k.fill_(0.3)
    truth = Targets(batch, 100.0)

    def parts():
        maps = model(batch["image"])[-1].pose
        targets = truth.pose_targets(maps)
        image = F.adaptive_avg_pool2d(model.config.image(truth.images), maps.shape[-2:])
        real = F.mse_loss(model.discriminator(image, targets), targets)
        fake = F.mse_loss(model.discriminator(image, maps), maps)
        return F.mse_loss(maps, targets), real, fake

    mine = dict(model.named_parameters())
    judging = {name for name in mine if name.startswith("discriminator")}
    error, real, fake = parts()
    expected = {}
    for names, loss in ((set(mine) - judging, error + 0.5 * fake), (judging, real - 0.3 * fake)):
        slopes = torch.autograd.grad(100.0 * loss, [mine[name] for name in sorted(names)], retain_graph=True)
        expected |= dict(zip(sorted(names), slopes, strict=True))
    model.loss(model(batch["image"]), truth).backward()
    for name, parameter in mine.items():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5, msg=f"slope of {name}")


def test_k_moves_as_the_rule_says_and_stays_between_0_and_1(batch):
    model = training_network("Adversarial hourglass")
    assert float(model.k) == 0
    errors = []
    model.discriminator.register_forward_hook(lambda module, given, output: errors.append((given[1], output)))
    truth = Targets(batch, 100.0)
    for start in (0.0, 0.5, 0.99999999, 1.0):
        model.k.fill_(start)
        errors.clear()
        model.loss(model(batch["image"]), truth)
        real, fake = (F.mse_loss(output, maps).item() for maps, output in errors)
        k = min(1.0, max(0.0, start + STEP * (BALANCE * real - fake)))
        assert float(model.k) == pytest.approx(k, abs=1e-7)
    assert "k" in model.state_dict()  # so that a resumed run goes on with it
    model._update_k(torch.tensor(0.0), torch.tensor(1e6))
    assert float(model.k) == 0
    model._update_k(torch.tensor(1e6), torch.tensor(0.0))
    assert float(model.k) == 1
