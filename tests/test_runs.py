"""Runs asked for by name: done once, read afterwards, never mixed up."""

import json
import shutil
from dataclasses import replace

import pytest

import workbook.runs as runs_module
from mula_lib import distributed as processes
from mula_lib.checkpoint import save_weights
from mula_lib.files import LOCK, BusyError, CheckpointError, ConfigError, DataError, locked
from mula_lib.models.network import build_model
from workbook import run_steps
from workbook.datasets import open_source
from workbook.runs import do_run, ship_weights, wanted_runs


def test_a_finished_run_is_read_not_repeated(make_run):
    run = make_run()
    first = do_run(run)
    written = (run.folder / "metrics.json").stat().st_mtime_ns
    again = do_run(run)
    assert again.metrics == first.metrics
    assert (run.folder / "metrics.json").stat().st_mtime_ns == written
    assert not (run.folder / "last.ckpt").exists()


def test_the_scores_of_a_run_are_those_of_its_own_network_and_counts(make_run, source):
    result = do_run(make_run())
    assert result.evaluation().scores(source.anatomy) == pytest.approx(result.scores, abs=1e-3, nan_ok=True)
    assert result.model().config == result.run.model_config
    assert result.metrics["images"] == len(source.val)
    assert result.metrics["params"] == sum(p.numel() for p in result.model().parameters())


def test_the_same_run_in_another_folder_gives_the_same_figures(make_run, tmp_path):
    run = make_run("VGG16-FCN-MuLA")
    first, second = do_run(run), do_run(replace(run, base=tmp_path / "elsewhere"))
    assert first.scores == second.scores


def test_another_configuration_in_the_same_folder_is_refused_and_nothing_is_touched(make_run, tiny_profile):
    run = make_run()
    do_run(run)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    other = make_run(recipe=replace(tiny_profile.recipe, pose_weight=1.0))
    with pytest.raises(CheckpointError, match=r"seed-0: holds a run of another configuration \(other recipe\)"):
        do_run(other)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before
    assert other.result() is None


def test_seeds_have_folders_of_their_own(make_run):
    assert make_run(seed=0).folder != make_run(seed=1).folder
    assert make_run(seed=0).fingerprint != make_run(seed=1).fingerprint


def test_changing_the_test_protocol_tests_again_without_training_again(make_run, tiny_profile):
    run = make_run()
    do_run(run)
    weights = (run.folder / "weights.safetensors").stat().st_mtime_ns
    other = make_run(testing=replace(tiny_profile.testing, mirror=False))
    assert other.result() is None
    result = do_run(other)
    assert (run.folder / "weights.safetensors").stat().st_mtime_ns == weights
    assert result.metrics["testing_fingerprint"] != run.testing_fingerprint


@pytest.fixture
def shipped(make_run, tmp_path, monkeypatch):
    """A run whose weights lie where shipped weights lie; its network is untrained, so that it can be told apart."""
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path / "weights")
    run = make_run()

    def ship(fingerprint=run.fingerprint):
        facts = {"fingerprint": fingerprint, "train_seconds": 1.0, "trained_on": "here", "log": []}
        save_weights(run.shipped_weights, build_model(run.model_config, 99), facts, half=True)
        return run

    return ship


def test_shipped_weights_are_evaluated_instead_of_training(shipped):
    run = shipped()
    result = do_run(run)
    assert result.metrics["weights"] == str(run.shipped_weights)
    assert not (run.folder / "weights.safetensors").exists()
    assert do_run(run).metrics == result.metrics


def test_a_shipped_network_scores_nearly_what_the_trained_one_did(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path / "weights")
    run = make_run("VGG16-FCN-MuLA")
    trained = do_run(run)
    ship_weights(trained)
    fresh = replace(run, base=tmp_path / "a-fresh-clone")
    evaluated = do_run(fresh)
    assert evaluated.metrics["weights"] == str(run.shipped_weights)
    assert evaluated.scores["PixelAcc"] == pytest.approx(trained.scores["PixelAcc"], abs=0.5)
    assert evaluated.metrics["train_seconds"] == trained.metrics["train_seconds"]
    assert evaluated.log() == trained.log()


def test_a_picture_that_cannot_be_read_is_named_and_earlier_results_stay(make_run, source, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(source.root, tree)
    finished = do_run(make_run("VGG16-FCN"))
    broken = open_source("fixture", path=tree)
    victim = broken.train.records[5].image
    victim.write_bytes(victim.read_bytes()[:40])
    with pytest.raises(DataError, match=victim.name):
        do_run(replace(make_run("HG-0s-1u-MuLA"), source=broken))
    assert do_run(make_run("VGG16-FCN")).metrics == finished.metrics


def test_retraining_ignores_shipped_weights(shipped):
    run = shipped()
    do_run(run)
    result = do_run(run, retrain=True)
    assert result.metrics["weights"] == str(run.folder / "weights.safetensors")
    assert do_run(run, retrain=True).metrics == result.metrics  # and the second time it is read


def test_shipped_weights_of_another_training_are_said_to_be_and_not_used(shipped, capsys):
    run = shipped("of something else")
    result = do_run(run)
    assert "trained with another recipe" in capsys.readouterr().out
    assert result.metrics["weights"] == str(run.folder / "weights.safetensors")


def test_a_damaged_configuration_file_is_named(make_run):
    run = make_run()
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not a run's configuration"):
        do_run(run)


def test_a_notebook_wants_every_row_of_a_profile_without_core_rows(source, tiny_profile):
    assert len(wanted_runs(1, tiny_profile, source, [0])) == 9
    assert len(wanted_runs(2, tiny_profile, source, [0, 1])) == 18


def test_core_rows_are_wanted_and_rows_that_cost_nothing(source, tiny_profile, monkeypatch, tmp_path):
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path)
    profile = replace(tiny_profile, name="cored", core=("VGG16-FCN",))
    assert [run.experiment.name for run in wanted_runs(1, profile, source, [0])] == ["VGG16-FCN"]
    extra = next(run for run in wanted_runs(1, tiny_profile, source, [0]) if run.experiment.name == "VGG16-FCN-Self")
    path = replace(extra, profile=profile).shipped_weights
    path.parent.mkdir(parents=True)
    path.touch()
    assert [run.experiment.name for run in wanted_runs(1, profile, source, [0])] == ["VGG16-FCN", "VGG16-FCN-Self"]


def test_the_configuration_file_says_what_decided_the_result(make_run):
    run = make_run()
    do_run(run)
    config = json.loads((run.folder / "config.json").read_text())
    assert config["experiment"] == "HG-1s-1u-MuLA"
    assert config["training"]["recipe"]["epochs"] == 3
    assert config["training"]["data"] == run.source.fingerprint


def test_two_processes_that_want_the_same_row_train_it_once(make_run, do_run_elsewhere, tmp_path):
    """As two notebooks would: the second says that it waits, and reads what the first one found."""
    both = [do_run_elsewhere(tmp_path) for _ in range(2)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in both]
    said = "".join(error for _, error in answers)
    assert len({found for found, _ in answers}) == 1  # a second test would have taken another time
    assert said.count("HG-1s-1u-MuLA (fixture), seed 0; waiting for it to end") == 1
    run = replace(make_run(), base=tmp_path)
    assert run.result().log() == [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json", "evaluation.npz", "log.jsonl", "metrics.json", "weights.safetensors",
    ]  # fmt: skip


def test_a_row_is_not_trained_by_several_processes_together_while_another_is_at_it(make_run, monkeypatch):
    run = make_run()
    with locked(run.folder / LOCK, "it"):
        monkeypatch.setattr(processes, "count", lambda: 2)
        with pytest.raises(BusyError, match=r"HG-1s-1u-MuLA \(fixture\), seed 0; run this again"):
            do_run(run)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metrics.json", r"metrics\.json: not the result of a run \(JSONDecodeError\); delete it"),
        ("evaluation.npz", r"evaluation\.npz: not the counts of a test \(\w+\); delete it and the metrics\.json"),
        ("weights.safetensors", r"weights\.safetensors: not a weights file of this project"),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_named_with_the_mend(make_run, name, said):
    result = do_run(make_run())
    path = result.run.folder / name
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(CheckpointError, match=said):
        do_run(result.run), result.evaluation(), result.model()


def test_counts_and_scores_in_a_folder_are_always_of_one_test(make_run, tiny_profile, monkeypatch):
    """Stopped between the counts and the scores of a test by another protocol, the run is unfinished, not mixed."""
    run = make_run()
    do_run(run)
    other = make_run(testing=replace(tiny_profile.testing, mirror=False))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_steps, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            do_run(other)
    assert run.result() is None
    assert other.result() is None
    again = do_run(run)
    scores = again.evaluation().scores(run.source.anatomy)
    assert scores == pytest.approx(again.scores, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True, None])
def test_a_seed_is_a_whole_number_from_0(make_run, seed):
    with pytest.raises(ConfigError, match="a seed is a whole number from 0"):
        make_run(seed=seed)
