"""The training loop: Eq. 4 counted by hand, the paper's schedule, and runs that survive being killed."""

import itertools
import json
import signal
import time
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from mula_lib import training
from mula_lib.data.augment import Augmentation
from mula_lib.data.samples import TrainingSamples
from mula_lib.data.targets import gaussian_heatmaps, heatmap_sigma
from mula_lib.files import CheckpointError
from mula_lib.models.losses import Targets, supervise
from mula_lib.models.network import StageOutput, build_model
from mula_lib.training import EpochBatches, fit
from workbook.profiles import PAPER_EPOCHS, Recipe
from workbook.results import build_table
from workbook.runs import do_run


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


def test_the_learning_rate_halves_at_the_papers_shares_of_the_epochs():
    recipe = Recipe(epochs=PAPER_EPOCHS, batch=1)
    rates = [recipe.learning_rate_at(epoch * 10, 10) for epoch in (0, 149, 150, 169, 170, 200, 230, 249)]
    base = recipe.learning_rate
    assert rates == pytest.approx([base * f for f in (1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16)])


def test_the_warm_up_rises_linearly_from_near_zero():
    recipe = Recipe(epochs=10, batch=1, learning_rate=1.0, warmup=0.1)
    assert [recipe.learning_rate_at(step, 10) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own():
    first, again, second = (list(EpochBatches(12, 4, 0, epoch)) for epoch in (1, 1, 2))
    assert sorted(index for batch in first for _, index in batch) == list(range(12))
    assert first == again
    assert [i for b in first for _, i in b] != [i for b in second for _, i in b]
    assert len(list(EpochBatches(13, 4, 0, 0))) == 3  # the short last batch is dropped
    assert len(list(EpochBatches(3, 24, 0, 0))) == 1  # unless there is no other


def test_training_lowers_the_loss_and_writes_a_line_an_epoch(make_run, tiny_profile):
    run = make_run(recipe=replace(tiny_profile.recipe, epochs=8))
    do_run(run)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert {"loss", "seconds", "PCK", "mIoU"} <= lines[0].keys()


def assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_run_killed_again_and_again_ends_with_the_same_weights_and_metrics(make_run, do_run_elsewhere, tmp_path):
    """SIGKILL at arbitrary moments; the last sitting finishes what is left."""
    undisturbed = make_run()
    expected = do_run(undisturbed)
    killed = replace(undisturbed, base=tmp_path / "killed")
    log = killed.folder / "log.jsonl"
    kills = 0
    for epochs_before_the_kill in (1, 2):
        process = do_run_elsewhere(killed.base)
        process.stdin.close()
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(log.read_text().splitlines()) >= epochs_before_the_kill:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
    assert kills >= 1
    resumed = do_run(killed)
    assert_same_tensors(expected.model().state_dict(), resumed.model().state_dict())
    assert resumed.scores == pytest.approx(expected.scores, nan_ok=True, abs=0)
    assert [line["loss"] for line in resumed.log()] == [line["loss"] for line in expected.log()]


class Interruption(Exception):
    pass


def test_a_run_interrupted_inside_every_epoch_ends_with_bit_identical_weights(source, make_run, tmp_path):
    config = make_run("VGG16-FCN-MuLA").model_config
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    recipe = Recipe(epochs=3, batch=8, drop_at=(0.5,))
    undisturbed = build_model(config, 0)
    fit(undisturbed, samples, recipe, tmp_path / "undisturbed", fingerprint="x", seed=0)

    class Faulty(TrainingSamples):
        """Raises once in each epoch, in the middle of it."""

        raised: ClassVar[set] = set()

        def __getitem__(self, key):
            if key[0] not in self.raised and key[1] == 7:
                self.raised.add(key[0])
                raise Interruption
            return super().__getitem__(key)

    faulty = Faulty(source.train, 64, Augmentation(), source.anatomy, 0)
    for _ in range(recipe.epochs):
        with pytest.raises(Interruption):
            fit(build_model(config, 0), faulty, recipe, tmp_path / "sat", fingerprint="x", seed=0)
    resumed = build_model(config, 0)
    fit(resumed, faulty, recipe, tmp_path / "sat", fingerprint="x", seed=0)
    assert_same_tensors(undisturbed.state_dict(), resumed.state_dict())


def test_weights_do_not_depend_on_the_number_of_workers_or_threads(source, make_run, tmp_path):
    config = make_run().model_config
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    models = []
    threads_before = torch.get_num_threads()
    for workers, threads in ((0, 1), (2, 2)):
        torch.set_num_threads(threads)
        model = build_model(config, 0)
        recipe = Recipe(epochs=1, batch=8)
        fit(model, samples, recipe, tmp_path / str(workers), fingerprint="x", seed=0, workers=workers)
        models.append(model)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(threads_before)
    assert_same_tensors(models[0].state_dict(), models[1].state_dict())


def test_seeds_give_different_networks_and_building_one_touches_no_generator(make_run):
    config = make_run().model_config
    before = torch.random.get_rng_state()
    first, again, other = build_model(config, 0), build_model(config, 0), build_model(config, 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same_tensors(first.state_dict(), again.state_dict())
    name = "pose.classifier.0.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_a_half_written_checkpoint_is_named_and_the_mend_is_told(make_run):
    run = make_run()
    run.folder.mkdir(parents=True)
    (run.folder / "last.ckpt").write_bytes(b"PK\x03\x04 half of a checkpoint")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: not a whole checkpoint.*delete it"):
        do_run(run)
    assert (run.folder / "last.ckpt").exists()


def test_a_checkpoint_of_another_configuration_is_refused(source, make_run, tmp_path):
    run = make_run()
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    recipe = Recipe(epochs=1, batch=8)
    fit(build_model(run.model_config, 0), samples, recipe, tmp_path, fingerprint="one", seed=0)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: belongs to a run of another configuration"):
        fit(build_model(run.model_config, 0), samples, recipe, tmp_path, fingerprint="two", seed=0)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_training_under_bf16_autocast_keeps_float32_weights_and_learns(source, make_run, tmp_path):
    config = make_run().model_config
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    model = build_model(config, 0)
    recipe = Recipe(epochs=4, batch=8, warmup=0.2, bf16=True)
    log = fit(model, samples, recipe, tmp_path, fingerprint="x", seed=0).log
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.fixture
def spoilt(monkeypatch):
    """Makes every step from the given one on end in weights and a loss of the given value."""

    def spoil(first_step, value):
        steps = itertools.count()

        def update(objective, *rest):
            loss = training_update(objective, *rest)
            if next(steps) < first_step:
                return loss
            with torch.no_grad():
                for parameter in objective.parameters():
                    parameter.fill_(value)
            return torch.full_like(loss, value)

        training_update = training.update
        monkeypatch.setattr(training, "update", update)

    return spoil


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "loss nan"), (float("inf"), "loss inf"), (1e9, "loss 1e+09")]
)
def test_a_run_that_diverges_ends_as_it_was_before_and_says_so_in_its_row(make_run, monkeypatch, spoilt, value, said):
    spoilt(6, value)  # three steps an epoch: from the third epoch on
    result = do_run(make_run(recipe=replace(make_run().recipe, epochs=5, drop_at=(0.4, 0.8))))
    assert result.trouble.startswith(f"diverged in epoch 3 of 5 ({said}")
    assert [line["epoch"] for line in result.log()] == [1, 2]
    assert all(torch.isfinite(value).all() for value in result.model().state_dict().values())
    assert result.scores["PixelAcc"] > 0
    assert not (result.run.folder / "last.ckpt").exists()
    assert do_run(result.run).trouble == result.trouble
    monkeypatch.setattr("workbook.runs.Run.__init__.__defaults__", (0, result.run.base))  # tables look there
    table = build_table(2, result.run.profile, result.run.source).set_index(["method", "metric"])
    assert table.loc[("HG-1s-1u-MuLA", "PCK"), "note"] == f"seed 0: {result.trouble}"
    assert table.loc[("HG-2s-1u-MuLA", "PCK"), "note"] == ""


def test_the_state_that_is_kept_is_the_last_whole_epochs(source, make_run, tmp_path, spoilt):
    config, recipe = make_run("VGG16-FCN-MuLA").model_config, Recipe(epochs=4, batch=8, drop_at=())
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    two, kept = build_model(config, 0), build_model(config, 0)
    fit(two, samples, replace(recipe, epochs=2), tmp_path / "two", fingerprint="x", seed=0)
    spoilt(6, float("nan"))
    found = fit(kept, samples, recipe, tmp_path / "kept", fingerprint="x", seed=0)
    assert found.trouble
    assert_same_tensors(two.state_dict(), kept.state_dict())


def test_a_run_that_diverges_at_once_is_left_as_it_began(source, make_run, tmp_path, spoilt):
    config = make_run("VGG16-FCN-MuLA").model_config
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    model = build_model(config, 0)
    spoilt(1, float("nan"))
    found = fit(model, samples, Recipe(epochs=4, batch=8), tmp_path, fingerprint="x", seed=0)
    assert found.trouble.startswith("diverged in epoch 1 of 4 (loss nan)")
    assert found.log == []
    assert_same_tensors(build_model(config, 0).state_dict(), model.state_dict())


def test_a_batch_without_an_annotated_pixel_or_joint_is_no_reason_to_diverge(make_run):
    model = build_model(make_run("VGG16-FCN-MuLA").model_config, 0)
    nothing = {
        "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        "mask": torch.full((2, 64, 64), 255, dtype=torch.uint8),
        "joints": torch.full((2, 16, 2), float("nan")),
        "present": torch.zeros(2, 16, dtype=torch.bool),
    }
    loss = training.Objective(model, Recipe(epochs=1, batch=2))(nothing)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_weights_that_an_epochs_last_update_spoils_are_not_kept_although_no_loss_felt_it(source, make_run, tmp_path):
    """The third epoch's loss is that of a healthy network; only its last update leaves weights that are no numbers."""
    config, recipe = make_run("VGG16-FCN-MuLA").model_config, Recipe(epochs=4, batch=8, drop_at=())
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    two, kept = build_model(config, 0), build_model(config, 0)
    fit(two, samples, replace(recipe, epochs=2), tmp_path / "two", fingerprint="x", seed=0)
    steps, training_update = itertools.count(1), training.update

    def update(objective, *rest):
        loss = training_update(objective, *rest)
        if next(steps) == 9:  # three steps an epoch
            with torch.no_grad():
                next(objective.parameters()).view(-1)[0] = float("nan")
        return loss

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "update", update)
        found = fit(kept, samples, recipe, tmp_path / "kept", fingerprint="x", seed=0)
    assert found.trouble == "diverged in epoch 3 of 4 (weights that are no numbers); tested as before it"
    assert len(found.log) == 2
    assert_same_tensors(two.state_dict(), kept.state_dict())


def test_a_loss_that_leaps_and_comes_back_is_let_alone(source, make_run, tmp_path):
    config = make_run("VGG16-FCN-MuLA").model_config
    samples = TrainingSamples(source.train, 64, Augmentation(), source.anatomy, 0)
    found = fit(build_model(config, 0), samples, Recipe(epochs=3, batch=8), tmp_path, fingerprint="x", seed=0)
    assert found.trouble is None
    assert len(found.log) == 3
