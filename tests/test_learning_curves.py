"""Scores against budget: the same run but for its epochs and pictures."""

import pandas as pd

import tools.learning_curves as module
from rendered_people.dataset import PeopleConfig
from tools.learning_curves import budget_run, first_pictures, main
from workbook.experiments import SMOKE
from workbook.runs import Run


def test_a_budget_changes_epochs_and_pictures_and_nothing_else(source):
    for name in ("VGG16-FCN", "HG-0s-1u-MuLA"):
        usual = budget_run(name, SMOKE, source, 2)
        plain = Run(usual.experiment, usual.profile, source)
        assert usual.fingerprint == plain.fingerprint
        assert usual.folder != plain.folder
        longer, fewer = (budget_run(name, SMOKE, *of) for of in ((source, 5), (first_pictures(source, 7), 2)))
        assert longer.training_config["recipe"] == plain.training_config["recipe"] | {"epochs": 5}
        assert [record.name for record in fewer.source.train] == [record.name for record in source.train][:7]
        assert len({each.fingerprint for each in (usual, longer, fewer)}) == 3


def test_pictures_that_a_data_set_lacks_are_rendered(source, monkeypatch):
    asked = []
    monkeypatch.setitem(module.RENDERED, "fixture", PeopleConfig())
    monkeypatch.setattr(module, "ensure_people", lambda *of, splits: asked.append((of, splits)) or source.root)
    more = first_pictures(source, 30)
    assert asked == [((PeopleConfig(train=30), source.root.parent), ("train",))]
    assert more.fingerprint == f"{source.fingerprint}, the first 30"
    assert [record.name for record in more.train] == [record.name for record in source.train]


def test_the_command_adds_what_it_finished_to_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(module, "results_folder", lambda profile, source: tmp_path)
    assert main(["smoke", "--only", "HG-0s-1u-MuLA", "--epochs", "1", "--jobs", "1"]) == 0
    assert main(["smoke", "--only", "HG-0s-1u-MuLA", "--epochs", "1", "2", "--pictures", "8", "--jobs", "1"]) == 0
    table = pd.read_csv(tmp_path / "learning_curves.csv")
    assert table[["epochs", "pictures"]].values.tolist() == [[1, 8], [2, 8], [1, 24]]
    assert table["PCK"].notna().all()
