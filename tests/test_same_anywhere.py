"""The same seed gives the same table with any number of loading processes and threads, to the printed digits."""

import hashlib
from dataclasses import replace

import pytest
import torch

import workbook.results as results_module
from workbook.datasets import open_source
from workbook.experiments import SMOKE, find_experiment
from workbook.results import build_table
from workbook.runs import Run

ROWS = {2: ("HG-0s-1u-MuLA", "HG-2s-1u-MuLA"), 4: ("VGG16-FCN, own rate", "Attention+SSL"), 5: ("HG-2s-1u-MuLA",)}
USUAL = {"workers": 0, "threads": 1}
OTHERS = [{"workers": 0, "threads": 2}, {"workers": 1, "threads": 1}, {"workers": 4, "threads": 2}]
NOT_OF_THE_RESULT = ["train_seconds", "images_per_second", "seeds"]

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores: on purpose


def found(base, monkeypatch, *, workers, threads, seed=0):
    """The CSVs of a few rows trained and tested with these settings, and a digest of every network's weights."""
    texts, digests = {}, {}
    monkeypatch.setattr(results_module, "Run", lambda *given: Run(*given, base=base))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for table, names in ROWS.items():
            source = open_source("crowd-fixture" if table == 5 else "fixture")
            profile = SMOKE.for_crowds() if table == 5 else SMOKE
            profile = replace(profile, name="same", vgg_width=8, hourglass_width=8)
            for name in names:
                result = Run(find_experiment(name), profile, source, seed, base=base).do(workers=workers)
                weights = b"".join(value.numpy().tobytes() for value in result.model().state_dict().values())
                digests[table, name] = hashlib.sha256(weights).hexdigest()
            table_of_all = build_table(table, profile, source, (seed,))
            assert (table_of_all["source"] == "ran").sum() >= len(names)
            texts[table] = table_of_all.drop(columns=NOT_OF_THE_RESULT).to_csv(index=False)
    finally:
        torch.set_num_threads(before)
    return texts, digests


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return found(tmp_path_factory.mktemp("usual"), monkeypatch, **USUAL)


@pytest.mark.parametrize("setting", OTHERS, ids=str)
def test_tables_and_weights_do_not_depend_on_loading_processes_or_threads(usual, setting, tmp_path, monkeypatch):
    texts, digests = found(tmp_path, monkeypatch, **setting)
    assert texts == usual[0]
    assert digests == usual[1]


def test_another_seed_is_noticed(usual, tmp_path, monkeypatch):
    texts, digests = found(tmp_path, monkeypatch, **USUAL, seed=1)
    assert texts[2] != usual[0][2]  # in the other two such small networks see nothing but background
    assert not set(digests.values()) & set(usual[1].values())
