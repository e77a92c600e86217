"""Runs asked for by name: done once, remembered, never mixed up."""

import json
import os
import shutil
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

import workbook.runs as runs_module
from mula_lib import distributed as processes
from mula_lib.anatomy import LIP
from mula_lib.checkpoint import load_model, save_weights
from mula_lib.files import LOCK, BusyError, CheckpointError, locked
from mula_lib.models.network import build_model
from tools import together
from workbook.experiments import DEMO, EXPERIMENTS, find_experiment
from workbook.jobs import do_all, in_processes
from workbook.results import ship
from workbook.runs import Run


@pytest.fixture(autouse=True)
def own_tree(tmp_path, monkeypatch):
    """Committed weights and counts of the test's own."""
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(runs_module, "RESULTS", tmp_path / "results")


@pytest.fixture(scope="module")
def trained(source, tiny_profile, tmp_path_factory):
    """The folder of a finished run."""
    base = tmp_path_factory.mktemp("trained")
    return Run(find_experiment("HG-1s-1u-MuLA"), tiny_profile, source, base=base).do().base


@pytest.fixture
def finished(trained, make_run):
    """A finished run in a folder of the test's own."""
    run = make_run()
    shutil.copytree(trained, run.base)
    metrics = run.folder / "metrics.json"
    metrics.write_text(metrics.read_text().replace(str(trained), str(run.base)))
    return run


def test_a_finished_run_is_remembered_and_read_not_repeated(finished, make_run):
    run = finished.do()
    written = (run.folder / "metrics.json").stat().st_mtime_ns
    again = make_run().do()
    assert again.metrics == run.metrics
    assert (run.folder / "metrics.json").stat().st_mtime_ns == written
    names = ["config.json", "evaluation.npz", "log.jsonl", "metrics.json", "weights.safetensors"]
    assert sorted(path.name for path in run.folder.glob("[!.]*")) == names
    (run.folder / "metrics.json").unlink()
    assert run.do() is run  # what it found it keeps
    assert run.metrics["scores"] == again.metrics["scores"]


def test_the_scores_of_a_run_are_those_of_its_own_network_and_counts(finished, source):
    run = finished.do()
    assert run.evaluation().scores(source.anatomy) == pytest.approx(run.scores, abs=1e-3, nan_ok=True)
    assert run.model().config == run.model_config
    assert run.metrics["images"] == len(source.val)
    assert run.metrics["params"] == sum(p.numel() for p in run.model().parameters())
    config = json.loads((run.folder / "config.json").read_text())
    assert (config["experiment"], config["training"]["recipe"]["epochs"]) == ("HG-1s-1u-MuLA", 3)


def test_another_configuration_in_the_same_folder_is_refused_and_nothing_is_touched(finished, make_run, tiny_profile):
    run = finished.do()
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    other = make_run(recipe=replace(tiny_profile.recipe, pose_weight=1.0))
    with pytest.raises(CheckpointError, match=r"seed-0: holds a run of another configuration; delete"):
        other.do()
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before
    assert other.metrics is None


def test_each_experiment_is_a_training_of_its_own(make_run, source):
    folders, fingerprints = {}, {}
    for experiment in EXPERIMENTS:
        run = Run(experiment, DEMO, source)
        folders.setdefault(run.folder, set()).add(run.fingerprint)
        fingerprints.setdefault(run.fingerprint, set()).add(run.folder)
    assert all(len(each) == 1 for each in (*folders.values(), *fingerprints.values()))
    assert len({make_run(seed=seed).folder for seed in (0, 1)}) == 2


def test_changing_the_test_protocol_tests_again_without_training_again(finished, make_run, tiny_profile):
    run = finished.do()
    weights = run.own_weights.stat().st_mtime_ns
    other = make_run(testing=replace(tiny_profile.testing, mirror=False))
    assert other.metrics is None
    other.do()
    assert run.own_weights.stat().st_mtime_ns == weights
    assert other.metrics["testing_fingerprint"] != run.testing_fingerprint


@pytest.fixture
def shipped(make_run):
    """A run whose weights lie where committed ones do; its network is untrained, so that it can be told apart."""

    def ship(fingerprint=None):
        run = make_run()
        facts = {"fingerprint": fingerprint or run.fingerprint, "train_seconds": 1.0, "trained_on": "here", "log": []}
        save_weights(run.shipped_weights, build_model(run.model_config, 99), facts, half=True)
        return run

    return ship


def test_committed_weights_are_tested_instead_of_training(shipped):
    run = shipped().do()
    assert run.weights == run.shipped_weights
    assert not run.own_weights.exists()
    run.do(retrain=True)
    assert run.weights == run.own_weights
    seconds = run.metrics["train_seconds"]
    assert run.do(retrain=True).metrics["train_seconds"] == seconds  # and the second time it is read


def test_committed_weights_of_another_training_are_not_used(shipped):
    run = shipped("of something else")
    assert not run.trained
    assert run.do(train=False).metrics is None
    assert run.do().weights == run.own_weights


def test_what_is_shipped_stands_in_for_the_run(make_run, tmp_path):
    """Of seed 0 network and counts; of the other seeds counts, from which scores and spreads follow."""
    for seed in (0, 1):
        run = make_run("VGG16-FCN-MuLA", seed=seed).do()
        ship(run)
        clone = replace(run, base=tmp_path / "a-fresh-clone")
        assert clone.metrics == {name: value for name, value in run.metrics.items() if name != "weights"}
        assert clone.do(train=False).evaluation().scores(LIP) == run.evaluation().scores(LIP)
        assert clone.note == ""
        assert clone.shipped == (seed == 0)
        clone.do()  # tests the weights of seed 0, and has nothing to do for seed 1
        assert ("weights" in clone.metrics) == (seed == 0)
        assert clone.scores["PixelAcc"] == pytest.approx(run.scores["PixelAcc"], abs=0.5)
        assert clone.metrics["log"] == run.metrics["log"]
    with pytest.raises(CheckpointError, match=r"seed-1\.safetensors: not committed.*use seed 0.*--retrain --seeds 2"):
        clone.model()
    names = sorted(path.name for path in (tmp_path / "results/tiny/counts").iterdir())
    assert names == [f"vgg16-fcn-mula-seed-{seed}.{kind}" for seed in (0, 1) for kind in ("json", "npz")]
    assert [path.name for path in (tmp_path / "weights/tiny").iterdir()] == ["vgg16-fcn-mula-seed-0.safetensors"]
    assert load_model(run.own_weights).config == run.model_config


def test_without_training_a_run_that_is_missing_says_how_to_get_it(make_run):
    run = make_run("HG-2×1u", seed=1)
    assert run.do(train=False).metrics is None
    assert run.note == 'not trained yet: ./run_all.sh tiny --only "HG-2×1u" --seeds 2'
    assert not run.folder.exists()


@pytest.mark.parametrize("name", ["metrics.json", "evaluation.npz", "weights.safetensors", "config.json"])
def test_a_damaged_file_of_a_run_is_named(finished, name):
    path = finished.folder / name
    path.write_bytes(path.read_bytes()[:30])
    if name == "config.json":
        (path.parent / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        finished.do(), finished.evaluation(), finished.model()


def do_beside_another(run, folder):
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.001)
    return run.do().metrics["images_per_second"]


def test_two_processes_that_want_the_same_row_train_it_once(make_run, tmp_path, capfd):
    (tmp_path / "both").mkdir()
    found = {result for _, result in in_processes(do_beside_another, [(make_run(), tmp_path / "both")] * 2, 2)}
    assert len(found) == 1  # a second test would have taken another time
    waiting = "another process is working on HG-1s-1u-MuLA (fixture), seed 0; waiting for it to end"
    assert capfd.readouterr().err.count(waiting) == 1


def test_a_row_is_not_trained_by_several_processes_while_another_is_at_it(make_run, monkeypatch):
    run = make_run()
    with locked(run.folder / LOCK, "it"):
        monkeypatch.setattr(processes, "count", lambda: 2)
        with pytest.raises(BusyError, match=r"HG-1s-1u-MuLA \(fixture\), seed 0; run this again"):
            run.do()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_row_is_noted_and_costs_no_other_row_its_work(make_run, jobs, monkeypatch, tmp_path):
    good, bad = make_run("VGG16-FCN"), make_run("HG-0s-1u-MuLA")
    bad.folder.mkdir(parents=True)
    (bad.folder / "last.ckpt").write_bytes(b"half")
    assert do_all([bad, good], jobs=jobs) == [bad]
    assert good.scores == replace(good, base=tmp_path / "alone").do().scores
    assert bad.note.startswith(f"failed: {bad.folder / 'last.ckpt'}: ")
    (bad.folder / "last.ckpt").unlink()
    assert (do_all([bad]), bad.note) == ([], "")
    monkeypatch.setattr(Run, "do", Mock(side_effect=RuntimeError("a DataLoader worker is out of shared memory")))
    with pytest.raises(RuntimeError, match="shared memory"):  # which every row would be: it ends the command
        do_all([good, bad])


def test_a_profile_may_differ_for_the_vgg_trunk_and_no_other_run_notices(make_run):
    plain, other = ({"vgg": each} for each in ({}, {"crop": 72, "context": 2, "recipe": {"sigma_floor": 0.875}}))
    assert make_run("HG-1s-1u-MuLA", **other).fingerprint == make_run("HG-1s-1u-MuLA", **plain).fingerprint
    run = make_run("VGG16-FCN", **other)
    assert (run.profile.crop, run.model_config.context, run.training_config["crop"]) == (72, 2, 72)
    assert run.training_config["recipe"]["sigma_floor"] == 0.875
    assert "sigma_floor" not in make_run("VGG16-FCN", **plain).training_config["recipe"]  # older fingerprints hold
    assert run.recipe.epochs == make_run("HG-1s-1u-MuLA", **other).recipe.epochs  # what is not named stays


def test_networks_trained_together_are_those_trained_alone_and_resume(make_run, monkeypatch, tiny_profile):
    recipe = replace(tiny_profile.recipe, optimizer="adamw", learning_rate=1e-3)
    alone = [make_run(row, recipe=recipe) for row in ("VGG16-FCN", "VGG16-FCN-MuLA")]
    side = [replace(run, base=run.base / "together") for run in alone]
    keep, left = together.Trainee.keep, iter([None] * 5)  # of the second epoch, only one network's state is kept
    with monkeypatch.context() as patched:
        patched.setattr(together.Trainee, "keep", lambda trainee: next(left) or keep(trainee))
        with pytest.raises(StopIteration):
            together.train(side, workers=0)
    together.train(side, workers=0)
    for one, other in zip(alone, side, strict=True):
        expected, found = (load_file(run.own_weights) for run in (one.do(), other.do()))
        how = dict.fromkeys(("rtol", "atol"), 0.05 if torch.cuda.is_available() else 0.0)  # a GPU adds in any order
        assert all(torch.allclose(expected[name].float(), found[name].float(), **how) for name in expected)
