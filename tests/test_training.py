"""The training loop: Eq. 4 counted by hand, the paper's schedule, and runs that survive being killed."""

import itertools
import multiprocessing
import signal
import time
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from mula_lib import training
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from mula_lib.files import CheckpointError
from mula_lib.models.network import build_model
from mula_lib.training import EpochBatches, Job, Recipe, fit

RECIPE = Recipe(epochs=4, batch=8, drop_at=())
STEPS = 3  # an epoch of the fixture


@pytest.fixture
def fresh(make_run):
    """The same small network, as often as it is called."""
    config = make_run("VGG16-FCN-MuLA").model_config
    return lambda: build_model(config, 0)


def assert_same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_batch_without_an_annotated_pixel_or_joint_has_a_finite_gradient(fresh):
    nothing = {
        "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        "mask": torch.full((2, 64, 64), 255, dtype=torch.uint8),
        "joints": torch.full((2, 16, 2), float("nan")),
        "present": torch.zeros(2, 16, dtype=torch.bool),
    }
    model = fresh()
    loss = training.Objective(model, RECIPE)(nothing)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert (model.parsing.classifier[0].weight.grad == 0).all()


def test_the_warm_up_rises_linearly_and_a_cosine_falls_to_zero():
    recipe = Recipe(epochs=10, batch=1, learning_rate=1.0, warmup=0.1)
    assert [recipe.learning_rate_at(step, 10) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    cosine = replace(recipe, schedule="cosine")
    assert [cosine.learning_rate_at(step, 10) for step in (4, 10, 55, 100)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own():
    first, again, second = (list(EpochBatches(12, 4, 0, epoch)) for epoch in (1, 1, 2))
    assert sorted(index for batch in first for _, index in batch) == list(range(12))
    assert first == again
    assert [i for b in first for _, i in b] != [i for b in second for _, i in b]
    assert len(list(EpochBatches(13, 4, 0))) == len(EpochBatches(13, 4, 0)) == 3  # the short last batch is dropped
    assert len(list(EpochBatches(3, 24, 0))) == 1  # unless there is no other


def test_a_killed_run_ends_with_the_same_weights_and_scores(make_run, tmp_path):
    """SIGKILL in the middle of the second epoch; this process finishes what is left."""
    undisturbed = make_run()
    expected = undisturbed.do()
    killed = replace(undisturbed, base=tmp_path / "killed")
    log = killed.folder / "log.jsonl"
    process = multiprocessing.get_context("spawn").Process(target=killed.do)
    process.start()
    while not (log.is_file() and log.read_text()) and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = killed.do()
    logged = {"epoch", "loss", "learning_rate", "gradient_norm", "seconds", "PCK", "mIoU"}
    assert set(resumed.metrics["log"][0]) == logged
    assert_same_weights(expected.model(), resumed.model())
    assert resumed.scores == pytest.approx(expected.scores, nan_ok=True, abs=0)
    assert [line["loss"] for line in resumed.metrics["log"]] == [line["loss"] for line in expected.metrics["log"]]


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("VGG16-FCN-MuLA", Recipe(epochs=3, batch=8, drop_at=(0.5,))),
        ("VGG16-FCN-MuLA", Recipe(epochs=3, batch=8, optimizer="adamw")),
        ("Attention", Recipe(epochs=3, batch=8)),
    ],
    ids=["RMSProp", "AdamW", "dropout"],
)
def test_a_run_interrupted_inside_every_epoch_ends_with_bit_identical_weights(
    samples, make_run, name, recipe, tmp_path
):
    config = make_run(name).model_config

    def fresh():
        torch.rand(7)  # whatever else draws
        return build_model(config, 0)

    undisturbed = fresh()
    fit(undisturbed, samples, recipe, Job(tmp_path / "undisturbed", "x"))

    class Faulty(TrainingSamples):
        """Raises once in each epoch, in the middle of it."""

        raised: ClassVar[set] = set()

        def __getitem__(self, key):
            if key[0] not in self.raised and key[1] == 7:
                self.raised.add(key[0])
                raise KeyboardInterrupt
            return super().__getitem__(key)

    faulty = Faulty(samples.split, 64, Augmentation(), samples.anatomy, 0)
    for _ in range(recipe.epochs):
        with pytest.raises(KeyboardInterrupt):
            fit(fresh(), faulty, recipe, Job(tmp_path / "sat", "x"))
    resumed = fresh()
    fit(resumed, faulty, recipe, Job(tmp_path / "sat", "x"))
    assert_same_weights(undisturbed, resumed)


def test_seeds_give_different_networks_and_building_one_touches_no_generator(make_run):
    config = make_run().model_config
    before = torch.random.get_rng_state()
    first, again, other = build_model(config, 0), build_model(config, 0), build_model(config, 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same_weights(first, again)
    assert not torch.equal(first.pose.classifier[0].weight, other.pose.classifier[0].weight)


def test_a_checkpoint_of_another_run_is_refused_and_kept(samples, fresh, tmp_path):
    recipe, path = replace(RECIPE, epochs=1), tmp_path / "last.ckpt"
    fit(fresh(), samples, recipe, Job(tmp_path, "one"))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: belongs to a run of another configuration"):
        fit(fresh(), samples, recipe, Job(tmp_path, "two"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("real", [True, False])
def test_bf16_is_used_where_it_is_real_and_the_history_says_so(samples, fresh, tmp_path, monkeypatch, real):
    monkeypatch.setattr(training, "has_bf16", lambda device: real)
    recipe = replace(RECIPE, warmup=0.2, bf16=True)
    model, plain = fresh(), fresh()
    history = fit(model, samples, recipe, Job(tmp_path / "asked", "x"))
    fit(plain, samples, replace(recipe, bf16=False), Job(tmp_path / "plain", "x"))
    assert history.precision == ("bfloat16" if real else "float32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert history.log[-1]["loss"] < history.log[0]["loss"]
    same = [torch.equal(*pair) for pair in zip(model.parameters(), plain.parameters(), strict=True)]
    assert all(same) is not real


@pytest.fixture
def spoil(monkeypatch):
    """Makes every step from the given one on end in weights of the given value, and if asked in such a loss too."""

    def spoil(first_step, value, *, loss_too=True):
        steps, original = itertools.count(), training.update

        def update(objective, *rest):
            loss, norm = original(objective, *rest)
            if next(steps) < first_step:
                return loss, norm
            with torch.no_grad():
                for parameter in objective.parameters():
                    parameter.fill_(value)
            return torch.full_like(loss, value) if loss_too else loss, norm

        monkeypatch.setattr(training, "update", update)

    return spoil


@pytest.mark.parametrize(
    ("first_step", "value", "loss_too", "whole_epochs", "why"),
    [
        (2 * STEPS, float("nan"), True, 2, "loss nan"),
        (2 * STEPS, float("inf"), True, 2, "loss inf"),
        (2 * STEPS, 1e9, True, 2, "loss 1e+09"),
        (1, float("nan"), True, 0, "loss nan"),  # at once: left as it began
        (3 * STEPS - 1, float("nan"), False, 2, "weights that are not finite"),  # the last update shows in no loss
    ],
)
def test_a_diverging_run_ends_as_it_was_before(
    samples, fresh, tmp_path, spoil, first_step, value, loss_too, whole_epochs, why
):
    expected, model = fresh(), fresh()
    fit(expected, samples, replace(RECIPE, epochs=whole_epochs), Job(tmp_path / "whole", "x"))
    spoil(first_step, value, loss_too=loss_too)
    history = fit(model, samples, RECIPE, Job(tmp_path / "diverged", "x"))
    assert history.trouble == f"diverged in epoch {whole_epochs + 1} of 4 ({why}); tested as before it"
    assert [line["epoch"] for line in history.log] == list(range(1, whole_epochs + 1))
    assert_same_weights(expected, model)


def test_a_row_says_that_its_training_diverged(make_run, spoil):
    spoil(2 * STEPS, float("nan"))
    result = make_run(recipe=replace(make_run().recipe, epochs=5)).do()
    assert result.note.startswith("diverged in epoch 3 of 5 (loss nan)")
    assert result.scores["PixelAcc"] > 0
    assert not (result.folder / "last.ckpt").exists()
    assert result.do().note == result.note
