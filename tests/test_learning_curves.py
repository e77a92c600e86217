"""Scores against budget: the same run but for its epochs and pictures."""

import pandas as pd
import pytest

import tools.learning_curves as module
from rendered_people.dataset import PeopleConfig
from tools.learning_curves import first_pictures, main
from workbook.claims import scores_by_budget
from workbook.experiments import SMOKE, find_experiment
from workbook.figures import learning_curves
from workbook.runs import Run


def test_a_budget_changes_epochs_and_pictures_and_nothing_else(source):
    for name in ("VGG16-FCN", "HG-0s-1u-MuLA"):
        plain = Run(find_experiment(name), SMOKE, source)
        budgets = (2, source), (5, source), (2, first_pictures(source, 7))
        usual, longer, fewer = (Run(plain.experiment, SMOKE.for_epochs(epochs), of) for epochs, of in budgets)
        assert (usual.fingerprint, usual.folder) == (plain.fingerprint, plain.folder)
        assert longer.training_config["recipe"] == plain.training_config["recipe"] | {"epochs": 5}
        assert [record.name for record in fewer.source.train] == [record.name for record in source.train][:7]
        assert len({each.folder for each in (usual, longer, fewer)}) == 3
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
    monkeypatch.setattr(Run.__init__, "__defaults__", (0, tmp_path / "runs"))
    monkeypatch.setattr(module, "results_folder", lambda profile, source: tmp_path)
    assert main(["smoke", "--only", "HG-0s-1u-MuLA", "--epochs", "1", "--jobs", "1"]) == 0
    assert main(["smoke", "--only", "HG-0s-1u-MuLA", "--epochs", "1", "2", "--pictures", "8", "--jobs", "1"]) == 0
    table = pd.read_csv(tmp_path / "learning_curves.csv")
    assert table[["epochs", "pictures"]].values.tolist() == [[1, 8], [2, 8], [1, 24]]
    assert table["PCK"].notna().all()


def test_gains_are_of_finished_runs_with_the_same_budget(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Run.__init__, "__defaults__", (0, tmp_path))
    pair = ("HG-1s-1u-MuLA", "HG-0s-1u-MuLA")
    first, second = (Run(find_experiment(name), SMOKE.for_epochs(1), source).do() for name in pair)
    Run(first.experiment, SMOKE.for_epochs(3), source).do()
    table = scores_by_budget([pair], (1, 3, 4), SMOKE, source)
    assert table[table["metric"] == "PCK"][["epochs", "method", "kind"]].values.tolist() == [
        [1, pair[1], "score, %"], [1, pair[0], "score, %"], [1, pair[0], "gain, points"], [3, pair[0], "score, %"],
    ]  # fmt: skip
    for _, line in table[table["kind"] == "gain, points"].iterrows():
        assert line["text"].startswith(f"{line['ours']:+.1f} (")
        assert line["ours"] == pytest.approx(first.scores[line["metric"]] - second.scores[line["metric"]], abs=1e-4)
    titles = [axes.get_title() for axes in learning_curves(table).axes]
    assert titles == ["PCK: score, %", "mIoU: score, %", "PCK: gain, points", "mIoU: gain, points"]
