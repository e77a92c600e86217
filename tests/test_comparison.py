"""Runs compared image by image; images chosen by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbook.runs as runs_module
from mula_lib.anatomy import LIP
from mula_lib.evaluation import Evaluation
from workbook.inspection import changes, image_gains, image_scores, spread_images, telling_images

PARTS, JOINTS = len(LIP.parts), len(LIP.joints)


def test_the_score_of_an_image_is_its_own_by_the_metrics_that_are_asked_for() -> None:
    right, wrong = np.zeros((2, PARTS, PARTS), dtype=np.int64)
    right[0, 0] = right[2, 2] = 5
    wrong[0, 2] = wrong[2, 0] = 5
    hits = np.stack([np.ones(JOINTS), np.zeros(JOINTS), np.full(JOINTS, np.nan)])
    evaluation = Evaluation(("a", "b", "c"), np.stack([right, wrong, right]), hits)
    assert image_scores(evaluation, LIP)[:2].tolist() == pytest.approx([100, 0])
    assert np.isnan(image_scores(evaluation, LIP)["c"])
    assert image_scores(evaluation, LIP, ["mIoU"]).tolist() == pytest.approx([100, 0, 100])
    assert image_scores(evaluation, LIP, ["PCK"])[:2].tolist() == pytest.approx([100, 0])


def test_the_images_to_look_at_are_the_best_the_median_and_the_worst() -> None:
    gains = pd.Series({"a": 1.0, "b": -7.0, "c": 9.0, "d": 0.0, "e": 2.0})
    assert telling_images(gains) == {"largest gain": "c", "median": "a", "largest loss": "b"}
    assert set(telling_images(pd.Series({"only": 0.0})).values()) == {"only"}


def test_images_are_spread_from_gain_to_loss_and_none_comes_twice() -> None:
    gains = pd.Series(np.arange(12.0)[::-1], index=[f"i{n:02d}" for n in range(12)])
    assert spread_images(gains, 2) == {
        "largest gain": ["i00", "i01"], "median": ["i05", "i06"], "largest loss": ["i10", "i11"],
    }  # fmt: skip
    few = spread_images(gains[:4], 3)
    assert sorted(name for names in few.values() for name in names) == ["i00", "i01", "i03"]


def test_what_changed_on_an_image_is_what_its_counts_say(make_run, source, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(runs_module, "WEIGHTS", tmp_path)
    before, after = (make_run(name).do() for name in ("VGG16-FCN", "VGG16-FCN-MuLA"))
    name = before.evaluation().names[0]
    (change,) = changes(source, [name], before, after)
    hits = [run.evaluation().hits[0] for run in (before, after)]
    assert change.corrected.tolist() == [(a, b) == (0, 1) for a, b in zip(*hits, strict=True)]
    assert not (change.corrected & change.lost).any()
    gains = image_gains([after], [before], ["mIoU"])
    assert list(gains.index) == list(before.evaluation().names)
