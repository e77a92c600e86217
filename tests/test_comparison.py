"""Tables for the eye, and images chosen by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mula_lib.anatomy import LIP
from mula_lib.evaluation import Evaluation
from workbook.comparison import image_scores, side_by_side, systems_side_by_side, telling_images

PARTS, JOINTS = len(LIP.parts), len(LIP.joints)


def lines(ours: float | None, delta: float | None) -> pd.DataFrame:
    one = {
        "method": "VGG16-FCN-MuLA", "metric": "PCK", "paper": 76.0, "ours": ours, "paper_delta_vs_baseline": 6.9,
        "delta_vs_baseline": delta, "dataset": "fixture", "profile": "smoke",
    }  # fmt: skip
    return pd.DataFrame([one])


def test_our_column_names_profile_and_data() -> None:
    shown = side_by_side(lines(12.34, -1.0))
    assert list(shown.columns) == [
        ("PCK", "paper (LIP)"), ("PCK", "ours (smoke, fixture)"), ("PCK", "paper Δ"), ("PCK", "ours Δ"),
    ]  # fmt: skip
    assert shown.loc["VGG16-FCN-MuLA"].tolist() == ["76.0", "12.3", "+6.9", "-1.0"]


def test_a_row_that_was_not_run_has_dashes_beside_the_papers_number() -> None:
    assert side_by_side(lines(None, None)).iloc[0].tolist() == ["76.0", "–", "+6.9", "–"]


def test_a_difference_of_nothing_has_no_minus_sign() -> None:
    assert side_by_side(lines(10.0, -0.04)).iloc[0, 3] == "+0.0"


def system_lines() -> pd.DataFrame:
    one = {"dataset": "fixture", "profile": "smoke", "params": 1234567, "gflops": 0.5, "train_seconds": 99.6}
    quoted = {"dataset": "fixture", "profile": "smoke", "params": None, "gflops": None, "train_seconds": None}
    return pd.DataFrame(
        [
            {"method": "Chou et al. [7]", "metric": "PCK", "paper": 87.4, "ours": 40.04, **one},
            {"method": "Chou et al. [7]", "metric": "Head", "paper": None, "ours": 70.0, **one},
            {"method": "BUPTMM-POSE", "metric": "PCK", "paper": 80.2, "ours": None, **quoted},
        ]
    )


def test_systems_stand_with_all_their_scores_and_costs() -> None:
    shown = systems_side_by_side(system_lines())
    ours = "ours (smoke, fixture)"
    assert list(shown.columns) == [
        ("paper (LIP)", "PCK"), (ours, "PCK"), (ours, "Head"),
        ("cost", "parameters"), ("cost", "GFLOPs"), ("cost", "train s"),
    ]  # fmt: skip
    assert shown.loc["Chou et al. [7]"].tolist() == ["87.4", "40.0", "70.0", "1,234,567", "0.500", "100"]
    assert shown.loc["BUPTMM-POSE"].tolist() == ["80.2", "–", "–", "–", "–", "–"]


def test_an_image_is_scored_by_the_metrics_that_are_asked_for() -> None:
    confusion = np.zeros((1, PARTS, PARTS), dtype=np.int64)
    confusion[0, 0, 0] = confusion[0, 2, 2] = 5
    evaluation = Evaluation(("a",), confusion, np.zeros((1, JOINTS)))
    assert image_scores(evaluation, LIP).tolist() == [50]
    assert image_scores(evaluation, LIP, ["mIoU"]).tolist() == [100]
    assert image_scores(evaluation, LIP, ["PCK"]).tolist() == [0]


def test_the_score_of_an_image_is_its_own_whatever_the_others_are() -> None:
    right, wrong = np.zeros((2, PARTS, PARTS), dtype=np.int64)
    right[0, 0] = right[2, 2] = 5
    wrong[0, 2] = wrong[2, 0] = 5
    hits = np.stack([np.ones(JOINTS), np.zeros(JOINTS), np.full(JOINTS, np.nan)])
    scores = image_scores(Evaluation(("a", "b", "c"), np.stack([right, wrong, right]), hits), LIP)
    assert scores[:2].tolist() == pytest.approx([100, 0])
    assert np.isnan(scores[2])


def test_the_images_to_look_at_are_the_best_the_median_and_the_worst() -> None:
    gains = pd.Series({"a": 1.0, "b": -7.0, "c": 9.0, "d": 0.0, "e": 2.0})
    assert telling_images(gains) == {"largest gain": "c", "median": "a", "largest loss": "b"}


def test_one_image_is_enough() -> None:
    assert set(telling_images(pd.Series({"only": 0.0})).values()) == {"only"}
