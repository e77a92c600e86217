"""The tables: the contract of their columns, and figures that come from runs or are plainly quoted."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

import workbook.runs as runs_module
from workbook.datasets import open_source
from workbook.experiments import EXPERIMENTS, SMOKE, find_experiment, find_profile, slug
from workbook.results import COLUMNS, do_table, read_table, results_folder, side_by_side, table_runs, write_table
from workbook.runs import Run
from workbook.tables import METRICS, TABLES, table_experiments, table_rows


@pytest.fixture
def fake_run(source, tiny_profile, tmp_path, monkeypatch):
    """Puts a finished run with given scores into a folder of the test's own, or commits its metrics only."""
    monkeypatch.setattr(runs_module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(Run.__init__, "__defaults__", (0, tmp_path / "runs"))

    def put(name, seed, pck, miou, *, shipped=False, where="a laptop"):
        run = Run(find_experiment(name), tiny_profile, source, seed)
        costs = {"params": 1000, "gflops": 0.5, "train_seconds": 10.0 + seed, "images_per_second": 20.0}
        scores = {"PCK": pck, "mIoU": miou}
        metrics = {"testing_fingerprint": run.testing_fingerprint, "weights": "anywhere", "scores": scores, **costs}
        metrics["trained_on"] = where
        path = run.shipped_counts.with_suffix(".json") if shipped else run.folder / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics))

    return put


def built(table, profile, source, seeds=(0,)):
    return write_table(table, profile, source, table_runs(table, profile, source, seeds))


def row(table, method, metric):
    return table[(table.method == method) & (table.metric == metric)].iloc[0]


def test_rows_that_were_not_run_quote_the_paper_and_say_how_to_get_ours(source, tiny_profile, fake_run):
    fake_run("VGG16-FCN", 0, 50.0, 20.0)
    quoted = row(built(1, tiny_profile, source), "VGG16-FCN-MuLA", "PCK")
    assert (quoted.source, quoted.paper, quoted.seeds) == ("quoted", 76.0, "")
    assert quoted.paper_delta_vs_baseline == pytest.approx(6.9)
    assert pd.isna([quoted.ours, quoted["std"], quoted.delta_vs_baseline, quoted.params, quoted.train_seconds]).all()
    assert quoted.note == 'seed 0: not trained yet: ./run_all.sh tiny --only "VGG16-FCN-MuLA"'
    assert pd.isna(row(built(1, tiny_profile, source), "VGG16-FCN", "PCK")["std"])  # of one seed


def test_a_notebooks_table_trains_what_is_missing_if_it_is_told_to(source, tiny_profile, fake_run, monkeypatch):
    fake_run("VGG16-FCN", 0, 50.0, 20.0)
    trained, others = [], {each.name for each in table_experiments(1)} - {"VGG16-FCN"}
    monkeypatch.setattr(Run, "_train", lambda run: trained.append(run.experiment.name))
    monkeypatch.setattr(Run, "_test", lambda run, weights: None)
    _, finished = do_table(1, tiny_profile, source)
    assert [name for name, runs in finished.items() if runs] == ["VGG16-FCN"]
    assert not trained
    do_table(1, tiny_profile, source, train=True)
    assert set(trained) == others


def test_scores_are_means_over_seeds_with_their_deviation_and_distance_to_the_baseline(source, tiny_profile, fake_run):
    """Of the other seeds counts are enough, and they are found whatever seeds are asked for."""
    for seed, (base, mula) in enumerate([(50.0, 53.0), (52.0, 56.0), (54.0, 59.0)]):
        fake_run("VGG16-FCN", seed, base, 20.0, shipped=seed > 0)
        fake_run("VGG16-FCN-MuLA", seed, mula, 22.0, shipped=seed > 0)
    table = built(1, tiny_profile, source)
    mula = row(table, "VGG16-FCN-MuLA", "PCK")
    assert (mula.ours, mula.delta_vs_baseline, mula.train_seconds) == (56.0, 4.0, 10.0)  # the first seed's costs
    assert mula["std"] == pytest.approx(np.std([53, 56, 59], ddof=1))
    assert (mula.seeds, mula.source, mula.note) == ("0 1 2", "ran", "")
    assert built(1, tiny_profile, source, (1, 2)).seeds.iloc[0] == "0 1 2"[2:]
    assert len(table_runs(1, tiny_profile, source, (0, 3))["VGG16-FCN"]) == 4  # the fourth is asked for, and not there
    fake_run("VGG16-FCN-Add", 2, 55.0, 20.0, where="a GPU")  # compared with the baseline of its own seed
    add = row(built(1, tiny_profile, source, (2,)), "VGG16-FCN-Add", "PCK")
    assert add.delta_vs_baseline == 1.0
    assert np.isnan(add.train_seconds)  # on other hardware than the baseline's


def test_a_table_is_written_with_its_provenance(source, tiny_profile, fake_run):
    fake_run("HG-2×1u", 0, 50.0, 20.0)
    fake_run("HG-2×1u", 3, 50.0, 20.0, shipped=True)
    written = write_table(2, tiny_profile, source, table_runs(2, tiny_profile, source))
    folder = results_folder(tiny_profile, source)
    read = read_table(folder / "table2.csv")
    assert list(read.method) == list(written.method)
    provenance = json.loads((folder / "table2.provenance.json").read_text())
    assert provenance["data_fingerprint"] == source.fingerprint
    assert provenance["seeds"] == [0, 3]
    assert provenance["trained_on"] == ["a laptop"]
    assert provenance["packages"]["torch"]
    assert {"git_commit", "machine", "python", "profile", "dataset"} <= provenance.keys()


WRITTEN = sorted(runs_module.RESULTS.glob("*/table*.csv"))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_table_in_the_results_folder_keeps_the_contract(path):
    table = read_table(path)
    assert tuple(table.columns) == COLUMNS
    assert path.with_suffix(".provenance.json").is_file()
    assert (table.profile == find_profile(path.parent.name.split("-")[0]).name).all()
    number = int(path.stem.removeprefix("table"))
    by_name = {row.name: row for row in table_rows(number)}
    assert list(dict.fromkeys(table.method)) == list(by_name)
    assert set(table.metric) <= set(METRICS[number])
    for line in table.itertuples():
        assert line.paper == by_name[line.method].paper.get(line.metric) or np.isnan(line.paper)
        assert np.isnan(line.paper) == (line.metric not in by_name[line.method].paper)
        assert (line.source == "ran") == (not pd.isna(line.ours)) == (not pd.isna(line.seeds))
        if line.source == "ran":
            assert 0 <= line.ours <= 100
            assert min(line.params, line.gflops, line.train_seconds) > 0


def test_the_smoke_run_filled_every_row():
    folder = runs_module.RESULTS / SMOKE.name
    if not (folder / "table6.csv").is_file():
        pytest.skip("no smoke results here; ./run_all.sh smoke writes them (./run_tests.sh runs it first)")
    for number in TABLES:
        table = read_table(folder / f"table{number}.csv")
        ours = table[table.method.isin([row.name for row in table_rows(number) if row.experiment])]
        assert (ours.source == "ran").all()
        assert ours.ours.notna().all()
        assert len(ours) >= 4


def test_what_is_annotated_nowhere_is_nan_in_the_table_and_neither_0_nor_100(source, tiny_profile, fake_run):
    for name in ("VGG16-FCN", "VGG16-FCN-MuLA"):
        fake_run(name, 0, None, 20.0)
    table = built(1, tiny_profile, source)
    found = row(table, "VGG16-FCN-MuLA", "PCK")
    assert found.source == "ran"
    assert pd.isna([found.ours, found.delta_vs_baseline]).all()
    assert row(table, "VGG16-FCN-MuLA", "mIoU").ours == 20.0
    assert "nan" not in side_by_side(1, table).to_string()


def test_a_data_set_without_joints_is_run_and_its_pose_scores_are_nan(source, tiny_profile, tmp_path):
    tree = shutil.copytree(source.root, tmp_path / "tree")
    for path in tree.rglob("*.csv"):
        rows = [line.split(",")[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name}{',nan' * 48}\n" for name in rows))
    run = Run(find_experiment("VGG16-FCN"), tiny_profile, open_source("fixture", path=tree), 0, tmp_path / "runs").do()
    assert run.note == ""
    assert all(math.isnan(run.scores[name]) for name in ("PCK", "Head", "Wri.", "U.Body"))
    assert 0 < run.scores["mIoU"] < 100


def test_our_column_names_profile_and_data():
    named = ["method", "metric", "paper", "ours", "paper_delta_vs_baseline", "delta_vs_baseline"]
    rows = [("a", "PCK", 76.0, 12.34, 6.9, -1.0), ("b", "PCK", 76.0, None, 6.9, None), ("c", "PCK", 76, 10, 6.9, -0.04)]
    found = side_by_side(1, pd.DataFrame(rows, columns=named).assign(dataset="fixture", profile="smoke"))
    headings = ["paper (LIP)", "ours (smoke, fixture)", "paper Δ", "ours Δ"]
    assert list(found.columns) == [("PCK", heading) for heading in headings]
    assert found.loc["a"].tolist() == ["76.0", "12.3", "+6.9", "-1.0"]
    assert found.loc["b"].tolist() == ["76.0", "–", "+6.9", "–"]
    assert found.loc["c"].tolist() == ["76.0", "10.0", "+6.9", "+0.0"]


def test_the_tables_have_the_papers_rows_and_numbers():
    assert [row.name for row in table_rows(1)] == [
        "VGG16-FCN", "VGG16-FCN-Add", "VGG16-FCN-Multi", "VGG16-FCN-Concat", "VGG16-FCN-MTL", "VGG16-FCN-Self",
        "VGG16-FCN-LA-Pose", "VGG16-FCN-LA-Parsing", "VGG16-FCN-MuLA",
    ]  # fmt: skip
    assert [(row.paper["PCK"], row.paper["mIoU"]) for row in table_rows(2)] == [
        (78.8, 38.5), (82.2, 43.5), (80.8, 41.3), (82.8, 45.5), (83.1, 45.6), (84.4, 46.9), (85.0, 47.8),
        (85.1, 48.9), (85.4, 49.3),
    ]  # fmt: skip
    slugs = [slug(row.name) for row in EXPERIMENTS]
    assert len(set(slugs)) == len(slugs) == 42
    assert [(row.name, row.paper) for row in table_rows(5)] == [
        ("Chen and Yuille [6]", {"mAP": 21.8}), ("Insafutdinov et al. [11]", {"mAP": 28.6}),
        ("Xia et at. [24]", {"mAP": 39.2}), ("Our baseline (w/o MuLA)", {"mAP": 38.6}), ("Our model", {"mAP": 39.9}),
        ("HG-2×1u", {}), ("HG-2s-1u-MuLA", {}),
    ]  # fmt: skip
    assert [row.paper.get("mIoU") for row in table_rows(6)] == [59.4, 62.4, 64.4, 62.9, 65.1, None, None]
    ours = ["HG-5×1u", "HG-5s-1u-MuLA", "HG-2×1u", "HG-2s-1u-MuLA"]
    assert [each.name for each in table_experiments(5)] == ours
    assert [each.name for each in table_experiments(6)] == ["Attention+SSL", "SS-NAN", "Pose-guided refinement", *ours]
    assert [(row.name, row.paper.get("PCK")) for row in table_rows(3)][:5] == [
        ("Hybrid Pose Machine", 77.2), ("BUPTMM-POSE", 80.2), ("Pyramid Stream Network", 82.1),
        ("Chou et al. [7]", 87.4), ("Our model", 87.5),
    ]  # fmt: skip
    parsing = ("PixelAcc", "MeanAcc", "mIoU")
    assert [(row.name, *(row.paper[name] for name in parsing)) for row in table_rows(4)[:7]] == [
        ("SegNet [1]", 69.0, 24.0, 18.2), ("FCN-8s [13]", 76.1, 36.8, 28.3), ("DeepLabV2 [4]", 82.7, 51.6, 41.6),
        ("Attention [5]", 83.4, 54.4, 42.9), ("Attention+SSL [10]", 84.4, 54.9, 44.7),
        ("SS-NAN [28]", 87.6, 56.0, 47.9), ("Our model", 88.5, 60.5, 49.3),
    ]  # fmt: skip
    for table in TABLES:
        rows = {row.name: row for row in table_rows(table)}
        assert all(rows[row.baseline].experiment is not None for row in rows.values())
        for row in rows.values():  # a row that is only quoted says why, and one of ours says so
            assert row.experiment is not None or row.note.startswith("quoted: ")
            assert row.paper or row.note
    assert slug("HG-2×1u") == "hg-2x1u"
