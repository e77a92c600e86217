"""The tables: the contract of their columns, and figures that come from runs or are plainly quoted."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

import workbook.results as results_module
from workbook.comparison import side_by_side
from workbook.datasets import open_source
from workbook.experiments import find_experiment
from workbook.profiles import SMOKE, find_profile
from workbook.results import COLUMNS, build_table, results_folder, write_table
from workbook.runs import Run, do_run
from workbook.tables import METRICS, TABLES, table_rows


@pytest.fixture
def fake_run(source, tiny_profile, tmp_path, monkeypatch):
    """Puts a finished run with given scores into a folder of the test's own."""
    base = tmp_path / "runs"
    real_run = Run
    monkeypatch.setattr(results_module, "Run", lambda *given: real_run(*given, base=base))

    def put(name, seed, pck, miou):
        run = real_run(find_experiment(name), tiny_profile, source, seed, base=base)
        metrics = {
            **dict.fromkeys(("trained_as", "weights", "trained_on"), "as it does not matter here"),
            "testing_fingerprint": run.testing_fingerprint,
            "images": 12,
            "log": [],
            "scores": {"PCK": pck, "mIoU": miou},
            "params": 1000,
            "gflops": 0.5,
            "train_seconds": 10.0 + seed,
            "images_per_second": 20.0,
        }
        run.folder.mkdir(parents=True)
        (run.folder / "metrics.json").write_text(json.dumps(metrics))

    return put


def row(table, method, metric):
    return table[(table.method == method) & (table.metric == metric)].iloc[0]


def test_a_table_has_the_contracts_columns_and_every_row_of_the_paper(source, tiny_profile, fake_run):
    for number in (1, 2):
        table = build_table(number, tiny_profile, source)
        assert tuple(table.columns) == COLUMNS
        expected = [(row.name, metric) for row in table_rows(number) for metric in ("PCK", "mIoU")]
        assert list(zip(table.method, table.metric, strict=True)) == expected


def test_rows_that_were_not_run_quote_the_paper_and_claim_nothing(source, tiny_profile, fake_run):
    fake_run("VGG16-FCN", 0, 50.0, 20.0)
    quoted = row(build_table(1, tiny_profile, source), "VGG16-FCN-MuLA", "PCK")
    assert quoted.source == "quoted"
    assert quoted.paper == 76.0
    assert quoted.paper_delta_vs_baseline == pytest.approx(6.9)
    assert pd.isna([quoted.ours, quoted["std"], quoted.delta_vs_baseline, quoted.params, quoted.train_seconds]).all()
    assert quoted.seeds == ""


def test_scores_are_means_over_seeds_with_their_deviation_and_distance_to_the_baseline(source, tiny_profile, fake_run):
    for seed, (base, mula) in enumerate([(50.0, 53.0), (52.0, 56.0), (54.0, 59.0)]):
        fake_run("VGG16-FCN", seed, base, 20.0)
        fake_run("VGG16-FCN-MuLA", seed, mula, 22.0)
    table = build_table(1, tiny_profile, source, seeds=(0, 1, 2))
    mula = row(table, "VGG16-FCN-MuLA", "PCK")
    assert mula.ours == 56.0
    assert mula["std"] == pytest.approx(np.std([53, 56, 59], ddof=1))
    assert mula.delta_vs_baseline == 4.0
    assert mula.seeds == "0 1 2"
    assert mula.source == "ran"
    assert mula.train_seconds == 11.0


def test_one_seed_has_no_deviation(source, tiny_profile, fake_run):
    fake_run("VGG16-FCN", 0, 50.0, 20.0)
    assert pd.isna(row(build_table(1, tiny_profile, source), "VGG16-FCN", "PCK")["std"])


def test_a_result_of_another_protocol_is_not_shown(source, tiny_profile, fake_run):
    fake_run("VGG16-FCN", 0, 50.0, 20.0)
    other = replace(tiny_profile, testing=replace(tiny_profile.testing, scales=(1.0,)))
    assert row(build_table(1, other, source), "VGG16-FCN", "PCK").source == "quoted"


def test_a_table_is_written_with_its_provenance(source, tiny_profile, fake_run, tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "REPOSITORY", tmp_path)
    written = write_table(2, tiny_profile, source)
    folder = results_folder(tiny_profile, source)
    read = pd.read_csv(folder / "table2.csv")
    assert list(read.columns) == list(COLUMNS)
    assert list(read.method) == list(written.method)
    provenance = json.loads((folder / "table2.provenance.json").read_text())
    assert provenance["data_fingerprint"] == source.fingerprint
    assert provenance["seeds"] == [0]
    assert provenance["packages"]["torch"]
    assert {"git_commit", "machine", "python", "profile", "dataset"} <= provenance.keys()


def test_a_foreign_data_set_has_a_results_folder_of_its_own(source, tiny_profile):
    own, foreign = results_folder(tiny_profile, source), results_folder(tiny_profile, replace(source, name="lip"))
    assert own != foreign


def written_tables():
    return sorted((REPOSITORY / "results").glob("*/table*.csv"))


@pytest.mark.parametrize("path", written_tables(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_table_in_the_results_folder_keeps_the_contract(path):
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    assert tuple(table.columns) == COLUMNS
    assert path.with_suffix(".provenance.json").is_file()
    profile = find_profile(path.parent.name.split("-")[0])
    assert (table.profile == profile.name).all()
    number = int(path.stem.removeprefix("table"))
    by_name = {row.name: row for row in table_rows(number)}
    assert set(table.method) == set(by_name)
    for line in table.itertuples():
        assert line.metric in METRICS[number]
        assert line.paper == by_name[line.method].paper.get(line.metric) or np.isnan(line.paper)
        assert np.isnan(line.paper) == (line.metric not in by_name[line.method].paper)
        assert line.source in ("ran", "quoted")
        assert (line.source == "ran") == (not pd.isna(line.ours)) == (not pd.isna(line.seeds))
        if line.source == "ran":
            assert 0 <= line.ours <= 100
            assert line.params > 0
            assert line.gflops > 0
            assert line.train_seconds > 0


def test_the_smoke_run_filled_every_row():
    folder = REPOSITORY / "results" / SMOKE.name
    if not folder.is_dir():
        pytest.skip("no smoke results here; ./run_all.sh smoke writes them (./run_tests.sh runs it first)")
    for number in TABLES:
        table = pd.read_csv(folder / f"table{number}.csv")
        ours = table[table.method.isin([row.name for row in table_rows(number) if row.experiment])]
        assert (ours.source == "ran").all()
        assert ours.ours.notna().all()
        assert len(ours) >= 4


def test_what_is_annotated_nowhere_is_nan_in_the_table_and_neither_0_nor_100(fake_run, source, tiny_profile):
    """A row was run, and its score has no value: an empty cell that is told from a row that was not run."""
    for name in ("VGG16-FCN", "VGG16-FCN-MuLA"):
        fake_run(name, 0, None, 20.0)
    table = build_table(1, tiny_profile, source)
    found = row(table, "VGG16-FCN-MuLA", "PCK")
    assert found.source == "ran"
    assert pd.isna(found.ours)
    assert pd.isna(found.delta_vs_baseline)
    assert row(table, "VGG16-FCN-MuLA", "mIoU").ours == 20.0
    cells = table.to_csv(index=False).splitlines()[1 + table.index[(table.method == "VGG16-FCN-MuLA")][0]].split(",")
    assert cells[:4] == ["VGG16-FCN-MuLA", "PCK", "76.0", ""]
    assert "nan" not in side_by_side(table).to_string()


def test_a_data_set_without_joints_is_run_and_its_pose_scores_are_nan(source, tiny_profile, tmp_path):
    tree = shutil.copytree(source.root, tmp_path / "tree")
    for path in tree.rglob("*.csv"):
        rows = [line.split(",")[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name}{',nan' * 48}\n" for name in rows))
    run = Run(find_experiment("VGG16-FCN"), tiny_profile, open_source("fixture", path=tree), 0, base=tmp_path / "runs")
    result = do_run(run)
    assert result.trouble is None
    assert all(math.isnan(result.scores[name]) for name in ("PCK", "Head", "Wri.", "U.Body"))
    assert 0 < result.scores["mIoU"] < 100
