"""The images that a comparison shows, shipped networks on other data, and the checks of exercises."""

import numpy as np
import pandas as pd
import pytest

from mula_lib.files import CheckpointError
from workbook.comparison import changes, spread_images
from workbook.experiments import find_experiment
from workbook.runs import shipped_result


def test_images_are_spread_from_gain_to_loss_and_none_comes_twice():
    gains = pd.Series(np.arange(12.0)[::-1], index=[f"i{n:02d}" for n in range(12)])
    assert spread_images(gains, 2) == {
        "largest gain": ["i00", "i01"], "median": ["i05", "i06"], "largest loss": ["i10", "i11"],
    }  # fmt: skip
    few = spread_images(gains[:4], 3)
    assert sorted(name for names in few.values() for name in names) == ["i00", "i01", "i03"]


def test_shipped_networks_are_tested_on_other_data_without_training(source, tmp_path, monkeypatch):
    monkeypatch.setattr("workbook.runs.RUNS", tmp_path)
    before, after = (shipped_result(find_experiment(name), source) for name in ("VGG16-FCN", "VGG16-FCN-MuLA"))
    assert before.run.profile.name == "demo"
    assert 0 < before.scores["mIoU"] < 100
    assert not list(tmp_path.rglob("last.ckpt"))
    name = before.evaluation().names[0]
    (change,) = changes(source, [name], before, after)
    hits = [result.evaluation().hits[0] for result in (before, after)]
    assert change.corrected.tolist() == [(a, b) == (0, 1) for a, b in zip(*hits, strict=True)]
    assert not (change.corrected & change.lost).any()
    with pytest.raises(CheckpointError, match="no such weights"):
        shipped_result(find_experiment("HG-5×1u"), source)
