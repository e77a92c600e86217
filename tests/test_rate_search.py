"""The search of learning rates: equal for all, and blind to validation images."""

import pandas as pd
import pytest
from conftest import REPOSITORY

import tools.rate_search as module
from tools.rate_search import RATES, SEARCHED, SHARE, held_out, main, search_runs, search_table
from workbook.experiments import EXPERIMENTS, find_experiment
from workbook.results import searched_rates
from workbook.tables import COMPARED_TABLES, table_experiments

COMMITTED = REPOSITORY / "results" / "demo" / "learning_rates.csv"


def test_a_tenth_of_the_training_images_is_held_out_and_no_validation_image_is_seen(source):
    apart = held_out(source)
    train, test = ({record.name for record in split.records} for split in (apart.train, apart.val))
    assert len(test) == -(-len(source.train) // 10)
    assert not train & test
    assert train | test == {record.name for record in source.train.records}
    assert not test & {record.name for record in source.val.records}
    assert apart.fingerprint != source.fingerprint


def test_each_rate_is_tried_for_the_same_short_time_and_the_best_mean_of_a_systems_scores_is_chosen(
    source, tiny_profile
):
    runs = search_runs(find_experiment("FCN-8s"), tiny_profile, held_out(source))
    assert [run.recipe.learning_rate for run in runs] == [rate * tiny_profile.recipe.learning_rate for rate in RATES]
    assert {run.recipe.epochs for run in runs} == {max(1, tiny_profile.recipe.epochs // SHARE)}
    assert len({run.folder for run in runs}) == len(runs)
    assert len({run.fingerprint for run in runs}) == len(runs)
    assert not any(run.shipped_weights.is_file() for run in runs)
    for run, score in zip(runs, [5.0, 9.0, 7.0], strict=True):
        run.__dict__["metrics"] = {"scores": {"PCK": None, "mIoU": score}, "train_seconds": 1.0}
    table = search_table(runs)
    assert table["chosen"].tolist() == [False, True, False]
    assert table["mean"].tolist() == [5.0, 9.0, 7.0]


def test_the_command_writes_its_trials_and_adds_to_those_there_are(tmp_path, monkeypatch, tiny_profile):
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(module, "find_profile", lambda name: tiny_profile)
    monkeypatch.setattr(module, "results_folder", lambda profile, source: tmp_path)
    assert main(["smoke", "--only", "FCN-8s", "--jobs", "1"]) == 0
    assert main(["smoke", "--only", "PSN-style", "--jobs", "1"]) == 0
    table = pd.read_csv(tmp_path / "learning_rates.csv")
    assert table.groupby("method")["chosen"].sum().tolist() == [1, 1]
    assert set(table["rate"]) == set(RATES)
    assert main(["smoke", "--only", "nothing"]) == 2


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_a_systems_rate_is_the_one_that_was_chosen(experiment):
    trials, rate = pd.read_csv(COMMITTED), experiment.rate
    mine = trials[trials["method"] == (experiment.controls or experiment.name)]
    if rate is None:  # a row of the ablations, which all have the profile's
        assert mine.empty
    else:
        assert mine["rate"].tolist() == list(RATES)
        assert rate == mine.loc[mine["mean"].idxmax(), "rate"]
        assert mine["chosen"].tolist() == (mine["mean"] == mine["mean"].max()).tolist()


def test_all_systems_were_searched_for_equally():
    trials = pd.read_csv(COMMITTED)
    for name in ("epochs", "train_images", "held_out_images"):
        assert trials[name].nunique() == 1
    assert (trials.groupby("method")["rate"].apply(tuple) == RATES).all()
    assert set(trials["method"]) == {experiment.name for experiment in SEARCHED}
    for table in COMPARED_TABLES:
        assert all(experiment.rate is not None for experiment in table_experiments(table))
    assert len(searched_rates(["FCN-8s", "SegNet", "VGG16-FCN-Self"])) == 2
